"""Binary codes: each value is a sum of a few numbers, each with a sign of its own."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, ClassVar, Self

import attrs
import numpy as np
from numpy.typing import NDArray

import qsdk
from qsdk.encodings import Arrays, Encoding, OnnxFunction, Values
from qsdk.errors import EncodingError
from qsdk.interfaces import sign_codes_dtype
from qsdk_plugins.binary import planes as bits
from qsdk_plugins.binary.onnx import DEQUANTIZE_BINARY_CODED


@attrs.frozen(eq=False)
class BinaryCoded(Encoding):
    """``value = sum over i of alpha_i * b_i``, every ``b_i`` -1 or +1; rounded once.

    planes : uint64, (bits, channels, words): bit k of a row of words, from the lowest place up, is
        1 where ``b_i`` of the channel's value k is +1; places behind the last value are 0
    alpha : float32 >= 0, descending, (bits,) per tensor, (bits, channels) or
        (bits, channels, groups)
    """

    name: ClassVar[str] = "binary_coded"

    planes: NDArray[np.uint64] = attrs.field(repr=False, converter=bits.read_only)
    alpha: NDArray[np.float32] = attrs.field(repr=False, converter=bits.read_only)
    shape: tuple[int, ...]
    scheme: qsdk.Scheme

    @classmethod
    def from_planes(
        cls,
        planes: bits.Words,
        alpha: NDArray[np.float32],
        shape: tuple[int, ...],
        scheme: qsdk.Scheme,
    ) -> Self:
        """Signs as they are stored; ``alpha`` in normal form."""
        encoding = cls(planes, alpha, shape, bits.plain(scheme))
        encoding._check()
        return encoding

    def dequantize(self) -> NDArray[np.float32]:
        length = bits.matrix_shape(self.scheme, self.shape)[1]
        digits = 2 * qsdk.unpack_words(self.planes, length).view(np.int8) - 1
        return bits.decode(digits, self.alpha, self.scheme, self.shape)

    def describe(self) -> str:
        of = f" of {self.scheme.group_size}" if self.scheme.group_size else ""
        return f"binary{self.scheme.bits} {self.scheme.granularity}{of}"

    def arrays(self) -> tuple[Arrays, Values]:
        arrays: Arrays = {"planes": self.planes, "alpha": self.alpha}
        return arrays, bits.to_values(self.scheme, self.shape)

    @classmethod
    def from_arrays(
        cls,
        arrays: Mapping[str, NDArray[Any]],
        values: Mapping[str, Any],
        decode: Callable[..., Encoding] | None = None,
    ) -> Self:
        try:
            planes, alpha = arrays["planes"], arrays["alpha"]
            scheme, shape = bits.read_values(values)
        except (KeyError, TypeError, ValueError) as error:
            raise EncodingError(f"not binary codes: {error!r}") from None
        encoding = cls(planes, alpha, shape, scheme)
        encoding._check()
        return encoding

    def _check(self) -> None:
        channels, length = bits.matrix_shape(self.scheme, self.shape)
        count = self.scheme.bits
        shape = (count, channels, -(-length // bits.WORD))
        bits.check_array("planes", self.planes, np.uint64, shape)
        bits.check_padding("planes", self.planes, length)
        bits.check_alpha(self.alpha, count, qsdk.Slices(self.scheme, self.shape))

    def part(self, start: int, stop: int) -> BinaryCoded | None:
        """Channels must be on axis 0."""
        alpha = bits.cut(self.alpha, self.scheme, self.shape, start, stop)
        if alpha is None:
            return None
        planes = self.planes[:, start:stop]
        return BinaryCoded(planes, alpha, (planes.shape[1], *self.shape[1:]), self.scheme)

    def rows(self) -> NDArray[Any]:
        """A matrix (rows, length) as records (rows,): what ``qsdk.linear`` takes instead of floats.

        ``encoding.rows()[ids]`` looks up in an embedding, as codes. Their dtype is
        ``qsdk.interfaces.sign_codes_dtype(bits, length)``, where the layout is described.
        Raises EncodingError unless there are 1 to 4 planes, with one alpha each for a row.
        """
        count = self.scheme.bits
        whole = self.alpha.ndim < 3 or self.alpha.shape[2] <= 1
        by_row = self.alpha.ndim == 1 or self.scheme.axis in (0, -2)
        if len(self.shape) != 2 or count > 4 or not (whole and by_row):
            raise EncodingError(
                f"{self.describe()} of shape {self.shape} has no rows of codes; give a matrix of "
                "1 to 4 planes, with alphas per row (axis 0) or per tensor"
            )
        rows = np.empty(self.shape[0], sign_codes_dtype(count, self.shape[1]))
        rows["alpha"] = self.alpha.reshape(count, -1).T
        rows["planes"] = self.planes.transpose(1, 2, 0)
        return rows

    def onnx_function(self) -> OnnxFunction | None:
        """Channels must be on axis 0."""
        per_tensor = self.scheme.granularity == "per_tensor"
        return DEQUANTIZE_BINARY_CODED if per_tensor or self.scheme.axis == 0 else None


@qsdk.hookimpl
def qsdk_encodings() -> list[type[Encoding]]:
    return [BinaryCoded]
