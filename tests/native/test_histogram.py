"""The histogram in C, which reads a stream once, against numpy on doubles."""

from __future__ import annotations

import numpy as np
import pytest
from array_oracles import needs_c

from qsdk import native
from qsdk.errors import NativeError

pytestmark = [needs_c, pytest.mark.usefixtures("instruction_set")]


NOTHING = np.iinfo(np.int32).min  # the exponent before anything but zeros was seen


class Counted:
    """Counts of nothing, that values are added to."""

    def __init__(self, bins):
        self._arrays = np.zeros(2 * bins, np.int64), np.int32([NOTHING]), np.int64([0])

    def add(self, values):
        return native.Counter(*self._arrays).add(values)

    @property
    def found(self):
        counts, exponent, zeros = self._arrays
        return int(exponent[0]), int(zeros[0]), counts


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
    whole, pieces = Counted(bins), Counted(bins)
    assert whole.add(values) == (values.min(), values.max())
    for part in (values[: count // 3], values[count // 3 :]):
        pieces.add(part)
    for counted in (whole, pieces):
        np.testing.assert_equal(counted.found, expected(values, bins))


@pytest.mark.parametrize("size", [1e-45, 1.2e-38, 3e38])
def test_ranges_at_the_ends_of_float32(size):
    values = np.float32([0, size, -size, size / 2, -size / 2] * 20)
    counted = Counted(16)
    counted.add(values)
    np.testing.assert_equal(counted.found, expected(values, 16))


def test_zeros_alone_have_no_range():
    counted = Counted(8)
    assert counted.add(np.float32([0, -0.0] * 40)) == (0, 0)
    np.testing.assert_equal(counted.found, (NOTHING, 80, np.zeros(16)))


def test_no_values_change_nothing():
    counted = Counted(8)
    assert counted.add(np.zeros(0, np.float32)) == (np.inf, -np.inf)
    np.testing.assert_equal(counted.found, (NOTHING, 0, np.zeros(16)))


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("at", [0, 8191, 8192, 19_999])
def test_a_value_that_is_not_finite_is_seen_wherever_it_stands_and_changes_nothing(value, at):
    values = np.ones(20_000, np.float32)
    counted = Counted(64)
    counted.add(values[:3])
    values[at], values[at - 1] = value, 8
    assert counted.add(values) is None
    np.testing.assert_equal(counted.found, expected(np.ones(3, np.float32), 64))


def test_bins_that_c_cannot_count_in_are_refused():
    for bins in (0, 1, 3, 2 * native.MOST_BINS):
        with pytest.raises(NativeError, match=f"bins is {bins}; give a power of two from 2 to"):
            Counted(bins).add(np.ones(3, np.float32))
