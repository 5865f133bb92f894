"""Binary: one sign for each weight, and one number for all that share it.

Source: Rastegari et al., "XNOR-Net", ECCV 2016, arXiv:1603.05279, equation 6.
"""

from __future__ import annotations

from typing import Any, ClassVar

import attrs

import qsdk
from qsdk.interfaces import Activations, Layer
from qsdk_plugins.binary.binary_coded import BinaryCoded
from qsdk_plugins.binary.coding import code_weight


@attrs.frozen(kw_only=True)
class Binary(qsdk.Quantizer):
    """``b = sign(w)``, ``alpha = mean |w|``: no other signs or number have a smaller error."""

    name: ClassVar[str] = "binary"
    paper: ClassVar[str] = "arXiv:1603.05279"
    capabilities: ClassVar[qsdk.Capabilities] = qsdk.Capabilities(bits=(1,))

    scheme: qsdk.Scheme = attrs.field(factory=lambda: qsdk.Scheme(bits=1))

    def quantize(self, weight: Any, *, layer: Layer | None = None) -> BinaryCoded:
        return code_weight(weight, self.scheme, qsdk.SignCoder(bits=1).code)

    def activations(self) -> Activations:
        """One plane."""
        return Activations(form="binary", bits=1, cycles=0)


@qsdk.hookimpl
def qsdk_quantizers() -> list[type[qsdk.Quantizer]]:
    return [Binary]
