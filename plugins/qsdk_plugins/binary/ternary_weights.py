"""Ternary: weights near 0 become 0, the others their sign, times one number.

Source: Li, Zhang, Liu, "Ternary Weight Networks", arXiv:1605.04711, equations 5 and 6.
"""

from __future__ import annotations

from typing import Any, ClassVar, Literal

import attrs
import numpy as np
from numpy.typing import NDArray

import qsdk
from qsdk.interfaces import Layer
from qsdk_plugins.binary.slices import code_slices
from qsdk_plugins.binary.ternary_coded import Ternary

OF_THE_MEAN = 0.7  # the paper's threshold for weights of unknown distribution
Rule = Literal["twn", "exact"]


@attrs.frozen(kw_only=True)
class TernaryQuantizer(qsdk.Quantizer):
    """``t = sign(w) [|w| > D]``, ``alpha`` = mean of |w| where t is not 0.

    rule : what D is; "twn": 0.7 mean |w|; "exact": where ``alpha t`` has the least squared error
    """

    name: ClassVar[str] = "ternary"
    paper: ClassVar[str] = "arXiv:1605.04711"
    capabilities: ClassVar[qsdk.Capabilities] = qsdk.Capabilities(bits=(2,))

    scheme: qsdk.Scheme = attrs.field(factory=lambda: qsdk.Scheme(bits=2))
    rule: Rule = attrs.field(default="twn", validator=attrs.validators.in_(("twn", "exact")))

    def quantize(self, weight: Any, *, layer: Layer | None = None) -> Ternary:
        digits, alpha = code_slices(weight, self.scheme, self.scheme.bits // 2, self._code)
        return Ternary.from_digits(digits, alpha, weight.shape, self.scheme)

    def _code(self, rest: NDArray[np.float64]) -> tuple[NDArray[np.float32], NDArray[np.int8]]:
        planes = self.scheme.bits // 2
        alpha = np.empty((planes, len(rest)), np.float32)
        digits = np.empty((planes, *rest.shape), np.int8)
        for i in range(planes):
            size = np.abs(rest)
            far = _above_exact(size) if self.rule == "exact" else _above_twn(size)
            count = np.maximum(far.sum(axis=1), 1)  # a slice of zeros: alpha 0
            alpha[i] = qsdk.sum_rows(np.where(far, size, 0)) / count
            digits[i] = np.sign(rest) * far
            rest = rest - alpha[i, :, None] * digits[i]
        return alpha, digits


@attrs.frozen(kw_only=True)
class TernaryResidual(TernaryQuantizer):
    """``ternary`` of the weights, then of what that leaves, once for each 2 bits.

    rule : as in ``ternary``, for each plane
    """

    name: ClassVar[str] = "ternary_residual"
    capabilities: ClassVar[qsdk.Capabilities] = qsdk.Capabilities(bits=(4, 6, 8))

    scheme: qsdk.Scheme = attrs.field(factory=lambda: qsdk.Scheme(bits=4))


def _above_twn(size: NDArray[np.float64]) -> NDArray[np.bool_]:
    """Where ``size``, rows of magnitudes, is above 0.7 of its row's mean."""
    above: NDArray[np.bool_] = size > OF_THE_MEAN * (qsdk.sum_rows(size) / size.shape[1])[:, None]
    return above


def _above_exact(size: NDArray[np.float64]) -> NDArray[np.bool_]:
    """The m largest of each row, with m such that ``(their sum)^2 / m`` is largest.

    That is by how much ``alpha t`` lowers the sum of squares, alpha being their mean. Within a
    run of equal magnitudes it has no maximum, so the threshold never cuts one.
    """
    largest_first = -np.sort(-size, axis=1)
    gain = np.square(np.cumsum(largest_first, axis=1)) / np.arange(1, size.shape[1] + 1)
    last = np.argmax(gain, axis=1)
    above: NDArray[np.bool_] = size >= np.take_along_axis(largest_first, last[:, None], axis=1)
    return above


@qsdk.hookimpl
def qsdk_quantizers() -> list[type[qsdk.Quantizer]]:
    return [TernaryQuantizer, TernaryResidual]
