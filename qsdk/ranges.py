"""Range rules: which interval of a weight's values the codes have to cover.

Every rule takes rows (n, length) of finite float32 and a scheme, and gives the ends
``low <= 0 <= high`` of one interval per row. ``scale_and_zero_point`` turns them into a grid.
Zero always lies inside: padding and pruned weights stay exact, and the zero_point fits the codes.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable

import numpy as np
from numpy.typing import ArrayLike, NDArray

from qsdk import native
from qsdk.affine import scale_and_zero_point, squared_error_rows
from qsdk.errors import OptionError, did_you_mean
from qsdk.scheme import Scheme
from qsdk.sums import sum_rows

Rows = NDArray[np.float32]
Ends = NDArray[np.float32]  # one per row, on either side of zero
Range = tuple[NDArray[np.float32], NDArray[np.float32]]

SHRINK = np.linspace(1.0, 0.3, 36)  # factors that the MSE search tries on an end of the range
PASSES = 2  # times that each end is searched while the other is held


def extremes(rows: Rows) -> tuple[NDArray[np.float32], NDArray[np.float32], bool]:
    """The least and the greatest value of each row, and whether all values are finite."""
    if native.available():
        return native.range_rows(np.ascontiguousarray(rows))
    low, high = rows.min(axis=1, initial=np.inf), rows.max(axis=1, initial=-np.inf)
    return low, high, bool(np.isfinite(rows).all())


def minmax(rows: Rows, scheme: Scheme) -> Range:
    """From the lowest to the highest value of the row."""
    low, high, _ = extremes(rows)
    return np.minimum(low, 0), np.maximum(high, 0)


def absmax(rows: Rows, scheme: Scheme) -> Range:
    """From minus to plus the largest magnitude of the row."""
    low, high = minmax(rows, scheme)
    magnitude = np.maximum(-low, high)
    return -magnitude, magnitude


def percentile(rows: Rows, scheme: Scheme, keep_percent: float = 99.9) -> Range:
    """Order statistics of the row that leave out at most 100 - ``keep_percent`` % at each end."""
    length = rows.shape[1]
    last = max(math.ceil(length * keep_percent / 100) - 1, length // 2)
    ends = np.partition(rows, (length - 1 - last, last), axis=1)
    return np.minimum(ends[:, length - 1 - last], 0), np.maximum(ends[:, last], 0)


def mse(rows: Rows, scheme: Scheme) -> Range:
    """The shrunken min-max range of least squared rounding error.

    One end is searched while the other is held, then the other, ``PASSES`` times over; a
    symmetric grid has one magnitude to search. Ties go to the wider range.
    """
    low, high = (absmax if scheme.symmetric else minmax)(rows, scheme)
    if scheme.symmetric:
        best = _best_factor(rows, scheme, low, high, both=True)
        return low * best, high * best
    shrunk_low, shrunk_high = low, high
    for _ in range(PASSES):
        shrunk_low = low * _best_factor(rows, scheme, low, shrunk_high)
        shrunk_high = high * _best_factor(rows, scheme, high, shrunk_low)
    return shrunk_low, shrunk_high


def _best_factor(
    rows: Rows, scheme: Scheme, end: Ends, other: Ends, both: bool = False
) -> NDArray[np.float32]:
    """For each row the factor on ``end`` (on both ends) that gives the least squared error."""
    best_error = np.full(len(rows), np.inf)
    best = np.ones(len(rows), np.float32)
    for factor in SHRINK.astype(np.float32):
        ends = (end * factor, other * factor if both else other)
        scale, zero_point = scale_and_zero_point(np.minimum(*ends), np.maximum(*ends), scheme)
        # Integer sum times an exact square, one rounding: the same number on every machine.
        error = squared_error_rows(rows, scale, zero_point, scheme) * np.square(scale, dtype=float)
        better = error < best_error
        best_error[better], best[better] = error[better], factor
    return best


def aciq(rows: Rows, scheme: Scheme) -> Range:
    """The mean plus and minus what a Laplace or a Gauss distribution of the row's spread asks for.

    Whichever of the two makes the row likelier is taken; never wider than the row.
    Source: Banner et al., "Post-training 4-bit quantization", arXiv:1810.05723, section 2.
    """
    low, high = minmax(rows, scheme)
    length = rows.shape[1]
    off = rows.astype(np.float64)
    mean = sum_rows(off) / length
    off -= mean[:, None]
    deviation = sum_rows(np.abs(off)) / length
    sigma = np.sqrt(sum_rows(off * off) / length)
    alpha = aciq_alpha(deviation, sigma, scheme.bits)
    bottom, top = ((mean + side * alpha).astype(np.float32) for side in (-1, 1))
    return np.clip(bottom, low, 0), np.clip(top, 0, high)


# Log-likelihoods per value: -1/2 - log(sigma sqrt(2 pi)) for Gauss, -1 - log(2 b) for Laplace.
LIKELIER_LAPLACE = 2 * math.sqrt(math.e / (2 * math.pi))  # sigma over b where they are equal


def aciq_alpha(deviation: ArrayLike, sigma: ArrayLike, bits: int) -> NDArray[np.float64]:
    """How far from the mean to clip, by the likelier of the two distributions.

    deviation, sigma : the mean of ``|x - mean x|`` and the square root of that of its square
    """
    b, s = np.asarray(deviation), np.asarray(sigma)
    laplace, gauss = (aciq_factor(kind, bits) for kind in ("laplace", "gauss"))
    return np.where(s > LIKELIER_LAPLACE * b, laplace * b, gauss * s)


@functools.cache
def aciq_factor(distribution: str, bits: int) -> float:
    """Where to clip for the least squared error of uniform steps on ``bits`` bits.

    distribution : "laplace" (in units of b = mean |x - mean x|) or "gauss" (of sigma)
    The root of the derivative of clipping error plus ``alpha**2 / (3 * 4**bits)``.

    >>> round(aciq_factor("laplace", 4), 3), round(aciq_factor("gauss", 4), 3)
    (5.029, 2.559)
    """
    spread = 1 / (3 * 4.0**bits)

    def slope(r: float) -> float:
        if distribution == "laplace":
            return r * spread - math.exp(-r)
        tail = math.erfc(r / math.sqrt(2))
        return r * (tail + spread) - math.sqrt(2 / math.pi) * math.exp(-r * r / 2)

    low, high = 0.0, 20.0
    for _ in range(60):
        middle = (low + high) / 2
        low, high = (middle, high) if slope(middle) < 0 else (low, middle)
    return round(low, 6)  # the same number whatever the machine's exp gives in its last bit


RANGE_RULES: dict[str, Callable[[Rows, Scheme], Range]] = {
    "minmax": minmax,
    "absmax": absmax,
    "mse": mse,
    "percentile": percentile,
    "aciq": aciq,
}


def find_range(rows: Rows, scheme: Scheme, rule: str, keep_percent: float = 99.9) -> Range:
    """The range of each row by the rule of that name.

    >>> [end.tolist() for end in find_range(np.float32([[-1, 3]]), Scheme(), "minmax")]
    [[-1.0], [3.0]]
    """
    if rule not in RANGE_RULES:
        raise OptionError(f"no range rule {rule!r}{did_you_mean(rule, RANGE_RULES)}")
    if rule == "percentile":
        return percentile(rows, scheme, keep_percent)
    return RANGE_RULES[rule](rows, scheme)
