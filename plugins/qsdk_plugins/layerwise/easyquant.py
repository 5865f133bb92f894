"""EasyQuant: the scales under which a layer's outputs keep their direction best.

Source: Wu et al., "EasyQuant: Post-training Quantization via Scale Optimization",
arXiv:2006.16669. This is its search for the weights.
"""

from __future__ import annotations

from typing import ClassVar, Self

import attrs
import numpy as np

import qsdk
from qsdk_plugins.layerwise.problem import Doubles, LayerwiseQuantizer, Problem

BETTER = 1e-9  # by which a cosine must be larger, so that rounding decides nothing


@attrs.frozen(kw_only=True)
class EasyQuant(LayerwiseQuantizer):
    """Tries ``factor * scale`` for evenly spaced factors, each output channel by itself.

    lowest, highest : the factors at the ends; the start itself always takes part
    candidates : how many factors
    """

    name: ClassVar[str] = "easyquant"
    paper: ClassVar[str] = "arXiv:2006.16669"

    scheme: qsdk.Scheme = attrs.field(
        factory=lambda: qsdk.Scheme(bits=8, symmetric=True, narrow_range=True)
    )
    lowest: float = attrs.field(
        default=0.5, converter=float, validator=[attrs.validators.gt(0), attrs.validators.le(1)]
    )
    highest: float = attrs.field(
        default=2.0, converter=float, validator=[attrs.validators.ge(1), attrs.validators.le(2)]
    )
    candidates: int = attrs.field(default=31, validator=attrs.validators.ge(1))

    def settle(self, problem: Problem) -> Problem:
        """Of equal cosines the factor nearest to 1 stays."""
        outputs = Outputs.of(problem)
        factors = np.linspace(self.lowest, self.highest, self.candidates)
        reach = np.maximum(
            problem.zero_point - self.scheme.qmin, self.scheme.qmax - problem.zero_point
        ).astype(np.float32)
        best, chosen = outputs.cosine(problem), problem.scale
        for factor in factors[np.argsort(np.abs(factors - 1), kind="stable")]:
            with np.errstate(over="ignore"):  # beyond the largest float: not tried
                scale = np.maximum(problem.scale * np.float32(factor), np.finfo(np.float32).tiny)
                scale = np.where(np.isfinite(scale * reach), scale, problem.scale)
            cosine = outputs.cosine(attrs.evolve(problem, scale=scale))
            better = cosine > best + BETTER
            best, chosen = np.where(better, cosine, best), np.where(better, scale, chosen)
        return attrs.evolve(problem, scale=chosen)


@attrs.frozen(eq=False)
class Outputs:
    """What the float weights give, group of columns by group of columns.

    hessian : (groups, parts, size, size), the blocks of the columns that share a scale
    product : ``w H`` of each part, (groups, parts, rows, size); square : ``w H w^T``, params_shape
    """

    hessian: Doubles
    product: Doubles
    square: Doubles

    @classmethod
    def of(cls, problem: Problem) -> Self:
        size, length = _size(problem), problem.weight.shape[2]
        parts = [slice(start, start + size) for start in range(0, length, size)]
        blocks = np.zeros((len(problem.hessian), len(parts), size, size))
        for block, part in zip(blocks.transpose(1, 0, 2, 3), parts, strict=True):
            found = problem.hessian[:, part, part]
            block[:, : found.shape[1], : found.shape[1]] = found
        weight = _parts(problem.weight, problem)
        return cls(blocks, weight @ blocks, _total(weight @ blocks * weight, problem))

    def cosine(self, problem: Problem) -> Doubles:
        """Between these outputs and those of the codes nearest to the weight; 0 beside zeros."""
        decoded = _parts(problem.decoded(problem.nearest()), problem)
        dot = _total(self.product * decoded, problem)
        square = _total(decoded @ self.hessian * decoded, problem)
        norm = np.sqrt(np.maximum(self.square, 0)) * np.sqrt(np.maximum(square, 0))
        cosine: Doubles = np.divide(dot, norm, out=np.zeros_like(dot), where=norm > 0)
        return cosine


def _size(problem: Problem) -> int:
    """Columns that share a scale."""
    length = problem.weight.shape[2]
    return int(min(problem.slices.scheme.group_size or length, length))


def _parts(rows: Doubles, problem: Problem) -> Doubles:
    """(groups, rows, K) as (groups, parts, rows, size), zeros behind a shorter last part."""
    groups, count, length = rows.shape
    size = _size(problem)
    padded = np.pad(rows, ((0, 0), (0, 0), (0, -length % size)))
    return padded.reshape(groups, count, -1, size).transpose(0, 2, 1, 3)


def _total(parts: Doubles, problem: Problem) -> Doubles:
    """The sum of what shares a scale, of params_shape."""
    each = parts.sum(axis=3).transpose(0, 2, 1)
    shape = problem.slices.params_shape
    return np.asarray(each.sum() if shape == () else each.reshape(shape))


@qsdk.hookimpl
def qsdk_quantizers() -> list[type[qsdk.Quantizer]]:
    return [EasyQuant]
