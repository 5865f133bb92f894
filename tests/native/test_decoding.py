"""Codes to floats, and sums of integers to codes, in C: against fractions, one value at a time."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest
from array_oracles import GRIDS, needs_c

from qsdk import native

pytestmark = [needs_c, pytest.mark.usefixtures("instruction_set")]

LENGTHS = (0, 1, 7, 8, 9, 31, 32, 33, 63, 64, 65, 130)
on_every_grid = pytest.mark.parametrize("grid", GRIDS, ids=str)


def codes_of(grid, shape, seed=0):
    """Codes, scales that are no powers of two, zero points anywhere on the grid."""
    rng = np.random.default_rng(seed)
    dtype = np.int8 if grid[0] < 0 else np.uint8
    codes = rng.integers(*grid, shape, endpoint=True).astype(dtype)
    scale = rng.uniform(1e-3, 3, shape[0]).astype(np.float32)
    return codes, scale, rng.integers(*grid, shape[0], dtype=np.int32, endpoint=True)


def decoded_oracle(codes, scale, zero_point):
    return [[float(np.float32(Fraction(float(s)) * (int(c) - int(z)))) for c in row]
            for row, s, z in zip(codes, scale, zero_point, strict=True)]  # fmt: skip


@on_every_grid
@pytest.mark.parametrize("length", LENGTHS)
def test_a_decoded_value_is_the_float_nearest_to_its_steps_times_the_scale(grid, length):
    codes, scale, zero_point = codes_of(grid, (3, length))
    values = native.dequantize_rows(codes, scale, zero_point)
    assert values.dtype == np.float32
    assert values.tolist() == decoded_oracle(codes, scale, zero_point)


@pytest.mark.parametrize("signed", [False, True], ids=["unsigned", "signed"])
@pytest.mark.parametrize("bits", range(1, 9))
@pytest.mark.parametrize("shape", [(0, 7), (3, 0), (1, 1), (700, 9), (5, 65), (3, 4096), (2, 9001)])
def test_packed_rows_decode_as_their_codes_do(shape, bits, signed):
    low = -(2 ** (bits - 1)) if signed else 0
    codes, scale, zero_point = codes_of((low, low + 2**bits - 1), shape)
    packed = native.pack(codes.ravel(), bits)
    values = native.decode_rows(packed, shape[1], bits, signed, scale, zero_point)
    assert values.shape == shape
    assert values.tobytes() == native.dequantize_rows(codes, scale, zero_point).tobytes()


@on_every_grid
@pytest.mark.parametrize("length", LENGTHS)
def test_requantized_sums_are_rounded_once_with_halves_upward(grid, length):
    rng = np.random.default_rng(length)
    ends = [-(2**31), 2**31 - 1, 0, 1, -1, 3, -3]
    sums = rng.integers(-(2**31), 2**31, (6, length)) >> rng.integers(0, 31, (6, length))
    sums = np.where(rng.random((6, length)) < 0.2, rng.choice(ends, (6, length)), sums)
    sums = sums.astype(np.int32)
    mantissa = np.int32([2**30, 2**31 - 1, 2**30 + 12345, 0, 2**30, 2**31 - 1])
    shift = np.int32([0, 30, -7, 0, -31, -32])  # halves; the largest; usual; 0; 2**-32; nothing
    zero_point = (grid[0] + grid[1]) // 2 + 1
    codes = native.requantize_rows(sums, mantissa, shift, zero_point, *grid)
    assert codes.dtype == (np.int8 if grid[0] < 0 else np.uint8)
    for row, m, s, found in zip(sums.tolist(), mantissa, shift, codes, strict=True):
        multiplier = Fraction(int(m)) * Fraction(2) ** (int(s) - 31) if s >= -31 else 0
        steps = [(x * multiplier + Fraction(1, 2)) // 1 + zero_point for x in row]
        assert found.tolist() == [min(max(step, grid[0]), grid[1]) for step in steps]
