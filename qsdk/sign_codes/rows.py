"""Sums over rows of magnitudes, and the alphas that follow from them."""

from __future__ import annotations

import attrs
import numpy as np
from numpy.typing import NDArray

from qsdk.sign_codes.levels import Floats, Levels

Doubles = NDArray[np.float64]

LANES = 16
PIECE = 2**16  # values of a row whose sum is one float32
SINGULAR = 1 / 1024  # a pivot of sums of whole numbers is 0 or much more


def lane_sums(values: Floats) -> Doubles:
    """Sum of each row: lane l takes values l, l + 16, ..., then halves are added to halves.

    values : float32, (rows, length); so are all sums, of PIECE values at most
    """
    count, length = values.shape
    total = np.zeros(count)
    for first in range(0, length, PIECE):
        piece = values[:, first : first + PIECE]
        blocks = piece.shape[1] // LANES
        lanes = np.zeros((count, LANES), np.float32)
        for block in range(blocks):
            lanes += piece[:, LANES * block : LANES * (block + 1)]
        lanes[:, : piece.shape[1] - LANES * blocks] += piece[:, LANES * blocks :]
        for half in (8, 4, 2, 1):
            lanes = lanes[:, :half] + lanes[:, half:]
        total += lanes[:, 0]
    return total


@attrs.frozen(eq=False)
class Rows:
    """Magnitudes (rows, length), and their sums."""

    size: Floats
    total: Doubles

    @classmethod
    def of(cls, x: Floats) -> Rows:
        size = np.abs(x)
        return cls(size, lane_sums(size))

    def mean(self, total: Doubles) -> Floats:
        mean: Floats = total.astype(np.float32) / np.float32(max(self.size.shape[1], 1))
        return mean

    def interval(self, levels: Levels) -> NDArray[np.intp]:
        """Which one each magnitude is in."""
        number = np.zeros(self.size.shape, np.intp)
        for threshold in levels.threshold.T:
            number += self.size >= threshold[:, None]
        return number

    def fitted(self, levels: Levels) -> Levels:
        """The same codes with the alphas of least squares."""
        exact, _ = self.least_squares(levels)
        return attrs.evolve(levels, alpha=exact.astype(np.float32))

    def least_squares(self, levels: Levels) -> tuple[Doubles, NDArray[np.bool_]]:
        """Alphas for these codes, (rows, bits), and which planes depend on those before."""
        rows, bits = levels.alpha.shape
        above = [self.size >= threshold[:, None] for threshold in levels.threshold.T]
        nothing = np.zeros(rows)
        number = [nothing + self.size.shape[1], *(mask.sum(axis=1) for mask in above), nothing]
        parts = [lane_sums(np.where(mask, self.size, np.float32(0))) for mask in above]
        sums = [self.total, *parts, nothing]
        g, d = np.zeros((rows, bits, bits)), np.zeros((rows, bits))
        for t in range(levels.signs.shape[1]):
            digits = np.where(levels.signs[:, t], 1.0, -1.0)
            here, part = number[t] - number[t + 1], sums[t] - sums[t + 1]
            g += here[:, None, None] * (digits[:, :, None] * digits[:, None, :])
            d += part[:, None] * digits
        return _solved(g, d)


def _solved(g: Doubles, d: Doubles) -> tuple[Doubles, NDArray[np.bool_]]:
    """Elimination without pivoting, in a fixed order; 0 for planes that depend on others."""
    rows, bits = d.shape
    alpha, depends = np.zeros((rows, bits)), np.zeros((rows, bits), bool)
    for j in range(bits):
        depends[:, j] = g[:, j, j] < SINGULAR
        pivot = np.where(depends[:, j], np.inf, g[:, j, j])
        for i in range(j + 1, bits):
            factor = g[:, i, j] / pivot
            for m in range(j + 1, i + 1):
                g[:, i, m] -= factor * g[:, m, j]
            d[:, i] -= factor * d[:, j]
    for j in reversed(range(bits)):
        total = d[:, j].copy()
        for i in range(j + 1, bits):
            total -= g[:, i, j] * alpha[:, i]
        alpha[:, j] = np.where(depends[:, j], 0, total / g[:, j, j])
    return alpha, depends
