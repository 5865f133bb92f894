"""``linear`` on affine weights of up to 8 bits and 8-bit input codes, in C: native/linear_int8."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar

import attrs
import numpy as np
from numpy.typing import NDArray

import qsdk
from qsdk import native
from qsdk.interfaces import Accumulator, InputForm, Operation, Prepared
from qsdk_plugins.kernels.instruction_sets import NativeKernel
from qsdk_plugins.kernels.linear_int8_reference import (
    CODED,
    OUTPUTS,
    Requantizer,
    overflow,
    steps_and_scale,
    sums_in_32_bits,
)
from qsdk_plugins.kernels.memory import aligned
from qsdk_plugins.kernels.native_prepared import NativePrepared

LANES = 16  # outputs of a block of packed weights
HALVES = 128  # unsigned bytes become signed ones by taking off so much


class LinearInt8(NativeKernel):
    """Exact where accumulators fit 32 bits."""

    family = "linear-int8"
    folder = "linear_int8"
    operation = "linear"
    encoding = "affine"
    granularity = frozenset({"per_tensor", "per_channel"})
    activations: ClassVar[frozenset[str]] = CODED
    outputs = OUTPUTS
    reference: ClassVar[str] = "linear-int8-reference"

    def refusal(self, operation: Operation) -> str:
        return super().refusal(operation) or overflow(operation) or self._no_room(operation)

    def _no_room(self, operation: Operation) -> str:
        """Why the instructions are not exact for these weights; empty when they are."""
        if self.pairs is None or self.unavailable():
            return ""
        codes, _ = signed_codes(operation.weight)
        library = native.library()
        fits = library.lib.qsdk_linear_int8_fits(
            self.table(), library.ffi.from_buffer("int8_t[]", codes), *codes.shape
        )
        return "" if fits else "two products of these weights can overflow 16 bits"

    def accumulators(self, operation: Operation) -> Sequence[Accumulator]:
        sums = [sums_in_32_bits(operation)]
        if self.pairs is not None:
            codes, _ = signed_codes(operation.weight)
            sums.append(self.pairs.worst(codes))
        return sums

    def prepare(self, operation: Operation, *, threads: int = 0) -> Prepared:
        lib = native.library().lib
        outputs, inputs = operation.weight.shape
        weights = aligned(lib.qsdk_linear_int8_packed_bytes(inputs, outputs))  # alike for all
        layers = {
            dtype: PackedLayer.of(operation, self.table(), dtype, weights)
            for dtype in input_dtypes(operation)
        }
        context = next(iter(layers.values())).context
        return NativePrepared(
            self,
            operation,
            run=lib.qsdk_linear_int8_run,
            contexts={dtype: layer.context for dtype, layer in layers.items()},
            scratch_bytes=lambda rows: int(lib.qsdk_linear_int8_scratch(context, rows)),
            keep=layers,
            threads=threads,
        )


def input_dtypes(operation: Operation) -> list[np.dtype[Any]]:
    """What arrays a layer takes without conversion."""
    activations = operation.activations
    codes = [np.dtype(activations.dtype)] if activations.is_fixed else []
    return [np.dtype(np.float32), *codes]


def signed_codes(weight: Any) -> tuple[NDArray[np.int8], NDArray[np.int32]]:
    """Codes (out, k) and a zero_point per output, both moved so that codes are int8."""
    move = HALVES if weight.scheme.qmax > np.iinfo(np.int8).max else 0
    codes = np.ascontiguousarray(weight.codes.astype(np.int16) - move, np.int8)
    zeros = np.broadcast_to(weight.zero_point, weight.shape[:1]).astype(np.int32)
    return codes, zeros - move


@attrs.frozen(eq=False)
class PackedLayer:
    """A ``struct qsdk_linear_int8`` and the arrays that it points to."""

    context: Any
    arrays: tuple[NDArray[Any], ...]

    @classmethod
    def of(
        cls, operation: Operation, table: Any, dtype: np.dtype[Any], weights: NDArray[np.uint8]
    ) -> PackedLayer:
        """operation : one that no refusal speaks against
        dtype : of the input
        weights : is filled
        """
        assert isinstance(operation.weight, qsdk.Affine)
        ffi, lib = native.library().ffi, native.library().lib
        codes, zeros = signed_codes(operation.weight)
        outputs, inputs = codes.shape
        sums, start = (
            per_output(np.zeros(outputs, np.int32)),
            per_output(np.zeros(outputs, np.int32)),
        )
        arrays = {
            "weights": weights, "sums": sums, "start": start, "zeros": per_output(zeros),
            **result_arrays(operation),
        }  # fmt: skip
        layer = ffi.new("struct qsdk_linear_int8 *", {
            "set": table,
            "inputs": inputs, "outputs": outputs, "has_zeros": bool(zeros.any()),
            **{name: ffi.cast("void *", array.ctypes.data) for name, array in arrays.items()},
            **input_fields(lib, operation, dtype), **output_fields(lib, operation),
        })  # fmt: skip
        lib.qsdk_linear_int8_pack(
            layer, ffi.from_buffer("int8_t[]", codes), ffi.from_buffer("uint8_t[]", weights),
            ffi.from_buffer("int32_t[]", sums), ffi.from_buffer("int32_t[]", start),
        )  # fmt: skip
        return cls(layer, tuple(arrays.values()))


def input_fields(lib: Any, operation: Operation, dtype: np.dtype[Any]) -> dict[str, Any]:
    activations = operation.activations
    if not activations.is_fixed:
        form = lib.QSDK_LINEAR_INT8_ROWS
    elif dtype == np.float32:
        form = lib.QSDK_LINEAR_INT8_FIXED
    else:
        form = lib.QSDK_LINEAR_INT8_CODES
    return {
        "input": form,
        "input_signed": activations.form in (InputForm.INT8, InputForm.FIXED_INT8),
        "input_scale": activations.scale,
        "input_zero": activations.zero_point if activations.is_fixed else 0,
    }


def output_fields(lib: Any, operation: Operation) -> dict[str, Any]:
    output = operation.output
    forms = {"float32": lib.QSDK_LINEAR_INT8_FLOAT, "int32": lib.QSDK_LINEAR_INT8_INT32}
    scheme = output.scheme
    low, high = qsdk.clip_codes(
        output.clip, output.scale, output.zero_point, scheme.qmin, scheme.qmax
    )
    return {
        "output": forms.get(output.form, lib.QSDK_LINEAR_INT8_REQUANTIZED),
        "output_zero": output.zero_point, "output_low": low, "output_high": high,
        "low": output.clip[0], "high": output.clip[1],
    }  # fmt: skip


def result_arrays(operation: Operation) -> dict[str, NDArray[Any]]:
    """What turns accumulators into results, per output."""
    _, scale = steps_and_scale(operation.weight)
    # y + -0.0 is y for every y: no bias needs no second loop.
    bias = np.full(len(scale), -0.0, np.float32) if operation.bias is None else operation.bias
    arrays = {"scale": per_output(scale), "bias": per_output(bias)}
    if operation.output.is_requantized:
        made = Requantizer.of(operation, scale)
        addend, mantissa, right = made.shifted()
        arrays |= {
            "addend": per_output(addend), "mantissa": per_output(mantissa),
            "right": per_output(right),
        }  # fmt: skip
    return arrays


def per_output(values: NDArray[Any]) -> NDArray[Any]:
    """``values`` and zeros after them, to a whole block."""
    return np.pad(values, (0, -len(values) % LANES))
