"""Greedy: signs of the weights, then signs of what is left, as often as there are bits.

Source: Guo et al., "Network Sketching", CVPR 2017, arXiv:1706.02021, algorithm 1; where Xu et al.,
ICLR 2018, arXiv:1802.00150, starts from.
"""

from __future__ import annotations

from typing import Any, ClassVar

import attrs
import numpy as np
from numpy.typing import NDArray

import qsdk
from qsdk.interfaces import Activations, Layer
from qsdk_plugins.binary.binary_coded import BinaryCoded
from qsdk_plugins.binary.slices import code_slices, lane_sums


@attrs.frozen(kw_only=True)
class Greedy(qsdk.Quantizer):
    """``b_i = sign(r)``, ``alpha_i = mean |r|``, ``r = r - alpha_i b_i``; r starts as the weight.

    cycles : alternating cycles that follow the greedy start where :meth:`activations` are coded;
        weights are left as greedy finds them
    """

    name: ClassVar[str] = "greedy"
    paper: ClassVar[str] = "arXiv:1706.02021"
    capabilities: ClassVar[qsdk.Capabilities] = qsdk.Capabilities(bits=range(1, 9))

    scheme: qsdk.Scheme = attrs.field(factory=lambda: qsdk.Scheme(bits=2))
    cycles: int = attrs.field(
        default=2, validator=[attrs.validators.ge(0), attrs.validators.le(20)]
    )

    def quantize(self, weight: Any, *, layer: Layer | None = None) -> BinaryCoded:
        bits = self.scheme.bits
        digits, alpha = code_slices(weight, self.scheme, bits, self._code)
        return BinaryCoded.from_signs(digits > 0, alpha, weight.shape, self.scheme)

    def _code(self, rest: NDArray[np.float64]) -> tuple[NDArray[np.float32], NDArray[np.int8]]:
        bits = self.scheme.bits
        alpha = np.empty((bits, len(rest)), np.float32)
        digits = np.empty((bits, *rest.shape), np.int8)
        for i in range(bits):
            alpha[i] = lane_sums(np.abs(rest)) / rest.shape[1]
            digits[i] = np.where(rest >= 0, 1, -1)
            rest = rest - alpha[i, :, None] * digits[i]
        return alpha, digits

    def activations(self) -> Activations:
        """As many planes as the weights have, 4 at most."""
        return Activations(form="binary", bits=min(self.scheme.bits, 4), cycles=self.cycles)


@qsdk.hookimpl
def qsdk_quantizers() -> list[type[qsdk.Quantizer]]:
    return [Greedy]
