"""Whatever floats a caller gives, as the one thing that inner code works on: finite float32."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from qsdk.errors import DataError
from qsdk.ranges import extremes


def finite_float32(array: ArrayLike, what: str = "the array") -> NDArray[np.float32]:
    """``array`` as C-contiguous, read-only float32; the input is never written to.

    Any float dtype is taken. Raises DataError for other dtypes, and with the position of the
    first value that is NaN, infinite, or too large for float32.
    """
    floats = as_float32(array, what)
    if not extremes(floats.reshape(1, -1))[2]:
        raise not_finite(array, floats, what)
    return floats


def as_float32(array: ArrayLike, what: str) -> NDArray[np.float32]:
    """:func:`finite_float32` for those who look at the values themselves."""
    given = np.asarray(array)
    if not _is_float(given.dtype):
        raise DataError(f"{what} is {given.dtype}; give floats (an integer array has no scale)")
    if given.dtype == np.float32:
        view = np.ascontiguousarray(given).reshape(given.shape).view(np.ndarray)
    else:
        with np.errstate(over="ignore"):
            view = np.array(given, np.float32, order="C").view()
    view.flags.writeable = False
    return view


def not_finite(array: ArrayLike, floats: NDArray[np.float32], what: str) -> DataError:
    """The error to raise for ``floats``, made from ``array``, some of which are not finite."""
    given = np.asarray(array)
    first = np.unravel_index(int(np.argmin(np.isfinite(floats))), given.shape)
    position = "[" + ", ".join(str(int(i)) for i in first) + "]"
    return DataError(
        f"{what} holds {given[first]} at {position}; "
        "every value must be finite in float32: mend or exclude it first"
    )


def _is_float(dtype: np.dtype[Any]) -> bool:
    # bfloat16 and the float8 types of ml_dtypes are of kind "V" but convert as floats do.
    return dtype.kind == "f" or (dtype.kind == "V" and "float" in dtype.name)
