"""AdaRound: learns for each weight whether it is rounded down or up.

Source: Nagel et al., "Up or Down? Adaptive Rounding for Post-Training Quantization", ICML 2020,
arXiv:2004.10568. Ours: the loss of all inputs at once, from their second moment, with rows scaled
alike; and no row that ends worse than by rounding to nearest.
"""

from __future__ import annotations

from typing import ClassVar

import attrs
import numpy as np
from numpy.typing import NDArray

import qsdk
from qsdk_plugins.layerwise.problem import Doubles, LayerwiseQuantizer, Problem

ZETA, GAMMA = 1.1, -0.1  # how far the sigmoid is stretched, so that it reaches 0 and 1
BETA = (20.0, 2.0)  # the exponent of the regulariser, at its start and at the end
WARM_UP = 0.2  # of the steps, without the regulariser
MOMENTS, TINY = (0.9, 0.999), 1e-8  # of Adam


@attrs.frozen(kw_only=True)
class AdaRound(LayerwiseQuantizer):
    """``w' = s clip(floor(w / s) + h(V))``, where V makes the error least.

    That is ``e H e^T + lambda sum (1 - |2 h - 1|**beta)``, by Adam.

    steps : of Adam; each takes a product of all rows with H
    rate : of Adam
    regularization : lambda, for errors in steps of the grid and inputs of mean square 1
    """

    name: ClassVar[str] = "adaround"
    paper: ClassVar[str] = "arXiv:2004.10568"

    steps: int = attrs.field(default=300, validator=attrs.validators.ge(1))
    rate: float = attrs.field(default=0.05, converter=float, validator=attrs.validators.gt(0))
    regularization: float = attrs.field(
        default=3.0, converter=float, validator=attrs.validators.ge(0)
    )

    def solve(self, problem: Problem) -> Doubles:
        zero_point = problem.spread(problem.zero_point)
        x = problem.weight / problem.spread(problem.scale) + zero_point
        low = np.clip(np.floor(x), self.scheme.qmin, self.scheme.qmax)
        free = (x > low) & (low < self.scheme.qmax)
        learned = low + (self._learn(problem, low, x - low, free) & free)
        rounded = problem.nearest()
        worse = problem.loss(learned) >= problem.loss(rounded)
        return np.where(worse[:, :, None], rounded, learned)

    def _learn(
        self, problem: Problem, low: Doubles, part: Doubles, free: NDArray[np.bool_]
    ) -> NDArray[np.bool_]:
        """Which weights to round up."""
        scale = problem.spread(problem.scale)
        scale = scale / scale.max(axis=2, keepdims=True)
        power = np.einsum("gkk->g", problem.hessian)[:, None, None] / problem.hessian.shape[1]
        hessian = problem.hessian / np.where(power > 0, power, 1)
        start = np.clip(part, 0, 1)
        v = -np.log((ZETA - GAMMA) / (start - GAMMA) - 1)
        mean, square = np.zeros_like(v), np.zeros_like(v)
        for step in range(1, self.steps + 1):
            sigmoid = 1 / (1 + np.exp(-v))
            stretched = sigmoid * (ZETA - GAMMA) + GAMMA
            h = np.clip(stretched, 0, 1)
            inside = free & (stretched > 0) & (stretched < 1)
            if not inside.any():  # all have arrived at 0 or 1
                break
            error = np.where(free, h, 0) - part
            gradient = 2 * scale * ((scale * error) @ hessian)
            gradient += self._pull(h, step / self.steps)
            gradient *= np.where(inside, sigmoid * (1 - sigmoid) * (ZETA - GAMMA), 0)
            mean += (1 - MOMENTS[0]) * (gradient - mean)
            square += (1 - MOMENTS[1]) * (gradient * gradient - square)
            unbiased = np.sqrt(square / (1 - MOMENTS[1] ** step))
            v -= self.rate / (1 - MOMENTS[0] ** step) * mean / (unbiased + TINY)
        return v >= 0

    def _pull(self, h: Doubles, progress: float) -> Doubles:
        """The slope of the regulariser, which draws each h to the nearer of 0 and 1."""
        if progress <= WARM_UP:
            return np.zeros_like(h)
        beta = BETA[0] + (BETA[1] - BETA[0]) * (progress - WARM_UP) / (1 - WARM_UP)
        side = 2 * h - 1
        return -self.regularization * 2 * beta * np.sign(side) * np.abs(side) ** (beta - 1)


@qsdk.hookimpl
def qsdk_quantizers() -> list[type[qsdk.Quantizer]]:
    return [AdaRound]
