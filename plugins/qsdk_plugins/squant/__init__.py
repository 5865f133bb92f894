"""SQuant: data-free rounding that lets the errors of a kernel, then of a channel, cancel.

Source: Guo et al., "SQuant: On-the-Fly Data-Free Quantization via Diagonal Hessian
Approximation", ICLR 2022, arXiv:2202.07471.
"""

from __future__ import annotations

from typing import Any, ClassVar

import attrs
import numpy as np
from numpy.typing import NDArray

import qsdk
from qsdk import native
from qsdk.interfaces import AffineQuantizer
from qsdk_plugins.squant.reference import squant_rows


@attrs.frozen(kw_only=True)
class SQuant(AffineQuantizer):
    """Rounds, then flips few codes to their other neighbour so that sums of errors vanish.

    stages : which of the paper's stages run. E rounds to nearest; K brings the error sum of
        each kernel to at most 0.5 step; C that of each output channel. Fewer are for ablation.
    """

    name: ClassVar[str] = "squant"
    paper: ClassVar[str] = "arXiv:2202.07471"
    capabilities: ClassVar[qsdk.Capabilities] = qsdk.Capabilities(bits=range(1, 9))

    scheme: qsdk.Scheme = attrs.field(factory=lambda: qsdk.Scheme(bits=4))
    stages: str = attrs.field(
        default="EKC", validator=attrs.validators.in_(("E", "EK", "EC", "EKC"))
    )

    @property
    def stages_in_c(self) -> str:
        return self.stages

    def round(
        self,
        rows: NDArray[np.float32],
        scale: NDArray[np.float32],
        zero_point: NDArray[np.int32],
        kernel_size: int,
    ) -> NDArray[Any]:
        squant = native.squant if native.available() else squant_rows
        return squant(
            rows,
            kernel_size,
            scale,
            zero_point,
            self.scheme.qmin,
            self.scheme.qmax,
            stage_k="K" in self.stages,
            stage_c="C" in self.stages,
        )


@qsdk.hookimpl
def qsdk_quantizers() -> list[type[qsdk.Quantizer]]:
    return [SQuant]
