"""Affine codes whose zero lies between them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, ClassVar, Self

import attrs
import numpy as np
from numpy.typing import NDArray

import qsdk
from qsdk.encodings import Affine, Arrays, Encoding, OnnxFunction, Values
from qsdk.errors import EncodingError


def _read_only(array: NDArray[np.float32]) -> NDArray[np.float32]:
    view = array.view()
    view.flags.writeable = False
    return view


@attrs.frozen(eq=False)
class AffineRealZero(Encoding):
    """``value = scale * (codes - zero)``, in float32 in this order.

    affine : the codes with their scales; its zero_point is 0
    zero : float32, finite, of the shape of ``affine.scale``, in steps
    """

    name: ClassVar[str] = "affine_real_zero"

    affine: Affine
    zero: NDArray[np.float32] = attrs.field(repr=False, converter=_read_only)
    shape: tuple[int, ...] = attrs.field(init=False)

    @shape.default
    def _shape(self) -> tuple[int, ...]:
        return self.affine.shape

    @classmethod
    def of(
        cls, codes: NDArray[Any], scale: NDArray[np.float32], zero: NDArray[np.float32],
        scheme: qsdk.Scheme,
    ) -> Self:  # fmt: skip
        nothing = np.zeros(scale.shape, scheme.dtype)
        encoding = cls(Affine.from_codes(codes, scale, nothing, scheme), np.array(zero, np.float32))
        encoding._check()
        return encoding

    @property
    def scheme(self) -> qsdk.Scheme:
        return self.affine.scheme

    @property
    def codes(self) -> NDArray[Any]:
        """One integer per value, unpacked on every call."""
        return self.affine.codes

    def dequantize(self) -> NDArray[np.float32]:
        slices = qsdk.Slices(self.scheme, self.shape)
        steps = self.codes.astype(np.float32) - slices.expand(self.zero)
        values: NDArray[np.float32] = steps * slices.expand(self.affine.scale)
        return values.reshape(self.shape)

    def describe(self) -> str:
        return f"{self.scheme} real zero"

    def arrays(self) -> tuple[Arrays, Values]:
        arrays, values = self.affine.arrays()
        held: Arrays = {**arrays, "zero_point": self.zero}
        return held, values

    @classmethod
    def from_arrays(
        cls,
        arrays: Mapping[str, NDArray[Any]],
        values: Mapping[str, Any],
        decode: Callable[..., Encoding] | None = None,
    ) -> Self:
        try:
            zero = arrays["zero_point"]
            nothing = np.zeros(zero.shape, np.int8 if values["signed"] else np.uint8)
            affine = Affine.from_arrays({**arrays, "zero_point": nothing}, values, decode)
        except (KeyError, TypeError) as error:
            raise EncodingError(f"not codes with a real zero: {error!r}") from None
        encoding = cls(affine, zero)
        encoding._check()
        return encoding

    def _check(self) -> None:
        """Refuse what cannot have come from a quantizer."""
        if self.zero.dtype != np.float32 or self.zero.shape != self.affine.scale.shape:
            raise EncodingError(
                f"zero_point of {self.describe()} is float32 {self.affine.scale.shape}, "
                f"not {self.zero.dtype} {self.zero.shape}"
            )
        ends = np.array([self.scheme.qmin, self.scheme.qmax], np.float32)
        with np.errstate(over="ignore", invalid="ignore"):
            reach = (ends - self.zero[..., None]) * self.affine.scale[..., None]
        if not np.isfinite(reach).all():
            raise EncodingError("a zero_point lies so far out that values are not finite")

    def part(self, start: int, stop: int) -> AffineRealZero | None:
        """Channels must be on axis 0."""
        affine = self.affine.part(start, stop)
        if affine is None:
            return None
        whole = self.scheme.granularity is qsdk.Granularity.PER_TENSOR
        return AffineRealZero(affine, self.zero if whole else self.zero[start:stop])

    def onnx_function(self) -> OnnxFunction | None:
        """That of affine codes, which turns any zero_point into floats."""
        function = self.affine.onnx_function()
        return attrs.evolve(function, name=f"Dequantize_{self.name}") if function else None


@qsdk.hookimpl
def qsdk_encodings() -> list[type[Encoding]]:
    return [AffineRealZero]
