"""Rounding of whole weights: SQuant, and everything from floats to packed codes."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from qsdk.native.arguments import (
    FLOAT32,
    Codes,
    check,
    check_bits,
    check_grid,
    check_kernels,
    check_rows,
    empty_codes,
    pointer,
)
from qsdk.native.door import functions, library


def squant(
    rows: NDArray[np.float32],
    kernel_size: int,
    scale: NDArray[np.float32],
    zero_point: NDArray[np.int32],
    qmin: int,
    qmax: int,
    *,
    stage_k: bool,
    stage_c: bool,
) -> Codes:
    """SQuant codes (arXiv:2202.07471): ``quantize_rows``, then a few codes moved by one step.

    rows : float32, (rows, kernels * kernel_size); the rest as in ``quantize_rows``
    stage_k : let the errors of every kernel nearly cancel; no effect if ``kernel_size`` is 1
    stage_c : let those of every row nearly cancel
    """
    check_rows(rows, scale, zero_point, qmin, qmax)
    length = rows.shape[1]
    check_kernels(length, kernel_size)
    codes = empty_codes(rows.shape, qmin < 0)
    scratch = np.empty(length, np.int32)
    functions().squant(
        pointer(rows), len(rows), length // kernel_size, kernel_size,
        pointer(scale), pointer(zero_point), qmin, qmax,
        stage_k, stage_c, pointer(scratch), pointer(codes),
    )  # fmt: skip
    return codes


def encode_rows(
    rows: NDArray[np.float32],
    kernel_size: int,
    bits: int,
    qmin: int,
    qmax: int,
    *,
    symmetric: bool,
    stage_k: bool,
    stage_c: bool,
) -> tuple[NDArray[np.float32], NDArray[np.int32], NDArray[np.uint8]] | None:
    """``range_rows``, ``grid_rows``, ``squant`` and ``pack`` in one, which reads memory once.

    Without stages the codes are those of ``quantize_rows``.
    Returns scale, zero_point and packed codes; None if a value is not finite.
    """
    check("rows", rows, (FLOAT32,), "rows", "length")
    check_grid(qmin, qmax)
    check_bits(bits)
    count, length = rows.shape
    check_kernels(length, kernel_size)
    block = block_rows(length, bits)
    scale, zero_point = np.empty(count, np.float32), np.empty(count, np.int32)
    packed = np.empty((rows.size * bits + 7) // 8, np.uint8)
    errors, codes = np.empty(length, np.int32), np.empty(block * length, np.uint8)
    finite = library().lib.qsdk_encode_rows_portable(
        functions(), pointer(rows), count, length // kernel_size, kernel_size,
        bits, qmin, qmax, symmetric, stage_k, stage_c, block, pointer(errors), pointer(codes),
        pointer(scale), pointer(zero_point), pointer(packed),
    )  # fmt: skip
    return (scale, zero_point, packed) if finite else None


def block_rows(length: int, bits: int) -> int:
    """Rows at a time: 256 KB of floats, less than a core's own cache, and whole bytes of codes."""
    block = min(64, max(1, 2**16 // max(length, 1)))
    return block if block * length * bits % 8 == 0 else (block + 7) // 8 * 8
