"""Rows of floats and of affine codes, each row with a scale and a zero_point of its own."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from qsdk.errors import NativeError
from qsdk.native.arguments import (
    FLOAT32,
    INT8,
    INT32,
    UINT8,
    Codes,
    check,
    check_bits,
    check_grid,
    check_rows,
    empty_codes,
    pointer,
)
from qsdk.native.door import functions, library


def range_rows(
    rows: NDArray[np.float32],
) -> tuple[NDArray[np.float32], NDArray[np.float32], bool]:
    """The least and the greatest value of each row, and whether all values are finite.

    rows : float32, (rows, length); of no length: the ends are infinity and minus infinity
    Returns two float32 (rows,). In a row with NaN they may be any two of its other values.
    """
    check("rows", rows, (FLOAT32,), "rows", "length")
    low, high = np.empty(len(rows), np.float32), np.empty(len(rows), np.float32)
    finite = functions().range_rows(pointer(rows), *rows.shape, pointer(low), pointer(high))
    return low, high, bool(finite)


def grid_rows(
    low: NDArray[np.float32],
    high: NDArray[np.float32],
    qmin: int,
    qmax: int,
    symmetric: bool,
) -> tuple[NDArray[np.float32], NDArray[np.int32]]:
    """``scale_and_zero_point`` of ranges ``low`` to ``high``, float32 (rows,), finite."""
    check("low", low, (FLOAT32,), "rows")
    check("high", high, (FLOAT32,), len(low))
    scale, zero_point = np.empty(len(low), np.float32), np.empty(len(low), np.int32)
    library().lib.qsdk_grid_rows_portable(
        pointer(low), pointer(high), len(low), qmin, qmax, symmetric,
        pointer(scale), pointer(zero_point),
    )  # fmt: skip
    return scale, zero_point


def quantize_rows(
    rows: NDArray[np.float32],
    scale: NDArray[np.float32],
    zero_point: NDArray[np.int32],
    qmin: int,
    qmax: int,
) -> Codes:
    """``clip(rint(rows / scale) + zero_point, qmin, qmax)``, each row with its own scale.

    rows : float32, (rows, length)
    scale : float32, (rows,)
    zero_point : int32, (rows,)
    qmin, qmax : the grid, within -128..127 or 0..255
    Returns int8 if ``qmin < 0`` else uint8, shape of ``rows``.
    """
    check_rows(rows, scale, zero_point, qmin, qmax)
    codes = empty_codes(rows.shape, qmin < 0)
    functions().quantize_rows(
        pointer(rows), *rows.shape, pointer(scale), pointer(zero_point), qmin, qmax,
        pointer(codes),
    )  # fmt: skip
    return codes


def dequantize_rows(
    codes: Codes, scale: NDArray[np.float32], zero_point: NDArray[np.int32]
) -> NDArray[np.float32]:
    """``scale * (codes - zero_point)`` in float32, each row with its own scale.

    codes : int8 or uint8, (rows, length)
    scale, zero_point : float32 and int32, (rows,)
    """
    check("codes", codes, (INT8, UINT8), "rows", "length")
    check("scale", scale, (FLOAT32,), len(codes))
    check("zero_point", zero_point, (INT32,), len(codes))
    values = np.empty(codes.shape, np.float32)
    functions().dequantize_rows(
        pointer(codes), *codes.shape, pointer(scale), pointer(zero_point),
        codes.dtype == INT8, pointer(values),
    )  # fmt: skip
    return values


def decode_rows(
    packed: NDArray[np.uint8],
    length: int,
    bits: int,
    signed: bool,
    scale: NDArray[np.float32],
    zero_point: NDArray[np.int32],
) -> NDArray[np.float32]:
    """``unpack`` and ``dequantize_rows`` in one, of as many rows as there are scales.

    packed : uint8, (nbytes,), the codes of all rows without a gap
    length : of a row
    Returns float32, (rows, length). Raises NativeError when ``packed`` has another size.
    """
    count = len(scale)
    check_bits(bits)
    check("packed", packed, (UINT8,), (count * max(length, 0) * bits + 7) // 8)
    check("scale", scale, (FLOAT32,), "rows")
    check("zero_point", zero_point, (INT32,), count)
    values = np.empty((count, length), np.float32)
    scratch = np.empty(library().lib.QSDK_DECODE, np.uint8)
    library().lib.qsdk_decode_rows_portable(
        functions(), pointer(packed), count, length, bits, signed,
        pointer(scale), pointer(zero_point), pointer(scratch), pointer(values),
    )  # fmt: skip
    return values


def requantize_rows(
    accumulator: NDArray[np.int32],
    mantissa: NDArray[np.int32],
    shift: NDArray[np.int32],
    zero_point: int,
    qmin: int,
    qmax: int,
) -> Codes:
    """``clip(zero_point + requantize(accumulator, mantissa, shift), qmin, qmax)``, row by row.

    accumulator : int32, (rows, length)
    mantissa, shift : int32, (rows,), as ``qsdk.fixed_multiplier`` gives them
    Returns int8 if ``qmin < 0`` else uint8, shape of ``accumulator``.
    """
    check("accumulator", accumulator, (INT32,), "rows", "length")
    check("mantissa", mantissa, (INT32,), len(accumulator))
    check("shift", shift, (INT32,), len(accumulator))
    check_grid(qmin, qmax)
    if not qmin <= zero_point <= qmax:
        raise NativeError(f"zero_point is {zero_point}; the grid is {qmin}..{qmax}")
    codes = empty_codes(accumulator.shape, qmin < 0)
    functions().requantize_rows(
        pointer(accumulator), *accumulator.shape, pointer(mantissa), pointer(shift),
        zero_point, qmin, qmax, pointer(codes),
    )  # fmt: skip
    return codes


def squared_error_rows(
    rows: NDArray[np.float32],
    scale: NDArray[np.float32],
    zero_point: NDArray[np.int32],
    qmin: int,
    qmax: int,
) -> NDArray[np.int64]:
    """What ``quantize_rows`` with the same arguments gets wrong, in 2**-20 squared steps per row.

    Returns int64, (rows,). A value further than 1024 steps outside the grid counts as that far.
    """
    check_rows(rows, scale, zero_point, qmin, qmax)
    error = np.empty(len(rows), np.int64)
    functions().squared_error_rows(
        pointer(rows), *rows.shape, pointer(scale), pointer(zero_point), qmin, qmax,
        pointer(error),
    )  # fmt: skip
    return error
