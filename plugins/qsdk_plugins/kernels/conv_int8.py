"""``conv`` on affine weights of up to 8 bits and 8-bit input codes, in C: native/conv_int8."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Any, ClassVar

import attrs
import numpy as np
from numpy.typing import NDArray

from qsdk import native
from qsdk.errors import DataError
from qsdk.interfaces import Accumulator, Conv, Kernel, Operation, Prepared
from qsdk_plugins.kernels.conv_prepared import ConvPrepared, Fitted, two_axes
from qsdk_plugins.kernels.instruction_sets import NativeKernel
from qsdk_plugins.kernels.linear_int8 import input_fields, output_fields, result_arrays
from qsdk_plugins.kernels.linear_int8_reference import (
    CODED,
    OUTPUTS,
    overflow,
    steps_and_scale,
    sums_in_32_bits,
)
from qsdk_plugins.kernels.memory import ScratchPool, aligned

INT8 = np.iinfo(np.int8)


class ConvInt8(NativeKernel):
    """Exact where accumulators fit 32 bits."""

    family = "conv-int8"
    folder = "conv_int8"
    operation = "conv"
    encoding = "affine"
    granularity = frozenset({"per_tensor", "per_channel"})
    activations: ClassVar[frozenset[str]] = CODED
    outputs = OUTPUTS
    reference: ClassVar[str] = "conv-int8-reference"

    def refusal(self, operation: Operation) -> str:
        return super().refusal(operation) or overflow(operation) or self._no_room(operation)

    def _no_room(self, operation: Operation) -> str:
        """Why the instructions are not exact for these weights; empty when they are."""
        fits = all(sums.fits for sums in self._sums_of_pairs(operation))
        return "" if fits else "two products of these weights can overflow 16 bits"

    def _sums_of_pairs(self, operation: Operation) -> list[Accumulator]:
        if self.pairs is None:
            return []
        assert isinstance(operation, Conv)
        parts = weight_parts(planar_steps(operation), is_wide=False)
        packed = quads(parts, operation.dilation[-1] > 1)
        return [self.pairs.worst(packed.reshape(len(packed), -1))]

    def accumulators(self, operation: Operation) -> Sequence[Accumulator]:
        return [sums_in_32_bits(operation), *self._sums_of_pairs(operation)]

    def prepare(self, operation: Operation, *, threads: int = 0) -> Prepared:
        return ConvInt8Prepared(self, operation, self.table(), threads)


def planar_steps(operation: Conv) -> NDArray[np.int64]:
    """``codes - zero_point`` (out, channels, height, width), of 1-D ones with a height of 1."""
    steps, _ = steps_and_scale(operation.weight)
    return steps.reshape(*steps.shape[:2], -1, steps.shape[-1])


def weight_parts(steps: NDArray[np.int64], is_wide: bool) -> NDArray[np.int16]:
    """Weights as numbers that the instructions take: 16 bits, or bytes that add up to them.

    Returns (parts, *shape of steps); one part suffices unless 8-bit weights have a zero_point.
    """
    if is_wide:
        return steps[None].astype(np.int16)
    parts = [np.clip(steps, INT8.min, INT8.max)]
    while (rest := steps - sum(parts)).any():
        parts.append(np.clip(rest, INT8.min, INT8.max))
    return np.stack(parts).astype(np.int16)


def quads(parts: NDArray[np.int16], is_dilated: bool) -> NDArray[np.int16]:
    """(parts, out, channels, height, width) to (out, steps, 4), as conv_int8.h orders steps.

    Four of a quad are channels of one place; where there is one channel, places of one row, or
    one of them where they are dilated.
    """
    count, outputs, channels, height, width = parts.shape
    if channels == 1 and width > 1 and is_dilated:
        filled = np.pad(parts[..., None], [(0, 0)] * 5 + [(0, 3)])
    elif channels == 1 and width > 1:
        filled = np.pad(parts, [(0, 0)] * 4 + [(0, -width % 4)])
    else:
        filled = np.pad(parts, [(0, 0), (0, 0), (0, -channels % 4), (0, 0), (0, 0)])
        filled = np.moveaxis(filled.reshape(count, outputs, -1, 4, height, width), 3, -1)
    return np.moveaxis(filled, 0, 1).reshape(outputs, -1, 4)


def pairs(steps: NDArray[np.int64], is_dilated: bool) -> NDArray[np.int16]:
    """(out, 1, height, width) to (out, height, pairs, 2), as conv_int8.h orders weights by row.

    Two of a pair are neighbours of a row, or one weight and 0 where they are dilated.
    """
    row = steps[:, 0].astype(np.int16)
    if is_dilated:
        return np.stack([row, np.zeros_like(row)], axis=-1)
    filled = np.pad(row, [(0, 0), (0, 0), (0, row.shape[-1] % 2)])
    return filled.reshape(*row.shape[:2], -1, 2)


@attrs.frozen(eq=False)
class PackedWeight:
    """What contexts of all sizes of images share.

    fields : of ``struct qsdk_conv_int8``
    steps : how many offsets it needs, at least
    keep : the arrays that the fields point to
    """

    fields: dict[str, Any]
    steps: int
    keep: list[NDArray[Any]]

    @classmethod
    def of(cls, operation: Conv, table: Any, workers: int) -> PackedWeight:
        ffi, lib = native.library().ffi, native.library().lib
        steps = planar_steps(operation)
        groups, is_wide = operation.groups, bool(lib.qsdk_conv_int8_is_wide(table))
        outputs = len(steps) // groups
        block = min(int(lib.qsdk_conv_int8_block(table)), 1 << (outputs - 1).bit_length())
        blocks = -(-outputs // block)

        def per_group(values: NDArray[Any]) -> NDArray[Any]:
            """(out, ...) to (groups, blocks, block, ...), filled up with zeros."""
            given = values.reshape(groups, outputs, *values.shape[1:])
            fill = [(0, 0), (0, blocks * block - outputs)] + [(0, 0)] * (values.ndim - 1)
            return np.pad(given, fill).reshape(groups, blocks, block, *values.shape[1:])

        parts = weight_parts(steps, is_wide)
        is_dilated = operation.dilation[-1] > 1
        geometry = {
            "set": table, "groups": groups, "channels": steps.shape[1], "outputs": outputs,
            "kernel": steps.shape[2:], **two_axes(operation),
        }  # fmt: skip
        if lib.qsdk_conv_int8_pairs(ffi.new("struct qsdk_conv_int8 *", geometry)):
            packed = per_group(pairs(steps, is_dilated))
        else:
            packed = np.moveaxis(per_group(quads(parts, is_dilated)), 2, 3)
            packed = packed[..., [0, 2, 1, 3]] if is_wide else packed.astype(np.int8)
        weights = aligned(packed.nbytes)
        weights[:] = np.ascontiguousarray(packed).reshape(-1).view(np.uint8)
        arrays = {"weights": weights, "sums": per_group(steps.sum(axis=(1, 2, 3), dtype=np.int32))}
        for name in ("addend", "mantissa", "right"):  # unless requantized
            arrays[name] = np.zeros(groups * blocks * block, np.int64)
        for name, array in result_arrays(operation).items():
            arrays[name] = np.ascontiguousarray(per_group(array[: len(steps)]))
        fields = {
            **geometry, "block": block, "blocks": blocks, "repeats": len(parts),
            "workers": workers, **output_fields(lib, operation),
            **{name: ffi.cast("void *", array.ctypes.data) for name, array in arrays.items()},
        }  # fmt: skip
        return cls(fields, packed.shape[2], list(arrays.values()))


class ConvInt8Prepared(ConvPrepared):
    """A packed weight, and offsets into images of each size."""

    def __init__(self, kernel: Kernel, operation: Operation, table: Any, threads: int):
        super().__init__(kernel, operation, native.library().lib.qsdk_conv_int8_run, threads)
        assert isinstance(operation, Conv)
        self._weight = PackedWeight.of(operation, table, threads or os.cpu_count() or 1)

    def fit(self, x: NDArray[Any], result: tuple[int, ...]) -> Fitted:
        ffi, lib = native.library().ffi, native.library().lib
        offsets = np.zeros(self._weight.steps, np.uint64)
        context = ffi.new("struct qsdk_conv_int8 *", {
            **self._weight.fields,
            **input_fields(lib, self.operation, x.dtype),
            "height": x.shape[2] if x.ndim == 4 else 1,
            "width": x.shape[-1],
            "offsets": ffi.cast("void *", offsets.ctypes.data),
        })  # fmt: skip
        if lib.qsdk_conv_int8_fit(context):
            raise DataError(f"images of shape {x.shape[1:]} are too large; give smaller ones")
        at = ffi.new("struct qsdk_conv_int8_vector[]", context.vectors)
        context.at = at
        lib.qsdk_conv_int8_place(context)
        pool = ScratchPool(lambda images: int(lib.qsdk_conv_int8_scratch(context, images)))
        return Fitted(context, (offsets, at), result, pool)
