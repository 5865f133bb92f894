"""The histogram in C, which reads a stream once, against numpy on doubles."""

from __future__ import annotations

import numpy as np
import pytest
from array_oracles import needs_c

from qsdk import native
from qsdk.errors import NativeError

pytestmark = [needs_c, pytest.mark.usefixtures("instruction_set")]


def expected(values, bins):
    """Exponent, zeros and counts: a product of a double with a power of two is exact."""
    exponent = int(np.frexp(np.abs(values).max())[1])
    some = values[values != 0].astype(np.float64)
    places = np.floor(np.ldexp(some, -exponent) * bins).astype(np.int64) + bins
    return exponent, int((values == 0).sum()), np.bincount(places, minlength=2 * bins)


@pytest.mark.parametrize("bins", [2, 64, 4096])
@pytest.mark.parametrize("growth", [0, 3, 40])
@pytest.mark.parametrize("count", [1, 31, 33, 8191, 8192, 8193, 50_000])
def test_counts_are_those_of_the_last_range_however_often_it_doubles(count, growth, bins):
    rng = np.random.default_rng(count + growth)
    sizes = np.exp2(np.linspace(-growth, 0, count))
    values = (rng.standard_normal(count) * sizes).astype(np.float32)
    values[rng.random(count) < 0.1] = 0
    values[-1] = -0.75
    found = native.histogram(values, bins)
    exponent, zeros, counts = expected(values, bins)
    assert (found.exponent, found.zeros) == (exponent, zeros)
    assert np.array_equal(found.counts, counts)
    assert (found.low, found.high) == (values.min(), values.max())


@pytest.mark.parametrize("size", [1e-45, 1.2e-38, 3e38])
def test_ranges_at_the_ends_of_float32(size):
    values = np.float32([0, size, -size, size / 2, -size / 2] * 20)
    found = native.histogram(values, 16)
    exponent, zeros, counts = expected(values, 16)
    assert (found.exponent, found.zeros) == (exponent, zeros)
    assert np.array_equal(found.counts, counts)


def test_zeros_alone_have_no_range():
    found = native.histogram(np.float32([0, -0.0] * 40), 8)
    assert (found.low, found.high, found.exponent, found.zeros) == (0, 0, None, 80)
    assert not found.counts.any()


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("at", [0, 8191, 8192, 19_999])
def test_a_value_that_is_not_finite_is_seen_wherever_it_stands(value, at):
    values = np.ones(20_000, np.float32)
    values[at] = value
    assert native.histogram(values, 64) is None


def test_bins_that_c_cannot_count_in_are_refused():
    for bins in (0, 1, 3, 2 * native.MOST_BINS):
        with pytest.raises(NativeError, match=f"bins is {bins}; give a power of two from 2 to"):
            native.histogram(np.ones(3, np.float32), bins)
