"""Round to nearest: each weight to the closest code of its grid.

Source: Jacob et al. 2018, arXiv:1712.05877; Krishnamoorthi 2018, arXiv:1806.08342.
"""

from __future__ import annotations

from typing import Any, ClassVar

import attrs
import numpy as np
from numpy.typing import NDArray

import qsdk
from qsdk.interfaces import AffineQuantizer


@attrs.frozen(kw_only=True)
class RoundToNearest(AffineQuantizer):
    """``codes = clip(rint(w / scale) + zero_point, qmin, qmax)``."""

    name: ClassVar[str] = "rtn"
    paper: ClassVar[str] = "arXiv:1712.05877"
    capabilities: ClassVar[qsdk.Capabilities] = qsdk.Capabilities(bits=range(1, 9))

    @property
    def stages_in_c(self) -> str:
        return "E"

    def round(
        self,
        rows: NDArray[np.float32],
        scale: NDArray[np.float32],
        zero_point: NDArray[np.int32],
        kernel_size: int,
    ) -> NDArray[Any]:
        return qsdk.quantize_rows(rows, scale, zero_point, self.scheme)


@qsdk.hookimpl
def qsdk_quantizers() -> list[type[qsdk.Quantizer]]:
    return [RoundToNearest]
