"""Range rules, each against a slow search in Python."""

from __future__ import annotations

import math
from fractions import Fraction

import numpy as np
import oracles
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from qsdk import Scheme, scale_and_zero_point
from qsdk.affine import squared_error_rows
from qsdk.errors import OptionError
from qsdk.ranges import RANGE_RULES, SHRINK, aciq_factor, find_range

rows_of_floats = hnp.arrays(
    np.float32,
    hnp.array_shapes(min_dims=2, max_dims=2, max_side=12),
    elements=st.floats(-100, 100, width=32),
)
AFFINE, SYMMETRIC = Scheme(bits=3), Scheme(bits=3, symmetric=True)
SKEWED = np.random.default_rng(0).standard_t(2, (6, 60)).astype(np.float32)


@pytest.mark.parametrize("rule", RANGE_RULES)
@given(rows=rows_of_floats)
def test_every_range_contains_zero_and_lies_within_the_magnitude(rule, rows):
    low, high = find_range(rows, AFFINE, rule)
    magnitude = np.abs(rows).max(axis=1)
    assert low.shape == high.shape == (len(rows),)
    assert (low <= 0).all() and (high >= 0).all()
    assert (-low <= magnitude).all() and (high <= magnitude).all()


@given(rows=rows_of_floats)
def test_minmax_is_from_the_lowest_to_the_highest_value_or_zero(rows):
    low, high = find_range(rows, AFFINE, "minmax")
    assert low.tolist() == [min([0.0, *row]) for row in rows.tolist()]
    assert high.tolist() == [max([0.0, *row]) for row in rows.tolist()]


@given(rows=rows_of_floats)
def test_absmax_is_plus_and_minus_the_largest_magnitude(rows):
    low, high = find_range(rows, AFFINE, "absmax")
    assert high.tolist() == [max(map(abs, row)) for row in rows.tolist()]
    assert np.array_equal(low, -high)


@given(rows=rows_of_floats, keep=st.sampled_from([50.1, 75.0, 90.0, 99.0, 99.9, 100.0]))
def test_percentile_leaves_out_at_most_what_it_says_at_each_end(rows, keep):
    low, high = find_range(rows, AFFINE, "percentile", keep)
    for row, a, b in zip(rows.tolist(), low.tolist(), high.tolist(), strict=True):
        ordered = sorted(row)
        allowed = math.floor(len(row) * (1 - Fraction(str(keep)) / 100))
        drop = min(allowed, (len(row) - 1) // 2)
        assert a == min(0.0, ordered[drop]) and b == max(0.0, ordered[-1 - drop])


def search(row, scheme):
    """The shrunken range of least error: ends searched in turn, the wider of equals."""
    low, high = min(0.0, *row.tolist()), max(0.0, *row.tolist())
    factors = [np.float32(f) for f in SHRINK]

    def error(a, b):
        a, b = np.float32(a), np.float32(b)
        scale, zero = oracles.grid(a, b, scheme.qmin, scheme.qmax, scheme.symmetric)
        return oracles.squared_error(row, scale, zero, scheme.qmin, scheme.qmax) * scale**2

    if scheme.symmetric:
        most = np.float32(max(-low, high))
        best = min(factors, key=lambda f: error(-most * f, most * f))
        return -most * best, most * best
    low, high = np.float32(low), np.float32(high)
    f_low = f_high = np.float32(1)
    for _ in range(2):
        f_low = min(factors, key=lambda f: error(low * f, high * f_high))
        f_high = min(factors, key=lambda f: error(low * f_low, high * f))
    return low * f_low, high * f_high


@pytest.mark.parametrize("scheme", [AFFINE, SYMMETRIC], ids=["affine", "symmetric"])
def test_mse_equals_a_search_in_exact_fractions(either, scheme):
    rows = SKEWED[:3, :12]
    low, high = find_range(rows, scheme, "mse")
    expected = [search(row, scheme) for row in rows]
    assert list(zip(low.tolist(), high.tolist(), strict=True)) == expected


@pytest.mark.parametrize("seed", [25, 28])
def test_mse_searches_each_end_again_once_the_other_has_moved(either, seed):
    row = np.random.default_rng(seed).standard_t(2, (1, 12)).astype(np.float32)
    low, high = find_range(row, AFFINE, "mse")  # here one pass ends elsewhere
    assert (low[0], high[0]) == search(row[0], AFFINE)


def true_error(rows, ends, scheme):
    """Squared error of each row in double precision."""
    scale, zero_point = scale_and_zero_point(*ends, scheme)
    total = []
    for row, s, z in zip(rows, scale, zero_point, strict=True):
        codes = [oracles.code(v, s, z, scheme.qmin, scheme.qmax) for v in row]
        total.append(sum((float(s) * (c - z) - v) ** 2 for c, v in zip(codes, row, strict=True)))
    return np.array(total)


@pytest.mark.parametrize("bits", [2, 3, 4, 8])
@pytest.mark.parametrize("symmetric", [False, True])
def test_mse_is_never_worse_than_minmax(bits, symmetric):
    scheme = Scheme(bits=bits, symmetric=symmetric)
    ends = {rule: find_range(SKEWED, scheme, rule) for rule in ("mse", "minmax")}
    counted = {
        rule: squared_error_rows(SKEWED, *(grid := scale_and_zero_point(*e, scheme)), scheme)
        * np.square(grid[0], dtype=float)
        for rule, e in ends.items()
    }
    assert (counted["mse"] <= counted["minmax"]).all()
    # Errors are counted in 1/1024 of a step.
    real = {rule: true_error(SKEWED, e, scheme) for rule, e in ends.items()}
    assert (real["mse"] <= real["minmax"] * 1.01).all()


def test_mse_cuts_off_an_outlier():
    row = np.append(np.random.default_rng(1).standard_normal(5000), 30).astype(np.float32)
    _, high = find_range(row[None], Scheme(bits=4), "mse")
    assert high[0] < 15


def test_mse_takes_the_wider_of_equal_ranges(either):
    low, high = find_range(np.zeros((1, 4), np.float32), AFFINE, "mse")
    assert (low.tolist(), high.tolist()) == ([0], [0])
    # -4 is code -1 of scale 4, and code -2 of scale 2: no error either way
    low, high = find_range(np.float32([[-4]]), Scheme(bits=2, symmetric=True), "mse")
    assert (low.tolist(), high.tolist()) == ([-4], [4])
    ends = find_range(np.float32([[-1, 0, 1, 2, 3, 4, 5, 6]]), AFFINE, "mse")
    assert [end.tolist() for end in ends] == [[-1], [6]]  # min-max has no error at all


@pytest.mark.parametrize("rule", RANGE_RULES)
def test_rules_decide_alike_with_and_without_native(rule, native, monkeypatch):
    rng = np.random.default_rng(2)
    rows = rng.standard_t(3, (50, 90)).astype(np.float32)
    rows[::3] = np.rint(rows[::3] * 4) / 4
    for scheme in (AFFINE, SYMMETRIC, Scheme(bits=8, signed=False), Scheme(bits=1)):
        in_c = find_range(rows, scheme, rule)
        with monkeypatch.context() as patch:
            patch.setenv("QSDK_DISABLE_NATIVE", "1")
            in_numpy = find_range(rows, scheme, rule)
        assert all(np.array_equal(a, b) for a, b in zip(in_c, in_numpy, strict=True))


@pytest.mark.parametrize("rule", RANGE_RULES)
def test_rules_take_each_row_by_itself(rule):
    whole = find_range(SKEWED, AFFINE, rule)
    for i in range(len(SKEWED)):
        part = find_range(SKEWED[i : i + 1], AFFINE, rule)
        assert all(a[i] == b[0] for a, b in zip(whole, part, strict=True))


@pytest.mark.parametrize("rule", RANGE_RULES)
def test_rules_leave_their_rows_unchanged(rule):
    rows = SKEWED.copy()
    rows.flags.writeable = False
    find_range(rows, AFFINE, rule)
    assert np.array_equal(rows, SKEWED)


def test_an_unknown_rule_is_refused_with_the_nearest():
    with pytest.raises(OptionError, match="no range rule 'minmx'; did you mean 'minmax'"):
        find_range(SKEWED, AFFINE, "minmx")


# -- aciq

LAPLACE = [1.863, 2.831, 3.897, 5.029, 6.205, 7.413, 8.646, 9.897]
GAUSS = [1.240, 1.711, 2.152, 2.559, 2.936, 3.287, 3.615, 3.924]


def test_aciq_factors_are_those_of_the_published_table():
    for kind, table in (("laplace", LAPLACE), ("gauss", GAUSS)):
        found = [aciq_factor(kind, bits) for bits in range(1, 9)]
        assert found == pytest.approx(table, abs=1e-3)


@pytest.mark.parametrize("bits", [2, 3, 4])
@pytest.mark.parametrize("kind", ["laplace", "normal"])
def test_aciq_has_less_error_than_the_whole_range(kind, bits):
    rows = getattr(np.random.default_rng(0), kind)(size=(20, 2000)).astype(np.float32)
    scheme = Scheme(bits=bits, symmetric=True)
    errors = []
    for rule in ("absmax", "aciq"):
        scale, zero_point = scale_and_zero_point(*find_range(rows, scheme, rule), scheme)
        errors.append(np.square(scale, dtype=float)
                      * squared_error_rows(rows, scale, zero_point, scheme))  # fmt: skip
    assert (errors[1] < errors[0]).all()


def test_aciq_tells_laplace_from_gauss_and_follows_the_mean():
    rng = np.random.default_rng(1)
    for kind, bits, factor in (("laplace", 4, LAPLACE[3]), ("normal", 3, GAUSS[2])):
        rows = getattr(rng, kind)(0.5, 1, size=(4, 20000)).astype(np.float32)
        low, high = find_range(rows, Scheme(bits=bits), "aciq")
        assert low == pytest.approx(0.5 - factor, abs=0.15)
        assert high == pytest.approx(0.5 + factor, abs=0.15)


def test_aciq_is_never_wider_than_the_row():
    for row in ([[1, 2, 3]], [[-4, -4, 0]], [[0, 0, 0]], [[7]]):
        rows = np.float32(row)
        low, high = find_range(rows, AFFINE, "aciq")
        assert min(rows.min(), 0) <= low[0] <= 0 <= high[0] <= max(rows.max(), 0)
