"""Rounding that can be learned: ``h(V)`` between down and up, which ends at one of them.

Source: Nagel et al., "Up or Down? Adaptive Rounding for Post-Training Quantization", ICML 2020,
arXiv:2004.10568.
"""

from __future__ import annotations

import attrs
import numpy as np
from numpy.typing import NDArray

Doubles = NDArray[np.float64]

ZETA, GAMMA = 1.1, -0.1  # how far the sigmoid is stretched, so that it reaches 0 and 1
BETA = (20.0, 2.0)  # the exponent of the regulariser, at its start and at the end
WARM_UP = 0.2  # of the steps, without the regulariser
MOMENTS, TINY = (0.9, 0.999), 1e-8  # of Adam


@attrs.define(eq=False)
class SoftRounding:
    """Of steps on a grid, ``low + h(V)``, started where that is the weight itself.

    part : weight minus ``low``, in steps
    free : where both ``low`` and the code above are on the grid; elsewhere it is ``low``
    h : what is added to ``low``, 0 to 1
    rate : of Adam
    regularization : lambda, for a loss of which an error of one step in each weight is the unit
    """

    part: Doubles
    free: NDArray[np.bool_]
    rate: float
    regularization: float
    v: Doubles = attrs.field(init=False)
    h: Doubles = attrs.field(init=False)
    _sigmoid: Doubles = attrs.field(init=False)
    _mean: Doubles = attrs.field(init=False)
    _square: Doubles = attrs.field(init=False)
    _steps: int = attrs.field(init=False, default=0)

    def __attrs_post_init__(self) -> None:
        self.v = -np.log((ZETA - GAMMA) / (np.clip(self.part, 0, 1) - GAMMA) - 1)
        self._mean, self._square = np.zeros_like(self.v), np.zeros_like(self.v)
        self._follow()

    def _follow(self) -> None:
        """Bring ``h`` to where V is now."""
        self._sigmoid = 1 / (1 + np.exp(-self.v))
        self.h = np.where(self.free, np.clip(self._sigmoid * (ZETA - GAMMA) + GAMMA, 0, 1), 0)

    @property
    def is_up(self) -> NDArray[np.bool_]:
        """What is left of it in the end."""
        return (self.v >= 0) & self.free

    @property
    def has_arrived(self) -> bool:
        """Whether no slope moves any of it."""
        return not ((self.h > 0) & (self.h < 1)).any()

    def step(self, slope: Doubles, progress: float) -> None:
        """One of Adam.

        slope : of the loss by h; progress : the share of all steps that this one completes
        """
        inside = (self.h > 0) & (self.h < 1)
        moved = np.where(inside, self._sigmoid * (1 - self._sigmoid) * (ZETA - GAMMA), 0)
        moved = (slope + self._pull(self.h, progress)) * moved
        self._steps += 1
        self._mean += (1 - MOMENTS[0]) * (moved - self._mean)
        self._square += (1 - MOMENTS[1]) * (moved * moved - self._square)
        unbiased = np.sqrt(self._square / (1 - MOMENTS[1] ** self._steps))
        self.v -= self.rate / (1 - MOMENTS[0] ** self._steps) * self._mean / (unbiased + TINY)
        self._follow()

    def _pull(self, h: Doubles, progress: float) -> Doubles:
        """The slope of ``lambda sum (1 - |2 h - 1|**beta)``, which draws h to 0 or 1."""
        if progress <= WARM_UP:
            return np.zeros_like(h)
        beta = BETA[0] + (BETA[1] - BETA[0]) * (progress - WARM_UP) / (1 - WARM_UP)
        side = 2 * h - 1
        return -self.regularization * 2 * beta * np.sign(side) * np.abs(side) ** (beta - 1)
