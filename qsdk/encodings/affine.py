"""The affine encoding: packed codes with a scale and a zero_point per slice."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any, ClassVar, Self

import attrs
import numpy as np
from numpy.typing import NDArray

from qsdk import native
from qsdk.affine import dequantize
from qsdk.encodings.affine_onnx import DEQUANTIZE_AFFINE
from qsdk.encodings.base import Arrays, Encoding, OnnxFunction, Values
from qsdk.encodings.packing import pack_on_grid, packed_size, unpack
from qsdk.errors import EncodingError
from qsdk.scheme import Scheme, Slices


def _read_only(array: NDArray[Any]) -> NDArray[Any]:
    view = array.view()
    view.flags.writeable = False
    return view


def _check_on_grid(what: str, numbers: NDArray[Any], scheme: Scheme) -> None:
    if numbers.size and not (scheme.qmin <= numbers.min() and numbers.max() <= scheme.qmax):
        raise EncodingError(
            f"{what} reach [{numbers.min()}, {numbers.max()}] "
            f"but {scheme} holds [{scheme.qmin}, {scheme.qmax}]"
        )


def _packed(codes: NDArray[Any], scheme: Scheme, copy: bool) -> NDArray[np.uint8]:
    if codes.dtype != scheme.dtype:
        _check_on_grid("codes", codes, scheme)
        codes, copy = codes.astype(scheme.dtype), False
    full = scheme.qmax - scheme.qmin == 255  # every byte is a code
    if full and not copy and codes.flags.c_contiguous:
        return codes.reshape(-1).view(np.uint8)
    packed = pack_on_grid(codes, scheme.bits, scheme.qmin, scheme.qmax)
    if packed is None:
        _check_on_grid("codes", codes, scheme)
        raise AssertionError("codes are on and off the grid")
    return packed


def _flag(word: str, value: Any) -> bool:
    if value not in (0, 1):
        raise ValueError(f"{word} is {value!r}, not 0 or 1")
    return bool(value)


def _shape(lengths: Any) -> tuple[int, ...]:
    whole = isinstance(lengths, list | tuple) and all(type(n) is int and n >= 0 for n in lengths)
    if not whole or len(lengths) > 64 or math.prod(max(n, 1) for n in lengths) > 2**60:
        raise ValueError(f"no array has the shape {lengths!r}")
    return tuple(lengths)


@attrs.frozen(eq=False)
class Affine(Encoding):
    """``value = scale * (codes - zero_point)``, with ``codes`` in ``scheme.bits`` bits each.

    packed : uint8, the bit stream of the codes in C order (see :mod:`qsdk.encodings.packing`)
    scale : float32 > 0, shape () per tensor, (channels,) or (channels, groups)
    zero_point : int8 or uint8 like the codes, shape of ``scale``, on the grid

    >>> q = Affine.from_codes(np.int8([[1, -2]]), np.float32([0.5]), np.int8([0]), Scheme(bits=4))
    >>> q.dequantize().tolist(), q.packed.tolist(), q.nbytes
    ([[0.5, -1.0]], [225], 6)
    """

    name: ClassVar[str] = "affine"

    packed: NDArray[np.uint8] = attrs.field(repr=False, converter=_read_only)
    scale: NDArray[np.float32] = attrs.field(repr=False, converter=_read_only)
    zero_point: NDArray[Any] = attrs.field(repr=False, converter=_read_only)
    shape: tuple[int, ...]
    scheme: Scheme

    @classmethod
    def from_codes(
        cls,
        codes: NDArray[Any],
        scale: NDArray[np.float32],
        zero_point: NDArray[Any],
        scheme: Scheme,
        *,
        copy: bool = True,
    ) -> Self:
        """Pack ``codes``, one integer per value; everything must lie on the grid of ``scheme``.

        With ``copy=False`` the encoding may keep ``codes`` of 8 bits as they are: whoever made
        the array gives it away.
        """
        zero_point = np.asarray(zero_point)
        if zero_point.dtype != scheme.dtype:
            _check_on_grid("zero_points", zero_point, scheme)
        encoding = cls(
            _packed(codes, scheme, copy),
            np.array(scale, np.float32),
            zero_point.astype(scheme.dtype),
            codes.shape,
            scheme,
        )
        encoding._check(Slices(scheme, codes.shape))
        return encoding

    @classmethod
    def from_packed(
        cls,
        packed: NDArray[np.uint8],
        scale: NDArray[np.float32],
        zero_point: NDArray[Any],
        slices: Slices,
    ) -> Self:
        """Codes that are packed already, and lie on the grid; the encoding keeps the arrays."""
        encoding = cls(packed, scale, zero_point, slices.shape, slices.scheme)
        encoding._check(slices)
        return encoding

    @property
    def codes(self) -> NDArray[Any]:
        """One integer per value, unpacked on every call: int8 or uint8 of ``shape``."""
        count = math.prod(self.shape)
        flat = unpack(self.packed, count, self.scheme.bits, signed=self.scheme.signed)
        return flat.reshape(self.shape)

    def dequantize(self) -> NDArray[np.float32]:
        slices = Slices(self.scheme, self.shape)
        length = slices.row_length
        if length and native.available():
            bits, signed = self.scheme.bits, self.scheme.signed
            scale = np.ascontiguousarray(self.scale).reshape(-1)
            zero_point = self.zero_point.astype(np.int32).reshape(-1)
            packed = np.ascontiguousarray(self.packed)
            rows = native.decode_rows(packed, length, bits, signed, scale, zero_point)
            return rows.reshape(self.shape)
        return dequantize(self.codes, slices.expand(self.scale), slices.expand(self.zero_point))

    def describe(self) -> str:
        return str(self.scheme)

    def arrays(self) -> tuple[Arrays, Values]:
        arrays: Arrays = {"packed": self.packed, "scale": self.scale, "zero_point": self.zero_point}
        values: Values = {
            word: str(value) if isinstance(value, str) else int(value or 0)
            for word, value in attrs.asdict(self.scheme).items()
        }
        return arrays, {**values, "shape": list(self.shape)}

    @classmethod
    def from_arrays(
        cls,
        arrays: Mapping[str, NDArray[Any]],
        values: Mapping[str, Any],
        decode: Callable[..., Encoding] | None = None,
    ) -> Self:
        try:
            packed, scale, zero_point = (arrays[n] for n in ("packed", "scale", "zero_point"))
            flags = {w: _flag(w, values[w]) for w in ("signed", "symmetric", "narrow_range")}
            scheme = Scheme(
                bits=values["bits"],
                granularity=values["granularity"],
                axis=values["axis"],
                group_size=values["group_size"] or None,
                **flags,
            )
            shape = _shape(values["shape"])
            slices = Slices(scheme, shape)
        except (KeyError, TypeError, ValueError) as error:
            raise EncodingError(f"not an affine encoding: {error!r}") from None
        encoding = cls(packed, scale, zero_point, shape, scheme)
        encoding._check(slices)
        if scheme.narrow_range:
            _check_on_grid("codes", encoding.codes, scheme)
        return encoding

    def _check(self, slices: Slices) -> None:
        """Refuse arrays that cannot have come from a quantizer."""
        size = packed_size(math.prod(self.shape), self.scheme.bits)
        expected: dict[str, tuple[NDArray[Any], Any, tuple[int, ...]]] = {
            "packed": (self.packed, np.uint8, (size,)),
            "scale": (self.scale, np.float32, slices.params_shape),
            "zero_point": (self.zero_point, self.scheme.dtype, slices.params_shape),
        }
        for name, (array, dtype, shape) in expected.items():
            if array.dtype != dtype or array.shape != shape:
                raise EncodingError(
                    f"{name} of {self.scheme} with shape {self.shape} is {np.dtype(dtype)} "
                    f"{shape}, not {array.dtype} {array.shape}"
                )
        if self.scale.size and not (self.scale.min() > 0 and self.scale.max() < np.inf):
            sound = np.isfinite(self.scale) & (self.scale > 0)
            worst = self.scale.flat[int(np.argmin(sound))]
            raise EncodingError(f"a scale is {worst}; scales are finite and above 0")
        _check_on_grid("zero_points", self.zero_point, self.scheme)
        if self.scheme.symmetric and self.zero_point.any():
            worst = self.zero_point.flat[int(np.argmax(self.zero_point != 0))]
            raise EncodingError(f"a zero_point is {worst} although the scheme is symmetric")

    def part(self, start: int, stop: int) -> Affine | None:
        """Channels must be on axis 0."""
        has_axis = self.scheme.granularity != "per_tensor"
        if has_axis and self.scheme.axis not in (0, -len(self.shape)):
            return None
        scale, zero_point = self.scale, self.zero_point
        if has_axis:
            scale, zero_point = scale[start:stop], zero_point[start:stop]
        return Affine.from_codes(self.codes[start:stop], scale, zero_point, self.scheme)

    def onnx_function(self) -> OnnxFunction | None:
        """Unpacks any width; channels must be on axis 0."""
        if self.scheme.granularity != "per_tensor" and self.scheme.axis != 0:
            return None
        return DEQUANTIZE_AFFINE
