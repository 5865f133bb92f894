"""SQuant in C, against the words of the header."""

from __future__ import annotations

import numpy as np
import pytest
from array_oracles import (
    GRIDS,
    needs_c,
    on_every_grid,
    on_every_kind,
    rows_of,
    squant_oracle,
    with_stages,
)
from hypothesis import given
from hypothesis import strategies as st

from qsdk import native

pytestmark = [needs_c, pytest.mark.usefixtures("instruction_set")]


@with_stages
@on_every_kind
@pytest.mark.parametrize("kernel_size", [1, 3, 9, 25, 49, 300])
def test_squant_equals_the_words_of_the_header(kernel_size, kind, stages):
    for seed, grid in enumerate(GRIDS):
        kernels = 1 + (40 + 60 * (seed % 2)) // kernel_size
        rows, scale, zero_point = rows_of(kind, (2, kernels * kernel_size), *grid, seed)
        codes = native.squant(rows, kernel_size, scale, zero_point, *grid, **stages)
        expected = squant_oracle(rows, kernel_size, scale, zero_point, *grid, **stages)
        assert codes.dtype == (np.int8 if grid[0] < 0 else np.uint8)
        assert codes.tolist() == expected


@given(
    quarters=st.lists(st.integers(-34, 30), min_size=1, max_size=60),
    kernel_size=st.integers(1, 12),
    zero_point=st.integers(-8, 7),
    stages=st.fixed_dictionaries({"stage_k": st.booleans(), "stage_c": st.booleans()}),
)
def test_squant_breaks_ties_as_the_header_says(quarters, kernel_size, zero_point, stages):
    quarters = quarters[: len(quarters) // kernel_size * kernel_size]
    rows = np.float32([quarters]) / 4 - zero_point
    grid = (np.float32([1]), np.int32([zero_point]), -8, 7)
    codes = native.squant(rows, kernel_size, *grid, **stages)
    assert codes.tolist() == squant_oracle(rows, kernel_size, *grid, **stages)


@pytest.mark.parametrize("length", [16, 1000, 4099])
def test_of_equal_errors_the_first_move(length):
    rows = np.full((1, length), 1.25, np.float32)  # sum of errors: -length / 4
    codes = native.squant(
        rows, 1, np.float32([1]), np.int32([0]), -8, 7, stage_k=True, stage_c=True
    )
    raised = round(length / 4)
    assert codes.tolist() == [[2] * raised + [1] * (length - raised)]


def squant_of(kernels, **stages):
    """Codes on the grid -8..7 of one row of equal kernels, given in steps."""
    rows = np.float32(kernels).reshape(1, -1)
    one, zero = np.float32([1]), np.int32([0])
    codes = native.squant(rows, len(kernels[0]), one, zero, -8, 7, **stages)
    return codes.reshape(len(kernels), -1).tolist()


def test_one_kernel_worked_by_hand():
    # Errors -0.25 -0.375 -0.125 sum to -0.75: one code goes up, that of the largest error.
    assert squant_of([[1.25, 2.375, 3.125]], stage_k=True, stage_c=False) == [[1, 3, 3]]


def test_a_row_worked_by_hand():
    # Each kernel's errors sum to -0.375 and stay; those of the row to -1.125. So one code goes up,
    # the best of each kernel's best: -0.25 twice, of which the first.
    kernels = [[1.125, 1.25], [2.25, 2.125], [3.1875, 3.1875]]
    assert squant_of(kernels, stage_k=True, stage_c=True) == [[1, 2], [2, 2], [3, 3]]


def test_a_kernel_that_sums_to_zero_offers_its_last_move_back():
    # Kernels of four times -0.25: one goes up, the sum is 0, the code may come back down.
    # The last kernel, 0.5 down on two codes at the end of the grid, makes the row want that.
    kernels = [[1.25] * 4, [-9.0, -9.0, 0, 0]]
    assert squant_of(kernels, stage_k=True, stage_c=False) == [[2, 1, 1, 1], [-8, -8, 0, 0]]
    assert squant_of(kernels, stage_k=True, stage_c=True) == [[1, 1, 1, 1], [-8, -8, 0, 0]]


def test_a_far_value_moves_1024_others():
    rows = [[1e9] + [1 + 2**-20] * 3000]
    assert squant_of(np.transpose(rows), stage_k=False, stage_c=True) == (
        [[7]] + [[2]] * 1024 + [[1]] * 1976
    )


@on_every_grid
def test_stage_e_alone_is_round_to_nearest(grid):
    rows, scale, zero_point = rows_of("normal", (4, 90), *grid)
    arguments = (scale, zero_point, *grid)
    codes = native.squant(rows, 9, *arguments, stage_k=False, stage_c=False)
    assert codes.tolist() == native.quantize_rows(rows, *arguments).tolist()


def test_long_rows_and_many_kernels_equal_the_words_of_the_header():
    for shape, kernel_size in (((1, 5000), 1), ((1, 4500), 9), ((2, 3000), 1500)):
        rows, scale, zero_point = rows_of("normal", shape, -8, 7)
        arguments = (scale, zero_point, -8, 7, True, True)
        codes = native.squant(rows, kernel_size, *arguments[:-2], stage_k=True, stage_c=True)
        assert codes.tolist() == squant_oracle(rows, kernel_size, *arguments)


@with_stages
@pytest.mark.parametrize("shape", [(0, 0), (0, 9), (3, 0)])
def test_empty_arrays_give_empty_codes(shape, stages):
    rows, scale, zero_point = rows_of("zeros", shape, -8, 7)
    assert native.squant(rows, 9, scale, zero_point, -8, 7, **stages).shape == shape
    assert native.quantize_rows(rows, scale, zero_point, -8, 7).shape == shape
    assert native.squared_error_rows(rows, scale, zero_point, -8, 7).tolist() == [0] * shape[0]


@with_stages
def test_values_that_the_caller_should_have_refused_do_no_harm(stages):
    rows, scale, zero_point = rows_of("normal", (4, 90), -8, 7)
    rows[0, ::3], rows[1, ::2], rows[2] = np.nan, np.inf, -np.inf
    scale[3] = 0
    for kernel_size in (1, 9, 45):
        arguments = (scale, zero_point, -8, 7)
        assert native.squant(rows, kernel_size, *arguments, **stages).shape == rows.shape
    assert native.quantize_rows(rows, *arguments).max() <= 7
    assert native.squared_error_rows(rows, *arguments).min() >= 0
