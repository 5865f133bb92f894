"""``conv`` on binary codes: limits, packing, the C call."""

from __future__ import annotations

import math
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from qsdk import native
from qsdk.interfaces import Conv, InputForm, Kernel, Operation, Prepared
from qsdk_plugins.kernels import linear_binary
from qsdk_plugins.kernels.conv_prepared import ConvPrepared, Fitted, two_axes
from qsdk_plugins.kernels.instruction_sets import NativeKernel
from qsdk_plugins.kernels.linear_binary import SignPlanes
from qsdk_plugins.kernels.memory import ScratchPool, aligned


def refusal(operation: Operation) -> str:
    """What no kernel of binary convolution takes, in C or not."""
    group = int(str(operation.weight.arrays()[1]["group_size"]))
    length = math.prod(operation.weight.shape[1:])
    if 0 < group < length:
        return (
            f"takes alphas per channel or per tensor, not per group of {group}: "
            "such groups end between places of the kernel"
        )
    return linear_binary.refusal(operation)


class ConvBinary(NativeKernel):
    """Signs in the weight and in the input.

    Channels of a group fill up whole words (AVX2: bytes) and its outputs whole blocks of 8 to 64:
    groups of few channels, depthwise ones above all, are right, and slow.
    """

    family = "conv-binary"
    folder = "conv_binary"
    operation = "conv"
    encoding = "binary_coded"
    activations: ClassVar[frozenset[str]] = frozenset({InputForm.BINARY})
    reference: ClassVar[str] = "conv-binary-reference"

    def refusal(self, operation: Operation) -> str:
        return super().refusal(operation) or refusal(operation)

    def prepare(self, operation: Operation, *, threads: int = 0) -> Prepared:
        return ConvBinaryPrepared(self, operation, self.table(), threads)


def lanes(positive: NDArray[np.bool_], lane_bytes: int) -> NDArray[Any]:
    """Bits of the last axis as whole numbers of 1 or 8 bytes, the first bit lowest."""
    octets = np.packbits(positive, axis=-1, bitorder="little")
    fill = [(0, 0)] * (octets.ndim - 1) + [(0, -octets.shape[-1] % lane_bytes)]
    filled = np.ascontiguousarray(np.pad(octets, fill))
    return filled.view(f"<u{lane_bytes}").astype(f"u{lane_bytes}", copy=False)


def by_block(values: NDArray[Any], groups: int, block: int) -> NDArray[Any]:
    """(planes, out, ...) to (groups, blocks, planes, block, ...), filled up with zeros."""
    planes, outputs, *rest = values.shape
    outputs //= groups
    blocks = -(-outputs // block)
    fill = [(0, 0), (0, 0), (0, blocks * block - outputs)] + [(0, 0)] * len(rest)
    filled = np.pad(values.reshape(planes, groups, outputs, *rest), fill)
    return np.moveaxis(filled.reshape(planes, groups, blocks, block, *rest), 0, 2)


def pack(weight: SignPlanes, conv: Conv, block: int, lane_bytes: int) -> NDArray[np.uint8]:
    """(groups, blocks, planes, places of the kernel, lanes, block), at a cache line."""
    _, channels, *kernel = conv.weight.shape
    digits = weight.digits().reshape(weight.planes, weight.rows, channels, math.prod(kernel))
    numbers = lanes(np.moveaxis(digits, 2, 3) > 0, lane_bytes)
    ordered = np.moveaxis(by_block(numbers, conv.groups, block), 3, -1)
    memory = aligned(ordered.nbytes)
    memory[:] = np.ascontiguousarray(ordered).reshape(-1).view(np.uint8)
    return memory


class ConvBinaryPrepared(ConvPrepared):
    """A packed weight, for images of any size."""

    def __init__(self, kernel: Kernel, operation: Operation, table: Any, threads: int):
        ffi, lib = native.library().ffi, native.library().lib
        super().__init__(kernel, operation, lib.qsdk_conv_binary_run, threads)
        assert isinstance(operation, Conv)
        weight, form, bias = SignPlanes.of(operation.weight), operation.activations, operation.bias
        block = int(lib.qsdk_conv_binary_block_rows(table))
        weights = pack(weight, operation, block, int(lib.qsdk_conv_binary_lane_bytes(table)))
        alpha = np.ascontiguousarray(by_block(weight.alpha[..., 0], operation.groups, block))
        kernel_lengths = operation.weight.shape[2:]
        axes = two_axes(operation)
        self._fields = {
            "set": table,
            "groups": operation.groups,
            "channels": operation.weight.shape[1],
            "outputs": weight.rows // operation.groups,
            "kernel": (1, *kernel_lengths)[-2:],
            **{word: axes[word] for word in ("stride", "dilation", "begin")},
            "planes": weight.planes,
            "bits": form.bits,
            "cycles": form.cycles,
            "scale_map": form.scale_map,
            "weights": ffi.from_buffer("uint8_t[]", weights),
            "alpha": ffi.from_buffer("float[]", alpha),
            "bias": ffi.NULL if bias is None else ffi.from_buffer("float[]", bias),
            "low": operation.output.clip[0],
            "high": operation.output.clip[1],
        }

    def fit(self, x: NDArray[Any], result: tuple[int, ...]) -> Fitted:
        ffi, lib = native.library().ffi, native.library().lib
        height, width = (1, *x.shape[2:])[-2:]
        out_height, out_width = (1, *result[1:])[-2:]
        sizes = {
            "height": height, "width": width, "out_height": out_height, "out_width": out_width,
        }  # fmt: skip
        context = ffi.new("qsdk_conv_binary *", {**self._fields, **sizes})
        pool = ScratchPool(lambda images: int(lib.qsdk_conv_binary_scratch(context, images)))
        return Fitted(context, self._fields, result, pool)
