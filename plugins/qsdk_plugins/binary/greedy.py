"""Greedy: signs of the weights, then signs of what is left, as often as there are bits.

Source: Guo et al., "Network Sketching", CVPR 2017, arXiv:1706.02021, algorithm 1; where Xu et al.,
ICLR 2018, arXiv:1802.00150, starts from.
"""

from __future__ import annotations

from typing import Any, ClassVar

import attrs

import qsdk
from qsdk.interfaces import Activations, Layer
from qsdk_plugins.binary.binary_coded import BinaryCoded
from qsdk_plugins.binary.coding import code_weight


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
        coder = qsdk.SignCoder(bits=self.scheme.bits, nearest=False, cycles=0)
        return code_weight(weight, self.scheme, coder.code)

    def activations(self) -> Activations:
        """As many planes as the weights have, 4 at most."""
        return Activations(form="binary", bits=min(self.scheme.bits, 4), cycles=self.cycles)


@qsdk.hookimpl
def qsdk_quantizers() -> list[type[qsdk.Quantizer]]:
    return [Greedy]
