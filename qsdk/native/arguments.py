"""What is handed to C: checked for dtype, shape and contiguity, and where it lies."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from qsdk.errors import NativeError
from qsdk.native.door import loaded

Codes = NDArray[np.int8] | NDArray[np.uint8]

INT8, UINT8, UINT32 = np.dtype(np.int8), np.dtype(np.uint8), np.dtype(np.uint32)
INT32, INT64, UINT64 = np.dtype(np.int32), np.dtype(np.int64), np.dtype(np.uint64)
FLOAT32 = np.dtype(np.float32)
C_TYPES = {
    INT8: "uint8_t[]",  # C stores the low byte of a code
    UINT8: "uint8_t[]",
    INT32: "int32_t[]",
    UINT32: "uint32_t[]",
    INT64: "int64_t[]",
    UINT64: "uint64_t[]",
    FLOAT32: "float[]",
}


def pointer(array: NDArray[Any]) -> Any:
    """Where C finds the data of a checked array; keeps the array alive."""
    return loaded()[0].ffi.from_buffer(C_TYPES[array.dtype], array)


def empty_codes(shape: int | tuple[int, ...], signed: bool) -> Codes:
    return np.empty(shape, np.int8) if signed else np.empty(shape, np.uint8)


def check(name: str, array: object, dtypes: tuple[np.dtype[Any], ...], *shape: int | str) -> None:
    """Refuse all but a C-contiguous array of ``shape``, where a word stands for any length."""
    given = f"a {type(array).__name__}"
    if isinstance(array, np.ndarray):
        contiguous = array.flags.c_contiguous
        if contiguous and array.dtype in dtypes and len(shape) == array.ndim:
            for have, want in zip(array.shape, shape, strict=True):
                if have != want and not isinstance(want, str):
                    break
            else:
                return
        layout = "" if contiguous else ", not C-contiguous"
        given = f"{array.dtype} of shape {array.shape}{layout}"
    names = " or ".join(dtype.name for dtype in dtypes)
    lengths = ", ".join(map(str, shape))
    raise NativeError(f"{name} is {given}; give a C-contiguous {names} array of shape [{lengths}]")


def check_bits(bits: int) -> None:
    if not 1 <= bits <= 8:
        raise NativeError(f"bits is {bits}; codes have 1 to 8 bits")


def check_rows(rows: NDArray[Any], scale: object, zero_point: object, qmin: int, qmax: int) -> None:
    check("rows", rows, (FLOAT32,), "rows", "length")
    check("scale", scale, (FLOAT32,), len(rows))
    check("zero_point", zero_point, (INT32,), len(rows))
    check_grid(qmin, qmax)


def check_kernels(length: int, kernel_size: int) -> None:
    if kernel_size < 1 or length % kernel_size or length >= 2**31:
        raise NativeError(
            f"rows have {length} values; give kernels of {kernel_size}, fewer than 2**31 in all"
        )


def check_grid(qmin: int, qmax: int) -> None:
    if not (-128 <= qmin <= qmax <= 127 or 0 <= qmin <= qmax <= 255):
        raise NativeError(f"the grid is {qmin}..{qmax}; it must lie within -128..127 or 0..255")
