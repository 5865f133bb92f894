"""Where a network has codes that are fixed beforehand: which tensors, and which codes."""

from __future__ import annotations

import attrs
import numpy as np
from numpy.typing import NDArray

from qsdk.affine import dequantize_rows, quantize_rows
from qsdk.errors import OptionError
from qsdk.scheme import Granularity, Scheme


@attrs.frozen(kw_only=True)
class Site:
    """Tensors that share one scale and zero_point, for what lies between them only moves values.

    tensors : all of them, in the order in which the model computes them
    watched : those that values come from; the others hold a choice of the same values
    layers : names of the layers that read one of them, else of those that compute one
    """

    tensors: tuple[str, ...]
    watched: tuple[str, ...]
    layers: tuple[str, ...]

    @property
    def name(self) -> str:
        """The first tensor's name stands for all."""
        return self.tensors[0]


def _single(scale: float) -> float:
    return float(np.float32(scale))


def _per_tensor(scheme: Scheme) -> Scheme:
    return scheme.replace(granularity=Granularity.PER_TENSOR)


@attrs.frozen(kw_only=True)
class FixedCodes:
    """The codes of a tensor while the model runs: ``value = scale * (codes - zero_point)``.

    scale : > 0, exactly a float32; zero_point : on the grid of ``scheme``
    """

    scale: float = attrs.field(converter=_single)
    zero_point: int = attrs.field(converter=int)
    scheme: Scheme = attrs.field(converter=_per_tensor)

    def __attrs_post_init__(self) -> None:
        if not 0 < self.scale < np.inf:
            raise OptionError(f"scale is {self.scale}; give a finite number above 0")
        if not self.scheme.qmin <= self.zero_point <= self.scheme.qmax:
            raise OptionError(
                f"zero_point is {self.zero_point}; {self.scheme} has codes from "
                f"{self.scheme.qmin} to {self.scheme.qmax}"
            )

    @property
    def low(self) -> float:
        """What the lowest code stands for: smaller values saturate there."""
        return self.scale * (self.scheme.qmin - self.zero_point)

    @property
    def high(self) -> float:
        """What the highest code stands for."""
        return self.scale * (self.scheme.qmax - self.zero_point)

    def rounded(self, values: NDArray[np.float32]) -> NDArray[np.float32]:
        """What the codes of these values stand for, of the same shape."""
        scale, zero_point = (
            np.array([self.scale], np.float32),
            np.array([self.zero_point], np.int32),
        )
        codes = quantize_rows(values.reshape(1, -1), scale, zero_point, self.scheme)
        return dequantize_rows(codes, scale, zero_point).reshape(values.shape)

    def __str__(self) -> str:
        return f"{'' if self.scheme.signed else 'u'}int{self.scheme.bits}"
