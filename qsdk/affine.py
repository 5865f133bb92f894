"""The affine equation, ``value = scale * (codes - zero_point)``, and its rounding.

Source: Jacob et al. 2018, arXiv:1712.05877, equation 1. Rounding is to nearest, ties to even.
Functions on rows run in C where the extension is there; the numpy form beside each is its
meaning, and both give the same integers.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from qsdk import native
from qsdk.errors import SchemeError
from qsdk.scheme import Scheme

FLOAT32 = np.finfo(np.float32)
LARGEST = float(FLOAT32.max) * (1 - 2.0**-20)  # so that no rounding of the scale overflows
ERROR_STEPS = 2.0**10  # squared errors are sums of integers: 1/1024 of a step,
ERROR_LIMIT = 2.0**20  # at most 1024 steps each


def scale_and_zero_point(
    low: ArrayLike, high: ArrayLike, scheme: Scheme
) -> tuple[NDArray[np.float32], NDArray[np.int32]]:
    """The affine map whose codes cover [low, high], widened to contain 0.

    low, high : same shape, one entry per scale, finite, in the unit of the data
    Returns scale (float32, > 0) and zero_point (int32, on the grid), both of that shape.
    A range of zero width gets scale 1, so that zeros come back as exact zeros.
    Raises SchemeError for a range that is not finite and ordered, and for 1 bit symmetric.

    >>> scale, zero_point = scale_and_zero_point(-1.0, 2.0, Scheme(bits=2))
    >>> float(scale), int(zero_point)  # codes -2..1 stand for -1.0 .. 2.0
    (1.0, -1)
    """
    if scheme.symmetric and scheme.bits == 1:
        raise SchemeError("1 bit has no symmetric affine grid; use symmetric=False, or 2 bits")
    bottom, top = _ordered(low, high)
    bottom, top = np.minimum(bottom, 0), np.maximum(top, 0)
    qmin, qmax = scheme.qmin, scheme.qmax
    steps = np.maximum(-bottom, top) / qmax if scheme.symmetric else (top - bottom) / (qmax - qmin)
    # The floor keeps denormal data divisible.
    steps = np.where(top > bottom, np.clip(steps, FLOAT32.tiny, FLOAT32.max), 1)
    scale = steps.astype(np.float32)
    if scheme.symmetric:
        zero_point = np.zeros(scale.shape, np.int32)
    else:
        lowest = np.rint(bottom.astype(np.float32) / scale)
        zero_point = np.clip(qmin - lowest, qmin, qmax).astype(np.int32)
    # The ceiling keeps scale * (codes - zero_point) finite; only the largest floats meet it.
    ceiling = LARGEST / np.maximum(zero_point - qmin, qmax - zero_point)
    return np.minimum(scale, ceiling.astype(np.float32)), zero_point


def _ordered(low: ArrayLike, high: ArrayLike) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    bottom, top = np.asarray(low, np.float64), np.asarray(high, np.float64)
    sound = np.isfinite(bottom) & np.isfinite(top) & (bottom <= top)
    if not sound.all():
        worst = int(np.argmin(sound))
        raise SchemeError(
            f"range [{bottom.flat[worst]}, {top.flat[worst]}] is not finite and ordered; "
            "check the data for NaN, or observe some first"
        )
    return bottom, top


def grid_rows(
    low: NDArray[np.float32], high: NDArray[np.float32], scheme: Scheme
) -> tuple[NDArray[np.float32], NDArray[np.int32]]:
    """:func:`scale_and_zero_point` for one range per row, float32 (n,), finite and ordered."""
    if native.available() and not (scheme.symmetric and scheme.bits == 1):
        return native.grid_rows(low, high, scheme.qmin, scheme.qmax, scheme.symmetric)
    return scale_and_zero_point(low, high, scheme)


def quantize(
    x: NDArray[np.float32], scale: NDArray[np.float32], zero_point: NDArray[Any], scheme: Scheme
) -> NDArray[Any]:
    """``codes = clip(rint(x / scale) + zero_point, qmin, qmax)``; arguments broadcast.

    Float division, then rounding, then the zero_point: the order is part of the definition.

    >>> quantize(np.float32([0.5, 1.5, 2.5]), np.float32(1), np.int32(0), Scheme()).tolist()
    [0, 2, 2]
    """
    with np.errstate(over="ignore"):  # far outside the grid: clipped just below
        steps = np.rint(x / scale)
    zero = zero_point.astype(np.float32)
    steps = np.clip(steps, scheme.qmin - zero, scheme.qmax - zero)
    codes: NDArray[Any] = (steps + zero).astype(scheme.dtype)
    return codes


def dequantize(
    codes: NDArray[Any], scale: NDArray[np.float32], zero_point: NDArray[Any]
) -> NDArray[np.float32]:
    """``scale * (codes - zero_point)`` in float32; arguments broadcast."""
    steps = codes.astype(np.int16) - zero_point.astype(np.int16)
    return steps.astype(np.float32) * scale


def quantize_rows(
    rows: NDArray[np.float32],
    scale: NDArray[np.float32],
    zero_point: NDArray[np.int32],
    scheme: Scheme,
) -> NDArray[Any]:
    """:func:`quantize` for rows (n, length) with one scale and zero_point each."""
    if native.available():
        rows = np.ascontiguousarray(rows)
        return native.quantize_rows(rows, scale, zero_point, scheme.qmin, scheme.qmax)
    return quantize(rows, scale[:, None], zero_point[:, None], scheme)


def dequantize_rows(
    codes: NDArray[Any], scale: NDArray[np.float32], zero_point: NDArray[np.int32]
) -> NDArray[np.float32]:
    """:func:`dequantize` for rows (n, length) of int8 or uint8, one scale and zero_point each."""
    if native.available():
        return native.dequantize_rows(np.ascontiguousarray(codes), scale, zero_point)
    return dequantize(codes, scale[:, None], zero_point[:, None])


def squared_error_rows(
    rows: NDArray[np.float32],
    scale: NDArray[np.float32],
    zero_point: NDArray[np.int32],
    scheme: Scheme,
) -> NDArray[np.int64]:
    """Sum of squared rounding errors of each row, in units of (scale / 1024) squared.

    Integers, so that whatever is decided by comparing them is the same on every machine.
    """
    if native.available():
        rows = np.ascontiguousarray(rows)
        return native.squared_error_rows(rows, scale, zero_point, scheme.qmin, scheme.qmax)
    codes = quantize_rows(rows, scale, zero_point, scheme)
    with np.errstate(over="ignore"):
        steps = rows / scale[:, None]
    error = (codes.astype(np.int32) - zero_point[:, None]).astype(np.float32) - steps
    error = np.rint(np.clip(error * np.float32(ERROR_STEPS), -ERROR_LIMIT, ERROR_LIMIT))
    total: NDArray[np.int64] = np.square(error.astype(np.int64)).sum(axis=1)
    return total
