"""``linear`` on affine weights and 8-bit input codes, in numpy and 64-bit integers: normative.

acc = sum over k of (codes_x - zero_x) * (codes_w - zero_w)              exact, and fits int32
y   = float32(acc) * (scale_x * scale_w) + bias, then clip               float32, in this order
q   = clip(zero_y + requantize(acc + bias / (scale_x * scale_w)))        integers

Accumulators here have 64 bits; outputs of int32 are refused where 32 could be too few.
"""

from __future__ import annotations

import math
from typing import Any, ClassVar

import attrs
import numpy as np
from numpy.typing import NDArray

import qsdk
from qsdk.interfaces import Accumulator, Kernel, Operation, Output, Prepared, code_rows

CODED: frozenset[str] = frozenset({"int8", "uint8", "fixed_int8", "fixed_uint8"})
OUTPUTS = frozenset({"float32", "int32", "int8", "uint8"})
ACCUMULATOR = np.iinfo(np.int32)
LARGEST_BIAS = 2.0**46  # in units of the accumulator: its multiplier then keeps 14 bits


@attrs.frozen(eq=False)
class Requantizer:
    """From accumulators of fixed activations to output codes; one entry per output channel.

    bias : int64, in units of the accumulator
    mantissa, shift : see :func:`qsdk.fixed_multiplier`
    low, high : the codes that the clipped result lies between
    """

    bias: NDArray[np.int64]
    mantissa: NDArray[np.int32]
    shift: NDArray[np.int32]
    zero_point: int
    low: int
    high: int

    @classmethod
    def of(cls, operation: Operation, weight_scale: NDArray[np.float32]) -> Requantizer:
        output = operation.output
        step = np.float64(np.float32(operation.activations.scale)) * weight_scale
        bias = np.zeros(len(step)) if operation.bias is None else operation.bias.astype(np.float64)
        # Codes beside whose bias even the largest accumulator is nothing, as where the weights are
        # denormal: a larger step makes the bias a number that fits.
        step = np.maximum(step, np.abs(bias) / LARGEST_BIAS)
        mantissa, shift = qsdk.fixed_multiplier(step / np.float32(output.scale))
        scheme = output.scheme
        low, high = qsdk.clip_codes(
            output.clip, output.scale, output.zero_point, scheme.qmin, scheme.qmax
        )
        code_bias = np.rint(bias / step).astype(np.int64)
        # Fewer bits of the mantissa for a larger bias: the product of the sum stays in 63 bits.
        # Where the shift would pass 30, every sum but 0 saturates anyway.
        _, bits = np.frexp(np.abs(code_bias).astype(np.float64))
        less = np.maximum(bits - 30, 0).astype(np.int32)
        shift = np.minimum(shift + less, 30)
        return cls(code_bias, mantissa >> less, shift, output.zero_point, low, high)

    def __call__(self, accumulator: NDArray[np.int64]) -> NDArray[np.int64]:
        steps = qsdk.requantize(accumulator + self.bias, self.mantissa, self.shift)
        return np.clip(steps + self.zero_point, self.low, self.high)

    def shifted(self) -> tuple[NDArray[np.int64], NDArray[np.int32], NDArray[np.int32]]:
        """(addend, mantissa, right), with steps = (accumulator * mantissa + addend) >> right."""
        right = 31 - self.shift
        tiny = right > 62  # rounds to 0
        right = np.where(tiny, 1, right).astype(np.int32)
        half = np.where(tiny, 0, np.int64(1) << (right.astype(np.int64) - 1))
        mantissa = np.where(tiny, 0, self.mantissa).astype(np.int32)
        return self.bias * mantissa + half, mantissa, right


def worst_accumulator(steps: NDArray[np.int64], operation: Operation) -> NDArray[np.int64]:
    """The largest magnitude that an accumulator can reach with these weights, per output.

    steps : codes_w - zero_w, (out, ...)
    """
    activations = operation.activations
    scheme = activations.scheme
    if activations.is_fixed:
        low, high = scheme.qmin - activations.zero_point, scheme.qmax - activations.zero_point
    else:
        low, high = (-128, 127) if scheme.signed else (-255, 255)
    return qsdk.worst_sums(steps.reshape(len(steps), -1), low, high)


def sums_in_32_bits(operation: Operation) -> Accumulator:
    """What every kernel of 8-bit codes adds up at the end, less the zero_points."""
    steps, _ = steps_and_scale(operation.weight)
    return Accumulator(bits=32, worst=int(worst_accumulator(steps, operation).max(initial=0)))


def overflow(operation: Operation) -> str:
    """Why 32 bits do not hold every accumulator of these weights; empty when they do."""
    weight: Any = operation.weight
    if math.prod(weight.shape[1:]) * 255 * (2**weight.scheme.bits - 1) <= ACCUMULATOR.max:
        return ""  # whatever the codes are
    steps, _ = steps_and_scale(operation.weight)
    worst = worst_accumulator(steps, operation)
    if worst.max(initial=0) <= ACCUMULATOR.max:
        return ""
    channel = int(worst.argmax())
    return (
        f"accumulators have 32 bits, and that of output {channel} can reach {worst[channel]}; "
        "use fewer bits or fewer inputs"
    )


class LinearInt8Reference(Kernel):
    """Exact for every affine weight with one scale per tensor or per channel."""

    name = "linear-int8-reference"
    operation = "linear"
    encoding = "affine"
    granularity = frozenset({"per_tensor", "per_channel"})
    activations: ClassVar[frozenset[str]] = CODED
    outputs = OUTPUTS
    backend = "reference"
    priority = 1

    def refusal(self, operation: Operation) -> str:
        reason = super().refusal(operation)
        if reason or operation.output.form == "float32":
            return reason
        return overflow(operation)

    def prepare(self, operation: Operation, *, threads: int = 0) -> Prepared:
        return _LinearInt8(self, operation)


def steps_and_scale(weight: Any) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
    """``codes - zero_point`` (out, ...) and one scale per output channel."""
    channels = weight.shape[0]
    scale = np.broadcast_to(weight.scale, (channels,)).astype(np.float32)
    zero = np.broadcast_to(weight.zero_point, (channels,)).astype(np.int64)
    beside = (1,) * (len(weight.shape) - 1)
    return weight.codes.astype(np.int64) - zero.reshape(-1, *beside), scale


def finish(
    accumulator: NDArray[np.int64],
    scale_x: NDArray[np.float32],
    scale_w: NDArray[np.float32],
    bias: NDArray[np.float32] | None,
    output: Output,
) -> NDArray[np.float32]:
    """The float result of accumulators (rows, out), in the order that every kernel keeps."""
    with np.errstate(invalid="ignore", over="ignore"):
        y = accumulator.astype(np.float32) * (scale_x[:, None] * scale_w)
        if bias is not None:
            y = y + bias
        low, high = (np.float32(end) for end in output.clip)
        y = np.where(low > y, low, y)  # np.maximum says not which zero it takes
        clipped: NDArray[np.float32] = np.where(high < y, high, y)
        return clipped


class _LinearInt8(Prepared):
    def __init__(self, kernel: Kernel, operation: Operation):
        super().__init__(kernel, operation)
        assert isinstance(operation.weight, qsdk.Affine)
        self._steps, self._scale = steps_and_scale(operation.weight)
        if operation.output.is_requantized:
            self._requantizer = Requantizer.of(operation, self._scale)

    def run(self, x: NDArray[Any], out: NDArray[Any]) -> None:
        matrix = x.reshape(out.size // out.shape[-1], x.shape[-1])  # -1 is not for a length of 0
        rows = code_rows(matrix, self.operation.activations)
        accumulator = rows.steps @ self._steps.T
        output = self.operation.output
        if output.form == "float32":
            y: NDArray[Any] = finish(
                accumulator, rows.scale, self._scale, self.operation.bias, output
            )
        elif output.form == "int32":
            y = accumulator
        else:
            y = self._requantizer(accumulator)
        out[...] = y.reshape(out.shape)
