"""Refined greedy: after each plane of signs all numbers are found anew, by least squares.

Source: Guo et al., "Network Sketching", CVPR 2017, arXiv:1706.02021, algorithm 2.
"""

from __future__ import annotations

from typing import Any, ClassVar

import attrs

import qsdk
from qsdk.interfaces import Layer
from qsdk_plugins.binary.binary_coded import BinaryCoded
from qsdk_plugins.binary.coding import code_weight


@attrs.frozen(kw_only=True)
class Refined(qsdk.Quantizer):
    """``b_i = sign(r)``; all alphas anew, by least squares; ``r = w - sum of alpha_j b_j``."""

    name: ClassVar[str] = "refined"
    paper: ClassVar[str] = "arXiv:1706.02021"
    capabilities: ClassVar[qsdk.Capabilities] = qsdk.Capabilities(bits=range(1, 9))

    scheme: qsdk.Scheme = attrs.field(factory=lambda: qsdk.Scheme(bits=2))

    def quantize(self, weight: Any, *, layer: Layer | None = None) -> BinaryCoded:
        coder = qsdk.SignCoder(bits=self.scheme.bits, start="refined", nearest=False, cycles=0)
        return code_weight(weight, self.scheme, coder.code)


@qsdk.hookimpl
def qsdk_quantizers() -> list[type[qsdk.Quantizer]]:
    return [Refined]
