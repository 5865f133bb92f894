"""The planes of signs of a layer's input, in numpy: what every kernel makes inside its call.

Greedy, then alternating cycles (Xu et al., ICLR 2018, arXiv:1802.00150), with thresholds between
levels instead of a search. The formulas and their order stand in
``native/linear_binary/linear_binary.h``. Sums that decide codes are float32 in 16 lanes, and the
normal equations are solved in double.
"""

from __future__ import annotations

import attrs
import numpy as np
from numpy.typing import NDArray

LANES = 16
SINGULAR = 1 / 1024  # a pivot of sums of whole numbers is 0 or much more


def lane_sum(values: NDArray[np.float32]) -> np.float32:
    """Lane l sums values l, l + 16, ... in order; then halves are added to halves."""
    lanes = np.zeros(LANES, np.float32)
    for start in range(0, len(values), LANES):
        part = values[start : start + LANES]
        lanes[: len(part)] += part
    for half in (8, 4, 2, 1):
        lanes = lanes[:half] + lanes[half:]
    return np.float32(lanes[0])


@attrs.frozen(eq=False)
class Levels:
    """The non-negative sums of ``+-beta``, upwards.

    level : float32, (2**(bits - 1),)
    signs : (levels, bits), True where the plane adds its beta
    """

    level: NDArray[np.float32]
    signs: NDArray[np.bool_]

    @classmethod
    def of(cls, beta: NDArray[np.float32]) -> Levels:
        """``beta`` in descending order."""
        bits = len(beta)
        count = 2 ** (bits - 1)
        signs = np.ones((count, bits), bool)
        level = np.full(count, beta[0], np.float32)
        for plane in range(1, bits):
            signs[:, plane] = np.arange(count) >> (bits - 1 - plane) & 1
            level = np.where(signs[:, plane], level + beta[plane], level - beta[plane])
        below = level < 0
        order = np.argsort(np.abs(level), kind="stable")
        return cls(np.abs(level)[order], (signs ^ below[:, None])[order])

    @property
    def threshold(self) -> NDArray[np.float32]:
        half = np.float32(0.5) * self.level
        return half[:-1] + half[1:]

    def number(self, size: NDArray[np.float32]) -> NDArray[np.intp]:
        """Which level each magnitude belongs to."""
        return np.searchsorted(self.threshold, size, side="right")


def refined(
    levels: Levels, size: NDArray[np.float32], total: np.float32, beta: NDArray[np.float32]
) -> NDArray[np.float32]:
    """Betas of least squares for the codes of ``levels``; those before where there are none."""
    above = [size >= threshold for threshold in levels.threshold]
    number = [len(size), *(int(mask.sum()) for mask in above), 0]
    parts = [lane_sum(np.where(mask, size, np.float32(0))) for mask in above]
    sums = np.array([total, *parts, 0], np.float64)
    bits = len(beta)
    g, d = np.zeros((bits, bits)), np.zeros(bits)
    for t, signs in enumerate(levels.signs):
        digits = np.where(signs, 1.0, -1.0)
        g += (number[t] - number[t + 1]) * np.outer(digits, digits)
        d += (sums[t] - sums[t + 1]) * digits
    exact = _solved(g, d)
    return beta if exact is None else np.abs(exact).astype(np.float32)


def _solved(g: NDArray[np.float64], d: NDArray[np.float64]) -> NDArray[np.float64] | None:
    """Elimination without pivoting, in a fixed order; None where g is singular."""
    bits = len(d)
    for j in range(bits):
        if g[j, j] < SINGULAR:
            return None
        for i in range(j + 1, bits):
            factor = g[i, j] / g[j, j]
            for m in range(j + 1, i + 1):
                g[i, m] -= factor * g[m, j]
            d[i] -= factor * d[j]
    beta = np.zeros(bits)
    for j in reversed(range(bits)):
        total = d[j]
        for i in range(j + 1, bits):
            total -= g[i, j] * beta[i]
        beta[j] = total / g[j, j]
    return beta


def code_row(
    x: NDArray[np.float32], bits: int, cycles: int
) -> tuple[NDArray[np.float32], NDArray[np.int8]] | None:
    """Betas (bits,) and digits (bits, length) of a row; None for one that is not finite.

    >>> beta, digits = code_row(np.float32([3, -1, 1, -3]), bits=2, cycles=0)
    >>> beta.tolist(), digits.tolist()
    ([2.0, 1.0], [[1, -1, 1, -1], [1, 1, -1, -1]])
    """
    size, count = np.abs(x), np.float32(max(len(x), 1))
    with np.errstate(over="ignore", invalid="ignore"):
        total = lane_sum(size)
        if not np.isfinite(total):
            return None
        beta, rest = np.zeros(bits, np.float32), size
        for i in range(bits):
            beta[i] = lane_sum(rest) / count
            rest = np.abs(rest - beta[i])
        beta = np.sort(beta)[::-1]
        levels = Levels.of(beta)
        for _ in range(cycles if bits > 1 else 0):
            beta = np.sort(refined(levels, size, total, beta))[::-1]
            levels = Levels.of(beta)
    signs = levels.signs[levels.number(size)] ^ (x < 0)[:, None]
    return beta, np.where(signs, 1, -1).astype(np.int8).T
