"""AQN: sums of signs, alternating between the numbers for the signs and the signs for the numbers.

Source: Xu et al., "Alternating Multi-bit Quantization for Recurrent Neural Networks", ICLR 2018,
arXiv:1802.00150. The uniform start and the exact split are ours.
"""

from __future__ import annotations

from typing import Any, ClassVar

import attrs

import qsdk
from qsdk.errors import OptionError
from qsdk.interfaces import Activations, Layer
from qsdk_plugins.binary.binary_coded import BinaryCoded
from qsdk_plugins.binary.coding import CodeRows, code_weight
from qsdk_plugins.binary.two_levels import best_two_levels


@attrs.frozen(kw_only=True)
class Alternating(qsdk.Quantizer):
    """From a start: alphas by least squares, then for each weight the signs of the nearest sum.

    start : where weights start: uniform (evenly spaced levels), greedy (the paper's) or refined
    cycles : so often both steps; also where :meth:`activations` are coded
    final : least squares once more, for the last signs of the weights
    exact : 2 bits only, weights only: the best of all, instead of the above
    """

    name: ClassVar[str] = "aqn"
    paper: ClassVar[str] = "arXiv:1802.00150"
    capabilities: ClassVar[qsdk.Capabilities] = qsdk.Capabilities(bits=range(1, 9))

    scheme: qsdk.Scheme = attrs.field(factory=lambda: qsdk.Scheme(bits=2))
    start: str = attrs.field(default="uniform")
    cycles: int = attrs.field(
        default=2, validator=[attrs.validators.ge(0), attrs.validators.le(100)]
    )
    final: bool = True
    exact: bool = False

    def __attrs_post_init__(self) -> None:
        super().__attrs_post_init__()
        self._coder()  # refuses a start that does not exist
        if self.exact and self.scheme.bits != 2:
            raise OptionError(
                f"exact is for 2 bits, not {self.scheme.bits}; leave it out, or give bits=2"
            )

    def _coder(self) -> qsdk.SignCoder:
        return qsdk.SignCoder(
            bits=self.scheme.bits,
            start=self.start,
            nearest=False,
            cycles=self.cycles,
            final=self.final,
        )

    def quantize(self, weight: Any, *, layer: Layer | None = None) -> BinaryCoded:
        code: CodeRows = best_two_levels if self.exact else self._coder().code
        return code_weight(weight, self.scheme, code)

    def activations(self) -> Activations:
        """As many planes as the weights have, 4 at most; from greedy, 20 cycles at most."""
        bits, cycles = min(self.scheme.bits, 4), min(self.cycles, 20)
        return Activations(form="binary", bits=bits, cycles=cycles)


@qsdk.hookimpl
def qsdk_quantizers() -> list[type[qsdk.Quantizer]]:
    return [Alternating]
