"""Ternary codes: each value is a sum of a few numbers, each taken plus, minus, or not at all."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, ClassVar, Self

import attrs
import numpy as np
from numpy.typing import NDArray

import qsdk
from qsdk.encodings import Arrays, Encoding, OnnxFunction, Values
from qsdk.errors import EncodingError
from qsdk_plugins.binary import planes as bits
from qsdk_plugins.binary.onnx import DEQUANTIZE_TERNARY


@attrs.frozen(eq=False)
class Ternary(Encoding):
    """``value = sum over i of alpha_i * t_i``, every ``t_i`` -1, 0 or +1; rounded once.

    sign, mask : uint64, (bits / 2, channels, words), bit by bit as in ``binary_coded``: mask is 1
        where ``t_i`` is not 0, sign is 1 where it is +1, and only there
    alpha : float32 >= 0, descending, (bits / 2,) per tensor, (bits / 2, channels) or
        (bits / 2, channels, groups)
    """

    name: ClassVar[str] = "ternary"

    sign: NDArray[np.uint64] = attrs.field(repr=False, converter=bits.read_only)
    mask: NDArray[np.uint64] = attrs.field(repr=False, converter=bits.read_only)
    alpha: NDArray[np.float32] = attrs.field(repr=False, converter=bits.read_only)
    shape: tuple[int, ...]
    scheme: qsdk.Scheme

    @classmethod
    def from_digits(
        cls,
        digits: NDArray[np.int8],
        alpha: NDArray[np.float32],
        shape: tuple[int, ...],
        scheme: qsdk.Scheme,
    ) -> Self:
        """Pack -1, 0 and 1 (bits / 2, channels, length); ``alpha`` in normal form."""
        sign, mask = qsdk.pack_words(digits > 0), qsdk.pack_words(digits != 0)
        encoding = cls(sign, mask, alpha, shape, bits.plain(scheme))
        encoding._check()
        return encoding

    def dequantize(self) -> NDArray[np.float32]:
        length = bits.matrix_shape(self.scheme, self.shape)[1]
        sign, mask = (qsdk.unpack_words(w, length).view(np.int8) for w in (self.sign, self.mask))
        return bits.decode(2 * sign - mask, self.alpha, self.scheme, self.shape)

    def describe(self) -> str:
        of = f" of {self.scheme.group_size}" if self.scheme.group_size else ""
        return f"ternary {self.scheme.bits} bits {self.scheme.granularity}{of}"

    def arrays(self) -> tuple[Arrays, Values]:
        arrays: Arrays = {"sign": self.sign, "mask": self.mask, "alpha": self.alpha}
        return arrays, bits.to_values(self.scheme, self.shape)

    @classmethod
    def from_arrays(
        cls,
        arrays: Mapping[str, NDArray[Any]],
        values: Mapping[str, Any],
        decode: Callable[..., Encoding] | None = None,
    ) -> Self:
        try:
            sign, mask, alpha = (arrays[name] for name in ("sign", "mask", "alpha"))
            scheme, shape = bits.read_values(values)
        except (KeyError, TypeError, ValueError) as error:
            raise EncodingError(f"not ternary codes: {error!r}") from None
        encoding = cls(sign, mask, alpha, shape, scheme)
        encoding._check()
        return encoding

    def _check(self) -> None:
        count, odd = divmod(self.scheme.bits, 2)
        if odd:
            raise EncodingError(f"ternary codes take 2 bits a plane, not {self.scheme.bits} in all")
        channels, length = bits.matrix_shape(self.scheme, self.shape)
        shape = (count, channels, -(-length // bits.WORD))
        for name, words in (("sign", self.sign), ("mask", self.mask)):
            bits.check_array(name, words, np.uint64, shape)
            bits.check_padding(name, words, length)
        if (self.sign & ~self.mask).any():
            raise EncodingError("sign is 1 where mask is 0; what is not there has no sign")
        bits.check_alpha(self.alpha, count, qsdk.Slices(self.scheme, self.shape))

    def part(self, start: int, stop: int) -> Ternary | None:
        """Channels must be on axis 0."""
        alpha = bits.cut(self.alpha, self.scheme, self.shape, start, stop)
        if alpha is None:
            return None
        sign, mask = self.sign[:, start:stop], self.mask[:, start:stop]
        return Ternary(sign, mask, alpha, (sign.shape[1], *self.shape[1:]), self.scheme)

    def onnx_function(self) -> OnnxFunction | None:
        """Channels must be on axis 0."""
        per_tensor = self.scheme.granularity == "per_tensor"
        return DEQUANTIZE_TERNARY if per_tensor or self.scheme.axis == 0 else None


@qsdk.hookimpl
def qsdk_encodings() -> list[type[Encoding]]:
    return [Ternary]
