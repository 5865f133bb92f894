"""Requantization in integers: ``codes = clip(zero_point + round(acc * multiplier), qmin, qmax)``.

Source: card of uniform quantization after Jacob et al. 2018, arXiv:1712.05877, section 2.2. What
kernels run is the single rounding, in 64 bits, ties upward; the double rounding of gemmlowp, which
some runtimes have, stands beside it for comparison.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from qsdk import native
from qsdk.errors import SchemeError
from qsdk.scheme import Scheme

INT32 = np.iinfo(np.int32)


def fixed_multiplier(multiplier: ArrayLike) -> tuple[NDArray[np.int32], NDArray[np.int32]]:
    """(mantissa, shift) with ``multiplier = mantissa * 2**(shift - 31)``, mantissa in 31 bits.

    multiplier : float64, any shape, 0 <= multiplier < 2**30
    Raises SchemeError outside of that.

    >>> mantissa, shift = fixed_multiplier(0.75)
    >>> int(mantissa), int(shift)
    (1610612736, 0)
    """
    exact = np.asarray(multiplier, np.float64)
    sound = np.isfinite(exact) & (exact >= 0) & (exact < 2.0**30)
    if not sound.all():
        worst = exact.flat[int(np.argmin(sound))]
        raise SchemeError(
            f"the output scale asks for a multiplier of {worst}; it must be from 0 to 2**30: "
            "give the output the scale that its values have"
        )
    fraction, shift = np.frexp(exact)
    mantissa = np.floor(fraction * 2.0**31 + 0.5)
    carried = mantissa == 2.0**31
    mantissa = np.where(carried, 2.0**30, mantissa).astype(np.int32)
    return mantissa, (shift + carried).astype(np.int32)


def requantize(
    accumulator: NDArray[Any], mantissa: NDArray[np.int32], shift: NDArray[np.int32]
) -> NDArray[np.int64]:
    """``accumulator * multiplier`` to the nearest integer, ties upward: one rounding, 64 bits.

    ``(accumulator * mantissa + 2**(right - 1)) >> right`` with ``right = 31 - shift``; at most
    0.5024 from the exact product, because the mantissa has 31 bits.

    >>> requantize(np.int32([3, -3]), *fixed_multiplier(0.5)).tolist()
    [2, -1]
    """
    product = accumulator.astype(np.int64) * mantissa.astype(np.int64)
    right = 31 - shift.astype(np.int64)
    tiny = right > 62  # the product is below 2**62, so it rounds to 0
    right = np.minimum(right, 62)
    rounded = (product + (np.int64(1) << (right - 1))) >> right
    codes: NDArray[np.int64] = np.where(tiny, 0, rounded)
    return codes


def requantize_rows(
    accumulator: NDArray[np.int32],
    mantissa: NDArray[np.int32],
    shift: NDArray[np.int32],
    zero_point: int,
    scheme: Scheme,
) -> NDArray[Any]:
    """Codes of int32 sums (n, length): :func:`requantize`, one multiplier per row, on a grid.

    mantissa, shift : (n,), from :func:`fixed_multiplier`; zero_point : of the codes, on the grid
    Returns int8 or uint8, as ``scheme`` has them. Runs in C where the extension is there.

    >>> mantissa, shift = fixed_multiplier([0.5])
    >>> requantize_rows(np.int32([[3, -3, 999]]), mantissa, shift, 1, Scheme()).tolist()
    [[3, 0, 127]]
    """
    qmin, qmax = scheme.qmin, scheme.qmax
    if native.available():
        sums = np.ascontiguousarray(accumulator)
        return native.requantize_rows(sums, mantissa, shift, zero_point, qmin, qmax)
    steps = requantize(accumulator, mantissa[:, None], shift[:, None])
    codes: NDArray[Any] = np.clip(steps + zero_point, qmin, qmax).astype(scheme.dtype)
    return codes


def requantize_twice(
    accumulator: NDArray[Any], mantissa: NDArray[np.int32], shift: NDArray[np.int32]
) -> NDArray[np.int64]:
    """The same with gemmlowp's two roundings: at most 0.75 from the exact product.

    A saturating doubling high multiply, then a rounding shift with ties away from zero.
    """
    left = np.maximum(shift, 0).astype(np.int64)
    wide = np.clip(accumulator.astype(np.int64) << left, INT32.min, INT32.max)
    product = wide * mantissa.astype(np.int64)
    nudged = product + np.where(product >= 0, 1 << 30, 1 - (1 << 30))
    high = np.sign(nudged) * (np.abs(nudged) >> 31)  # division that truncates
    right = np.maximum(-shift, 0).astype(np.int64)
    mask = (np.int64(1) << right) - 1
    threshold = (mask >> 1) + (high < 0)
    codes: NDArray[np.int64] = (high >> right) + ((high & mask) > threshold)
    return codes


def clip_codes(
    clip: tuple[float, float], scale: float, zero_point: int, qmin: int, qmax: int
) -> tuple[int, int]:
    """The codes between which a result clipped to ``clip``, in real units, lies.

    >>> clip_codes((0.0, float("inf")), 0.5, 3, -128, 127)
    (3, 127)
    """
    with np.errstate(over="ignore"):  # far outside the grid, as infinity is
        steps = np.rint(np.asarray(clip, np.float64) / scale)
    low, high = np.clip(steps + zero_point, qmin, qmax)
    return int(low), int(high)
