"""Requantization in integers, against exact fractions."""

from __future__ import annotations

import math
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from qsdk import Scheme
from qsdk.errors import SchemeError
from qsdk.fixed_point import (
    clip_codes,
    fixed_multiplier,
    requantize,
    requantize_rows,
    requantize_twice,
)

HALF = Fraction(1, 2)
LARGEST = float(np.nextafter(2.0**30, 0))
MULTIPLIERS = st.one_of(
    st.floats(0, LARGEST),
    st.floats(2.0**-40, 2.0),
    st.integers(-60, 29).map(lambda power: 2.0**power),
    st.integers(-40, 20).map(lambda power: float(np.nextafter(2.0**power, 0))),
)
ACCUMULATORS = st.one_of(
    st.integers(-(2**31), 2**31 - 1), st.sampled_from([0, 1, -1, 3, -3, 2**31 - 1, -(2**31)])
)


def exact(mantissa, shift) -> Fraction:
    return Fraction(int(mantissa)) * Fraction(2) ** (int(shift) - 31)


@given(MULTIPLIERS)
@example(0.0)
@example(LARGEST)
@example(float(np.nextafter(1.0, 0)))  # its mantissa rounds up to 2**31, which is too many bits
def test_the_mantissa_has_31_bits_and_is_the_nearest(multiplier):
    mantissa, shift = fixed_multiplier(multiplier)
    assert mantissa.dtype == shift.dtype == np.int32
    if multiplier == 0:
        assert mantissa == 0
        return
    assert 2**30 <= int(mantissa) < 2**31
    error = abs(exact(mantissa, shift) - Fraction(multiplier))
    assert error <= Fraction(multiplier) * Fraction(1, 2**31)


@pytest.mark.parametrize("multiplier", [-1.0, -1e-300, 2.0**30, np.inf, -np.inf, np.nan])
def test_other_multipliers_are_refused_with_their_value(multiplier):
    with pytest.raises(SchemeError, match=f"multiplier of {multiplier}; it must be from 0"):
        fixed_multiplier([0.5, multiplier])


@given(ACCUMULATORS, MULTIPLIERS)
@example(3, 0.5)
@example(-3, 0.5)
@example(2**31 - 1, LARGEST)
@example(-(2**31), LARGEST)
@example(-(2**31), 2.0**-60)
def test_one_rounding_is_the_nearest_with_ties_upward(accumulator, multiplier):
    mantissa, shift = fixed_multiplier(multiplier)
    product = accumulator * exact(mantissa, shift)
    found = int(requantize(np.int32([accumulator]), mantissa, shift)[0])
    assert found == math.floor(product + HALF)


def double_rounding(accumulator: int, mantissa: int, shift: int) -> int:
    """gemmlowp: a saturating left shift, a rounding high half, then a rounding right shift."""
    wide = min(max(accumulator << max(shift, 0), -(2**31)), 2**31 - 1)
    scaled = Fraction(wide * mantissa, 2**31)
    high = math.floor(scaled + HALF) if scaled >= 0 else -math.floor(-scaled + HALF)
    if scaled < 0 and (-scaled - HALF).denominator == 1:
        high += 1  # the nudge of the first rounding takes its ties upward
    rest = Fraction(high, 2 ** max(-shift, 0))
    return math.floor(abs(rest) + HALF) * (1 if rest >= 0 else -1)


@given(ACCUMULATORS, st.floats(2.0**-20, 2.0**10))
@example(-3, 0.5)
@example(5, 2.0**-2)
@example(-5, 2.0**-2)
def test_two_roundings_are_those_of_gemmlowp(accumulator, multiplier):
    mantissa, shift = fixed_multiplier(multiplier)
    found = int(requantize_twice(np.int32([accumulator]), mantissa, shift)[0])
    assert found == double_rounding(accumulator, int(mantissa), int(shift))


def test_a_multiplier_for_each_channel_broadcasts():
    accumulator = np.arange(-6, 6, dtype=np.int32).reshape(4, 3)
    mantissa, shift = fixed_multiplier([0.5, 1.0, 2.0**-3])
    codes = requantize(accumulator, mantissa, shift)
    assert codes.dtype == np.int64
    assert codes[:, 1].tolist() == accumulator[:, 1].tolist()
    assert codes[:, 0].tolist() == [-3, -1, 0, 2]


CLIPS = [
    ((-np.inf, np.inf), (-128, 127)),
    ((0.0, np.inf), (5, 127)),
    ((-np.inf, 0.0), (-128, 5)),
    ((-1.0, 1.0), (1, 9)),
    ((0.124, 0.126), (5, 6)),  # 0.496 and 0.504 steps
    ((np.inf, np.inf), (127, 127)),
    ((-np.inf, -np.inf), (-128, -128)),
    ((-1e300, 1e300), (-128, 127)),
]


@pytest.mark.parametrize(("clip", "expected"), CLIPS)
def test_clips_become_codes(clip, expected):
    assert clip_codes(clip, 0.25, 5, -128, 127) == expected
    assert all(type(code) is int for code in clip_codes(clip, 0.25, 5, -128, 127))


def test_a_clip_too_far_for_a_float_is_an_end_of_the_grid():
    assert clip_codes((-1e308, 1e308), 1e-30, 0, 0, 255) == (0, 255)


def test_requantized_rows_worked_by_hand(either):
    mantissa, shift = fixed_multiplier([0.5, 2.0])
    codes = requantize_rows(np.int32([[3, -3], [100, -9]]), mantissa, shift, 1, Scheme())
    assert codes.dtype == np.int8
    assert codes.tolist() == [[3, 0], [127, -17]]  # 1.5 + 1, -1.5 + 1: halves upward


@pytest.mark.parametrize("signed", [True, False])
def test_c_and_numpy_requantize_to_the_same_codes(native, monkeypatch, signed):
    rng = np.random.default_rng(9)
    sums = rng.integers(-(2**31), 2**31, (200, 999), np.int64).astype(np.int32)
    multiplier = fixed_multiplier([0, *np.exp2(rng.uniform(-70, 29, 199))])
    arguments = (sums[:, ::3], *multiplier, 7, Scheme(signed=signed))
    here = requantize_rows(*arguments)
    monkeypatch.setenv("QSDK_DISABLE_NATIVE", "1")
    there = requantize_rows(*arguments)
    assert here.dtype == there.dtype
    assert np.array_equal(here, there)
