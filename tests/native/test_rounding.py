"""Rounding, its error and the range of rows in C, against exact integers."""

from __future__ import annotations

import numpy as np
import pytest
from array_oracles import (
    needs_c,
    on_every_grid,
    on_every_kind,
    quantize_oracle,
    rows_of,
    squared_error_oracle,
)

from qsdk import Scheme, native
from qsdk.affine import grid_rows, scale_and_zero_point

pytestmark = [needs_c, pytest.mark.usefixtures("instruction_set")]


def test_halves_round_to_even():
    rows = np.float32([[0.5, 1.5, 2.5, -0.5, -1.5, -2.5, -0.0]])
    codes = native.quantize_rows(rows, np.float32([1]), np.int32([0]), -8, 7)
    assert codes.tolist() == [[0, 2, 2, 0, -2, -2, 0]]


def test_the_zero_point_is_added_after_rounding():
    codes = native.quantize_rows(np.float32([[0.5, 1.5]]), np.float32([1]), np.int32([1]), -8, 7)
    assert codes.tolist() == [[1, 3]]


def test_values_outside_the_grid_take_its_ends():
    rows = np.float32([[-1e38, -8.6, 7.6, 1e38, -np.inf, np.inf]])
    codes = native.quantize_rows(rows, np.float32([1e-3]), np.int32([3]), -8, 7)
    assert codes.tolist() == [[-8, -8, 7, 7, -8, 7]]


def test_the_division_is_no_multiplication_by_a_reciprocal():
    halves = np.arange(1, 250, 2, dtype=np.float32)[None] * np.float32(1.5)
    rows = np.concatenate([halves, np.nextafter(halves, np.float32(0))], axis=1)
    scale, zero_point = np.float32([3]), np.int32([0])
    assert (np.rint(rows / scale) != np.rint(rows * (1 / scale))).any(), "the data cannot tell"
    expected = quantize_oracle(rows, scale, zero_point, 0, 255)
    codes = native.quantize_rows(rows, scale, zero_point, 0, 255)
    assert codes.tolist() == expected
    codes = native.squant(rows, 1, scale, zero_point, 0, 255, stage_k=False, stage_c=False)
    assert codes.tolist() == expected


@on_every_kind
@on_every_grid
def test_quantize_rows_equals_exact_rounding(grid, kind):
    for length in (0, 1, 15, 16, 17, 130):
        rows, scale, zero_point = rows_of(kind, (3, length), *grid)
        codes = native.quantize_rows(rows, scale, zero_point, *grid)
        assert codes.dtype == (np.int8 if grid[0] < 0 else np.uint8)
        assert codes.tolist() == quantize_oracle(rows, scale, zero_point, *grid)


@on_every_kind
@on_every_grid
def test_squared_error_rows_equals_exact_integers(grid, kind):
    for length in (0, 1, 15, 16, 17, 130):
        rows, scale, zero_point = rows_of(kind, (3, length), *grid)
        error = native.squared_error_rows(rows, scale, zero_point, *grid)
        assert error.tolist() == squared_error_oracle(rows, scale, zero_point, *grid)


def test_a_quarter_of_a_step_is_256_and_a_far_value_counts_as_1024_steps():
    one, zero = np.float32([1]), np.int32([0])
    rows = np.float32([[0.25, -3]])
    assert native.squared_error_rows(rows, one, zero, -8, 7).tolist() == [256**2]
    rows = np.float32([[1e9, -np.inf]])
    assert native.squared_error_rows(rows, one, zero, -8, 7).tolist() == [2 * 2**40]


@on_every_kind
@on_every_grid
def test_the_range_of_a_row_is_its_least_and_greatest_value(grid, kind):
    for length in (1, 7, 8, 15, 16, 17, 31, 32, 33, 63, 64, 65, 130):
        rows, _, _ = rows_of(kind, (3, length), *grid, seed=length)
        low, high, finite = native.range_rows(rows)
        assert finite
        assert low.tolist() == [min(row) for row in rows.tolist()]
        assert high.tolist() == [max(row) for row in rows.tolist()]


@pytest.mark.parametrize("length", [1, 16, 31, 64, 77, 130])
@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_a_value_that_is_not_finite_is_seen_wherever_it_stands(value, length):
    rows = np.ones((2, length), np.float32)
    for i in range(2 * length):
        rows.flat[i] = value
        assert not native.range_rows(rows)[2], i
        rows.flat[i] = 1
    assert native.range_rows(rows)[2]


def test_the_ends_of_a_range_are_never_minus_zero():
    low, high, _ = native.range_rows(np.full((1, 70), -0.0, np.float32))
    assert not np.signbit(low).any() and not np.signbit(high).any()


def test_rows_of_no_length_have_no_range():
    low, high, finite = native.range_rows(np.zeros((2, 0), np.float32))
    assert (low.tolist(), high.tolist(), finite) == ([np.inf] * 2, [-np.inf] * 2, True)


@pytest.mark.parametrize("symmetric", [False, True])
@pytest.mark.parametrize("bits", range(1, 9))
def test_grids_of_rows_equal_those_of_numpy_to_the_bit(bits, symmetric):
    if symmetric and bits == 1:
        pytest.skip("1 bit has no symmetric affine grid")
    rng = np.random.default_rng(bits)
    size = np.float32(2.0) ** rng.integers(-149, 125, 5000).astype(np.float32)
    ends = np.sort(rng.standard_normal((2, 5000)).astype(np.float32) * size / 8, axis=0)
    extremes = np.float32([0, -0.0, 1e-45, 1.2e-38, 1, 3.4028235e38])
    low = np.append(ends[0], -np.repeat(extremes, 6))
    high = np.append(ends[1], np.tile(extremes, 6))
    for signed in (True, False) if not symmetric else (True,):
        scheme = Scheme(bits=bits, symmetric=symmetric, signed=signed)
        scale, zero_point = grid_rows(low, high, scheme)
        expected_scale, expected_zero = scale_and_zero_point(low, high, scheme)
        assert scale.tobytes() == expected_scale.tobytes()
        assert zero_point.tolist() == expected_zero.tolist()
