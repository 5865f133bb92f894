"""The codes of magnitudes from alphas, and what cuts them further."""

from __future__ import annotations

import attrs
import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float32]


@attrs.frozen(eq=False)
class Levels:
    """The codes of magnitudes, as intervals of them.

    alpha : float32, (rows, bits)
    threshold : float32, (rows, intervals - 1), where the next interval begins, upwards
    signs : (rows, intervals, bits), True where the plane adds its alpha
    """

    alpha: Floats
    threshold: Floats
    signs: NDArray[np.bool_]

    @classmethod
    def first(cls, mean: Floats) -> Levels:
        """One plane."""
        rows = len(mean)
        return cls(mean[:, None], np.empty((rows, 0), np.float32), np.ones((rows, 1, 1), bool))

    @classmethod
    def nearest(cls, alpha: Floats) -> Levels:
        """Each magnitude takes the nearest of all sums."""
        alpha = -np.sort(-alpha, axis=1)
        rows, bits = alpha.shape
        count = 2 ** (bits - 1)
        signs = np.ones((count, bits), bool)
        for plane in range(1, bits):
            signs[:, plane] = np.arange(count) >> (bits - 1 - plane) & 1
        every = cls(alpha, alpha[:, :0], np.broadcast_to(signs, (rows, count, bits)))
        below = every.level < 0
        level = np.abs(every.level)
        order = np.argsort(level, axis=1, kind="stable")
        half = np.float32(0.5) * np.take_along_axis(level, order, axis=1)
        turned = every.signs ^ below[:, :, None]
        sorted_signs = np.take_along_axis(turned, order[:, :, None], axis=1)
        return cls(alpha, half[:, :-1] + half[:, 1:], sorted_signs)

    @property
    def level(self) -> Floats:
        """The sum of each interval's code, (rows, intervals)."""
        alpha = self.alpha[:, None, :]
        level = np.where(self.signs[..., 0], alpha[..., 0], -alpha[..., 0])
        for i in range(1, self.alpha.shape[1]):
            level = np.where(self.signs[..., i], level + alpha[..., i], level - alpha[..., i])
        return level

    def cut(self, alpha: Floats) -> Levels:
        """One plane more, which cuts every interval at its level, and that plane's alpha."""
        rows, count = self.signs.shape[:2]
        edge = np.full((rows, 1), np.inf, np.float32)
        low = np.concatenate([0 * self.alpha[:, :1], self.threshold], axis=1)
        high = np.concatenate([self.threshold, edge], axis=1)
        at = np.where(self.level < low, low, self.level)
        at = np.where(at < high, at, high)
        threshold = np.stack([at, high], axis=2).reshape(rows, -1)[:, :-1]
        signs = np.repeat(self.signs, 2, axis=1)
        upper = np.broadcast_to(np.arange(2 * count) % 2 == 1, (rows, 2 * count))
        return Levels(
            np.column_stack([self.alpha, alpha]),
            threshold,
            np.concatenate([signs, upper[:, :, None]], axis=2),
        )

    def normal(self) -> Levels:
        """No alpha below 0, largest first; the levels stay."""
        size, turned = np.abs(self.alpha), self.signs ^ (self.alpha < 0)[:, None, :]
        order = np.argsort(-size, axis=1, kind="stable")
        signs = np.take_along_axis(turned, order[:, None, :], axis=2)
        return Levels(np.take_along_axis(size, order, axis=1), self.threshold, signs)
