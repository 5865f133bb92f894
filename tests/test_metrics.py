"""Metrics, against sums in exact fractions."""

from __future__ import annotations

import math
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from qsdk import metrics
from qsdk.errors import DataError

pairs = st.integers(1, 30).flatmap(
    lambda n: st.tuples(*[hnp.arrays(np.float32, n, elements=st.floats(-99, 99, width=32))] * 2)
)
CLOSE = 1e-9  # sums are of doubles, in another order than ours


def exact(array):
    return [Fraction(float(value)) for value in array]


@given(pair=pairs)
def test_mse_and_max_error_equal_exact_sums(pair):
    differences = [a - b for a, b in zip(*map(exact, pair), strict=True)]
    expected = sum(d * d for d in differences) / len(differences)
    assert metrics.mse(*pair) == pytest.approx(float(expected), rel=CLOSE)
    assert metrics.max_error(*pair) == float(max(map(abs, differences)))


@given(pair=pairs)
def test_sqnr_equals_exact_sums(pair):
    reference, other = map(exact, pair)
    noise = sum((a - b) ** 2 for a, b in zip(reference, other, strict=True))
    signal = sum(a * a for a in reference)
    given = metrics.sqnr_db(*pair)
    if noise == 0:
        assert given == math.inf
    elif signal == 0:
        assert given == -math.inf
    else:
        assert given == pytest.approx(10 * math.log10(signal / noise), abs=1e-6)


@given(pair=pairs)
def test_cosine_equals_exact_sums(pair):
    a, b = map(exact, pair)
    product = sum(x * y for x, y in zip(a, b, strict=True))
    lengths = math.sqrt(sum(x * x for x in a)) * math.sqrt(sum(y * y for y in b))
    expected = float(any(a) == any(b)) if lengths == 0 else float(product) / lengths
    assert metrics.cosine(*pair) == pytest.approx(expected, abs=1e-6)
    assert -1 <= metrics.cosine(*pair) <= 1


def test_halving_the_error_adds_six_decibels():
    x = np.random.default_rng(0).standard_normal(1000)
    noise = np.random.default_rng(1).standard_normal(1000)
    once, half = (metrics.sqnr_db(x, x + noise * f) for f in (1e-3, 5e-4))
    assert half - once == pytest.approx(20 * math.log10(2), abs=1e-9)


@pytest.mark.parametrize("metric", [metrics.sqnr_db, metrics.mse, metrics.max_error])
def test_arrays_longer_than_a_chunk_are_summed_whole(metric):
    x = np.zeros(metrics.CHUNK * 2 + 5, np.float32)
    y = x.copy()
    x[0] = 1
    y[-1], y[0] = 2, 1
    expected = {"sqnr_db": 10 * math.log10(1 / 4), "mse": 4 / x.size, "max_error": 2}
    assert metric(x, y) == pytest.approx(expected[metric.__name__])


def test_empty_arrays_are_equal():
    empty = np.zeros((0, 3))
    assert metrics.sqnr_db(empty, empty) == math.inf
    assert metrics.mse(empty, empty) == metrics.max_error(empty, empty) == 0
    assert metrics.cosine(empty, empty) == metrics.agreement(empty, empty) == 1


@pytest.mark.parametrize("metric", ["sqnr_db", "mse", "max_error", "cosine", "agreement"])
def test_arrays_of_two_shapes_are_refused_with_both(metric):
    with pytest.raises(DataError, match=r"\(2, 3\).*\(3, 2\)"):
        getattr(metrics, metric)(np.zeros((2, 3)), np.zeros((3, 2)))


def test_agreement_counts_the_rows_whose_highest_value_is_at_one_place():
    a = np.eye(4)
    b = np.eye(4)[[0, 1, 3, 2]]
    assert metrics.agreement(a, b) == 0.5
    assert metrics.agreement(a, a * 7 - 3) == 1
