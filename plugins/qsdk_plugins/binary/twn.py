"""TWN: weights near 0 become 0, the others their sign, times one number.

Source: Li, Zhang, Liu, "Ternary Weight Networks", arXiv:1605.04711, equation 6.
"""

from __future__ import annotations

from typing import Any, ClassVar

import attrs
import numpy as np
from numpy.typing import NDArray

import qsdk
from qsdk.interfaces import Layer
from qsdk_plugins.binary.slices import code_slices, lane_sums
from qsdk_plugins.binary.ternary import Ternary

THRESHOLD = 0.7  # of the mean magnitude: the paper's rule for weights of unknown distribution


@attrs.frozen(kw_only=True)
class TernaryWeights(qsdk.Quantizer):
    """``t = sign(w) [|w| > 0.7 mean |w|]``, ``alpha`` = mean of |w| where t is not 0.

    Each 2 bits more are one plane more: the same of what the planes before have left.
    """

    name: ClassVar[str] = "twn"
    paper: ClassVar[str] = "arXiv:1605.04711"
    capabilities: ClassVar[qsdk.Capabilities] = qsdk.Capabilities(bits=(2, 4, 6, 8))

    scheme: qsdk.Scheme = attrs.field(factory=lambda: qsdk.Scheme(bits=2))

    def quantize(self, weight: Any, *, layer: Layer | None = None) -> Ternary:
        digits, alpha = code_slices(weight, self.scheme, self.scheme.bits // 2, self._code)
        return Ternary.from_digits(digits, alpha, weight.shape, self.scheme)

    def _code(self, rest: NDArray[np.float64]) -> tuple[NDArray[np.float32], NDArray[np.int8]]:
        planes = self.scheme.bits // 2
        alpha = np.empty((planes, len(rest)), np.float32)
        digits = np.empty((planes, *rest.shape), np.int8)
        for i in range(planes):
            size = np.abs(rest)
            far = size > THRESHOLD * (lane_sums(size) / rest.shape[1])[:, None]
            count = np.maximum(far.sum(axis=1), 1)  # a slice of zeros: alpha 0
            alpha[i] = lane_sums(np.where(far, size, 0)) / count
            digits[i] = np.sign(rest) * far
            rest = rest - alpha[i, :, None] * digits[i]
        return alpha, digits


@qsdk.hookimpl
def qsdk_quantizers() -> list[type[qsdk.Quantizer]]:
    return [TernaryWeights]
