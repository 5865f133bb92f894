"""What a layer is to compute: the operation, its weight, and the forms of its input and output.

The integers behind every form are defined here and in :mod:`qsdk.affine`, so that what is
simulated and what a kernel runs agree.
"""

from __future__ import annotations

import enum
from typing import Any, ClassVar, NoReturn

import attrs
import numpy as np
from numpy.typing import NDArray

from qsdk.encodings import Encoding
from qsdk.errors import OptionError, did_you_mean
from qsdk.scheme import Scheme


class InputForm(enum.StrEnum):
    """How the input of a layer is coded: the word that kernels match on."""

    FLOAT32 = "float32"
    INT8 = "int8"  # per row, made inside the call: symmetric
    UINT8 = "uint8"  # per row, made inside the call: affine
    FIXED_INT8 = "fixed_int8"  # one scale and zero_point, known beforehand
    FIXED_UINT8 = "fixed_uint8"
    BINARY = "binary"  # planes of signs, made inside the call

    @classmethod
    def _missing_(cls, value: object) -> NoReturn:
        known = did_you_mean(str(value), [form.value for form in cls])
        raise OptionError(f"no form of activations {value!r}{known}")


@attrs.frozen(kw_only=True)
class Activations:
    """The input of a layer: which codes stand for it, and who knows their scale.

    form : see :class:`InputForm`
    scale, zero_point : of the fixed forms; floats are coded as ``qsdk.affine.quantize`` says, and
        an input that is int8 or uint8 already is taken as codes
    bits, cycles : of binary codes: planes, and alternating cycles after the greedy start
    scale_map : of conv with binary codes of 1 bit: each place of the result has a scale of its own,
        the mean of ``|x|`` over the kernel and the channels of its group, padded places counting
        as 0 (Rastegari et al., ECCV 2016, arXiv:1603.05279, section 3.2)

    The forms int8 and uint8 have one scale per row of the input (per group of a row where the
    weight has groups), found from the row by ``qsdk.affine.scale_and_zero_point``.
    """

    form: InputForm = attrs.field(default=InputForm.FLOAT32, converter=InputForm)
    scale: float = 1.0
    zero_point: int = 0
    bits: int = 2
    cycles: int = 2
    scale_map: bool = False

    def __attrs_post_init__(self) -> None:
        if self.is_fixed:
            _check_params("activations", self.scale, self.zero_point, self.scheme)
        if self.form is InputForm.BINARY and not (1 <= self.bits <= 4 and 0 <= self.cycles <= 20):
            raise OptionError(
                f"binary activations of {self.bits} bits, {self.cycles} cycles; "
                "give 1 to 4 bits and 0 to 20 cycles"
            )
        if self.scale_map and (self.form is not InputForm.BINARY or self.bits != 1):
            raise OptionError(
                f"a scale_map with {self} activations; it belongs to binary ones of 1 bit"
            )

    @property
    def is_fixed(self) -> bool:
        """Whether scale and zero_point are known beforehand."""
        return self.form in (InputForm.FIXED_INT8, InputForm.FIXED_UINT8)

    @property
    def scheme(self) -> Scheme:
        """The grid of the 8-bit forms."""
        signed = self.form in (InputForm.INT8, InputForm.FIXED_INT8)
        return Scheme(bits=8, signed=signed, symmetric=self.form is InputForm.INT8)

    @property
    def dtype(self) -> type[Any]:
        """What the codes of the 8-bit forms are stored in."""
        return self.scheme.dtype

    def __str__(self) -> str:
        return f"{self.form}{self.bits}" if self.form is InputForm.BINARY else str(self.form)


OUTPUTS = ("float32", "int32", "int8", "uint8")


@attrs.frozen(kw_only=True)
class Output:
    """The result of a layer.

    form : "float32"; "int32": the accumulators ``sum (codes_x - zero_x) (codes_w - zero_w)``,
        without scale and bias; "int8" or "uint8": requantized to ``scale`` and ``zero_point`` in
        integers, by the single rounding of :mod:`qsdk.requantize`
    clip : (low, high) in real units, applied to the result; (0, inf) is ReLU
    """

    form: str = "float32"
    scale: float = 1.0
    zero_point: int = 0
    clip: tuple[float, float] = (-np.inf, np.inf)

    def __attrs_post_init__(self) -> None:
        if self.form not in OUTPUTS:
            raise OptionError(f"no output {self.form!r}{did_you_mean(self.form, OUTPUTS)}")
        if self.is_requantized:
            _check_params("output", self.scale, self.zero_point, self.scheme)
        low, high = self.clip
        if not low <= high:
            raise OptionError(f"clip is {self.clip}; give (low, high) with low <= high")

    @property
    def is_requantized(self) -> bool:
        return self.form in ("int8", "uint8")

    @property
    def scheme(self) -> Scheme:
        """The grid of a requantized result."""
        return Scheme(bits=8, signed=self.form == "int8")

    @property
    def dtype(self) -> np.dtype[Any]:
        return np.dtype(self.form)


def _check_params(what: str, scale: float, zero_point: int, scheme: Scheme) -> None:
    single = np.float32(scale)
    if not (np.isfinite(single) and single > 0):
        raise OptionError(f"the scale of the {what} is {scale}; give a finite number above 0")
    if not scheme.qmin <= zero_point <= scheme.qmax:
        raise OptionError(
            f"the zero_point of the {what} is {zero_point}; "
            f"give a whole number from {scheme.qmin} to {scheme.qmax}"
        )


def _bias(bias: Any) -> NDArray[np.float32] | None:
    return None if bias is None else np.ascontiguousarray(bias, np.float32)


@attrs.frozen(kw_only=True, eq=False)
class Operation:
    """One layer's work, as a kernel is asked to prepare it.

    weight : (out channels, in channels / groups, kernel...), encoded
    bias : float32 (out channels,) or None
    """

    name: ClassVar[str]

    weight: Encoding
    bias: NDArray[np.float32] | None = attrs.field(default=None, converter=_bias, repr=False)
    activations: Activations = attrs.field(factory=Activations)
    output: Output = attrs.field(factory=Output)

    def __attrs_post_init__(self) -> None:
        if self.bias is not None and self.bias.shape != (self.weight.shape[0],):
            raise OptionError(
                f"bias has shape {self.bias.shape}; "
                f"the weight has {self.weight.shape[0]} output channels"
            )
        if self.output.form != "float32" and not self.activations.is_fixed:
            raise OptionError(
                f"an output of {self.output.form} needs activations with one fixed scale and "
                f"zero_point, not {self.activations}"
            )

    def __str__(self) -> str:
        weight = f"{self.weight.name} {self.weight.describe()}"
        return f"{self.name} of {weight}, {self.activations} in, {self.output.form} out"


@attrs.frozen(kw_only=True, eq=False)
class Linear(Operation):
    """``y = x @ weight.T + bias``: x (..., in), weight (out, in), y (..., out)."""

    name: ClassVar[str] = "linear"

    def __attrs_post_init__(self) -> None:
        if len(self.weight.shape) != 2:
            raise OptionError(f"linear takes a weight (out, in), not of shape {self.weight.shape}")
        if self.activations.scale_map:
            raise OptionError(
                "a scale_map has a scale for each place of an image, and linear has no places; "
                "leave it out, or use conv"
            )
        super().__attrs_post_init__()


def _lengths(values: Any) -> tuple[int, ...]:
    return tuple(int(value) for value in values)


@attrs.frozen(kw_only=True, eq=False)
class Conv(Operation):
    """ONNX Conv: x (batch, channels, length...), weight (out, channels / groups, kernel...).

    stride, dilation : one per spatial axis
    padding : begin of every axis, then end of every axis, as ONNX orders pads; padded places
        hold real 0, so the zero_point where the input has codes
    groups : input and output channels fall into so many separate convolutions
    """

    name: ClassVar[str] = "conv"

    stride: tuple[int, ...] = attrs.field(converter=_lengths)
    padding: tuple[int, ...] = attrs.field(converter=_lengths)
    dilation: tuple[int, ...] = attrs.field(converter=_lengths)
    groups: int = 1

    def __attrs_post_init__(self) -> None:
        axes = len(self.weight.shape) - 2
        if axes not in (1, 2):
            raise OptionError(f"conv takes 1-D and 2-D kernels, not {self.weight.shape}")
        wanted = {"stride": axes, "dilation": axes, "padding": 2 * axes}
        for word, count in wanted.items():
            given, least = getattr(self, word), 0 if word == "padding" else 1
            if len(given) != count or min(given) < least:
                raise OptionError(f"{word} is {given}; give {count} numbers from {least}")
        if self.groups < 1 or self.weight.shape[0] % self.groups:
            raise OptionError(
                f"groups is {self.groups}; it must divide the {self.weight.shape[0]} outputs"
            )
        super().__attrs_post_init__()

    def out_shape(self, shape: tuple[int, ...]) -> tuple[int, ...]:
        """Shape of the result for an input of ``shape``; an axis that is too short gives 0."""
        axes = len(self.stride)
        kernel = self.weight.shape[2:]
        spatial = []
        for axis in range(axes):
            padded = shape[2 + axis] + self.padding[axis] + self.padding[axes + axis]
            reach = self.dilation[axis] * (kernel[axis] - 1) + 1
            spatial.append(max(0, (padded - reach) // self.stride[axis] + 1))
        return (shape[0], self.weight.shape[0], *spatial)
