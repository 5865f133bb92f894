"""GPTQ: rounds column after column; what comes later makes up for the error so far.

Source: Frantar et al., "GPTQ: Accurate Post-Training Quantization for Generative Pre-trained
Transformers", ICLR 2023, arXiv:2210.17323.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

import attrs
import numpy as np

import qsdk
from qsdk_plugins.layerwise.problem import Doubles, LayerwiseQuantizer, Problem, nearest

TRIES = 10  # of ten times more damping each


@attrs.frozen(kw_only=True)
class Gptq(LayerwiseQuantizer):
    """``w_later -= (w_j - q_j) / U_jj * U_j,later`` with ``H^-1 = U^T U``, for each column j.

    order : of the columns: natural, or activation (largest inputs first)
    damping : share of the mean diagonal of H that is added to it
    block : so many columns are done before the rest is brought up to date; changes the speed only
    """

    name: ClassVar[str] = "gptq"
    paper: ClassVar[str] = "arXiv:2210.17323"

    order: str = attrs.field(
        default="activation", validator=attrs.validators.in_(("natural", "activation"))
    )
    damping: float = attrs.field(
        default=0.01, converter=float, validator=[attrs.validators.gt(0), attrs.validators.le(1)]
    )
    block: int = attrs.field(default=128, validator=attrs.validators.ge(1))

    def solve(self, problem: Problem) -> Doubles:
        diagonal = np.einsum("gkk->gk", problem.hessian)
        natural = np.broadcast_to(np.arange(diagonal.shape[1]), diagonal.shape)
        by_size = self.order == "activation"
        order = np.argsort(-diagonal, axis=1, kind="stable") if by_size else natural
        hessian = np.take_along_axis(problem.hessian, order[:, :, None], axis=1)
        hessian = np.take_along_axis(hessian, order[:, None, :], axis=2)
        arrays = (problem.weight, problem.spread(problem.scale), problem.spread(problem.zero_point))
        columns = [np.take_along_axis(array, order[:, None, :], axis=2) for array in arrays]
        codes = compensated(columns, self.scheme, factor(hessian, self.damping), self.block)
        back = np.argsort(order, axis=1, kind="stable")
        return np.take_along_axis(codes, back[:, None, :], axis=2)


def factor(hessian: Doubles, damping: float) -> Doubles:
    """U, upper, with ``(H + damping)^-1 = U^T U``; inputs that were always zero weigh 1."""
    diagonal = np.einsum("gkk->gk", hessian)
    diagonal = np.where(diagonal > 0, diagonal, 1)
    identity = np.eye(hessian.shape[1])
    added = damping * diagonal.mean(axis=1)
    for _ in range(TRIES):
        damped = hessian * (1 - identity) + (diagonal + added[:, None])[:, None, :] * identity
        try:
            return np.linalg.cholesky(np.linalg.inv(damped)).transpose(0, 2, 1)
        except np.linalg.LinAlgError:  # rounding: inputs that are nearly multiples of each other
            added = added * 10
    raise qsdk.errors.DataError("the hessian is no second moment: it has negative eigenvalues")


def compensated(
    columns: Sequence[Doubles], scheme: qsdk.Scheme, upper: Doubles, block: int
) -> Doubles:
    """Codes of weights in their order.

    columns : weight, scale and zero_point, each (groups, rows, K)
    """
    weight, scale, zero_point = columns
    left, codes = weight.copy(), np.empty_like(weight)
    length = weight.shape[2]
    for start in range(0, length, block):
        stop = min(start + block, length)
        errors = np.empty((*weight.shape[:2], stop - start))
        for j in range(start, stop):
            codes[:, :, j] = nearest(left[:, :, j], scale[:, :, j], zero_point[:, :, j], scheme)
            decoded = scale[:, :, j] * (codes[:, :, j] - zero_point[:, :, j])
            error = (left[:, :, j] - decoded) / upper[:, j, j, None]
            left[:, :, j + 1 : stop] -= error[:, :, None] * upper[:, None, j, j + 1 : stop]
            errors[:, :, j - start] = error
        left[:, :, stop:] -= errors @ upper[:, start:stop, stop:]
    return codes


@qsdk.hookimpl
def qsdk_quantizers() -> list[type[qsdk.Quantizer]]:
    return [Gptq]
