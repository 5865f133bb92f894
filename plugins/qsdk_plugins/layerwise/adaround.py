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
from qsdk_plugins.layerwise.soft_rounding import SoftRounding


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
        learned = low + self._learn(problem, x - low, free)
        rounded = problem.nearest()
        worse = problem.loss(learned) >= problem.loss(rounded)
        return np.where(worse[:, :, None], rounded, learned)

    def _learn(self, problem: Problem, part: Doubles, free: NDArray[np.bool_]) -> NDArray[np.bool_]:
        """Which weights to round up."""
        scale = problem.spread(problem.scale)
        scale = scale / scale.max(axis=2, keepdims=True)
        power = np.einsum("gkk->g", problem.hessian)[:, None, None] / problem.hessian.shape[1]
        hessian = problem.hessian / np.where(power > 0, power, 1)
        rounding = SoftRounding(part, free, self.rate, self.regularization)
        for step in range(1, self.steps + 1):
            if rounding.has_arrived:
                break
            error = rounding.h - part
            rounding.step(2 * scale * ((scale * error) @ hessian), step / self.steps)
        return rounding.is_up


@qsdk.hookimpl
def qsdk_quantizers() -> list[type[qsdk.Quantizer]]:
    return [AdaRound]
