"""Every instruction set gives the bits of the portable code, on many inputs."""

from __future__ import annotations

import zlib

import numpy as np
import pytest
from array_oracles import GRIDS, KINDS, SETS, needs_c, rows_of, using

from qsdk import native
from qsdk.fixed_point import fixed_multiplier

pytestmark = needs_c
FASTER = [name for name in SETS if name != "portable"]
STAGES = [(True, True), (True, False), (False, True), (False, False)]


def outcome(length, kernel_size, seed):
    """What all functions give for rows of every kind and length: a checksum of each array."""
    rng = np.random.default_rng(seed)
    kind, grid = list(KINDS)[seed % len(KINDS)], GRIDS[rng.integers(len(GRIDS))]
    rows, scale, zero_point = rows_of(kind, (36 if length < 512 else 2, length), *grid, seed)
    arguments = (scale, zero_point, *grid)
    stage_k, stage_c = STAGES[rng.integers(len(STAGES)) if seed % 2 else 0]
    squant = native.squant(rows, kernel_size, *arguments, stage_k=stage_k, stage_c=stage_c)
    codes = native.quantize_rows(rows, *arguments)
    low, high, finite = native.range_rows(rows)
    packed = [native.pack_above(codes.ravel(), bits, grid[0]) for bits in range(1, 9)]
    arrays = [squant, codes, native.squared_error_rows(rows, *arguments), low, high]
    arrays.append(native.dequantize_rows(codes, scale, zero_point))
    sums = rng.integers(-(2**31), 2**31, rows.shape, np.int64).astype(np.int32)
    multiplier = fixed_multiplier(np.exp2(rng.uniform(-33, 2, len(rows))))
    arrays.append(native.requantize_rows(sums, *multiplier, int(zero_point[0]), *grid))
    for bits in range(1, 9):
        packed_codes = packed[bits - 1][0]
        for signed in (False, True):
            arrays.append(native.unpack(packed_codes, codes.size, bits, signed))
            decoded = (packed_codes, length, bits, signed, scale, zero_point)
            arrays.append(native.decode_rows(*decoded))
    digests = [zlib.crc32(a.tobytes()) for a in arrays]
    return digests, finite, [(zlib.crc32(p.tobytes()), reach) for p, reach in packed]


@pytest.mark.parametrize("name", FASTER)
def test_100_000_rows_of_0_to_511_values_give_the_same_bits(name):
    cases = [
        (length - length % kernel_size, kernel_size, 7 * length + kernel_size + shift)
        for length in range(512)
        for kernel_size in (1, 9, 1 + length % 64)
        for shift in (0, 1)
    ]
    assert 36 * len(cases) > 100_000
    with using("portable"):
        expected = [outcome(*case) for case in cases]
    with using(name):
        for case, right in zip(cases, expected, strict=True):
            assert outcome(*case) == right, case


@pytest.mark.parametrize("name", FASTER)
@pytest.mark.parametrize("shape", [(3, 40_000), (2, 70_001), (2, 9 * 3000), (1, 256 * 30)])
@pytest.mark.parametrize("kernel_size", [1, 9, 256, 257])
def test_long_rows_and_large_kernels_give_the_same_bits(name, shape, kernel_size):
    length = shape[1] - shape[1] % kernel_size
    for seed in range(2 * len(KINDS)):
        case = (length, kernel_size, seed)
        with using("portable"):
            expected = outcome(*case)
        with using(name):
            assert outcome(*case) == expected, case


def test_the_first_set_whose_features_are_there_is_used():
    assert list(SETS)[-1] == "portable" and not SETS["portable"]
    for name in SETS:
        with using(name):
            assert native.array_set() == name
