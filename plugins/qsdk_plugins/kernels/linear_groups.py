"""``linear`` on 2 to 8 bit weights in groups, in C: int8 codes made inside the call, or floats.

What is computed, and the memory order of the weight, stand in native/linear_groups. A weight with
one scale per row or in all is one group per row.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import attrs
import numpy as np
from numpy.typing import NDArray

import qsdk
from qsdk import native
from qsdk.interfaces import Accumulator, InputForm, Operation, Prepared
from qsdk_plugins.kernels.instruction_sets import NativeKernel
from qsdk_plugins.kernels.memory import aligned
from qsdk_plugins.kernels.native_prepared import NativePrepared

COLUMNS = 16  # in a block
LARGEST_CODE = 128  # of the input, in magnitude
TO_7_BITS = frozenset(range(2, 8))  # for two products in 16 bits, or for signed bytes


class LinearGroups(NativeKernel):
    """Scaled group by group, so that each may have a scale of its own.

    in_16_bits : by the width of a stored code, how many sums of two products the instruction set
        adds up in 16 bits; empty where it adds none there
    """

    in_16_bits: ClassVar[Mapping[int, int]] = {}

    family = "linear-groups"
    folder = "linear_groups"
    reference: ClassVar[str] = "linear-groups-reference"

    operation = "linear"
    encoding = "affine"
    bits = frozenset({*TO_7_BITS, 8})
    group_multiple = 16
    activations: ClassVar[frozenset[str]] = frozenset({"float32", "int8"})

    def refusal(self, operation: Operation) -> str:
        if why := super().refusal(operation):
            return why
        assert isinstance(operation.weight, qsdk.Affine)
        scheme = operation.weight.scheme
        if operation.activations.form is InputForm.FLOAT32:
            return ""
        if scheme.group_size is None and scheme.bits > 4:
            return f"codes the input for groups, or for 4 bits and fewer, not for {scheme.bits}"
        group = _group(operation.weight)
        if group * LARGEST_CODE * (2**scheme.bits - 1) > np.iinfo(np.int32).max:
            return f"sums in int32, which groups of {group} can overflow"
        return ""

    def accumulators(self, operation: Operation) -> Sequence[Accumulator]:
        weight = operation.weight
        assert isinstance(weight, qsdk.Affine)
        if operation.activations.form is InputForm.FLOAT32:
            return []
        units, width = _units(weight), _width(weight.scheme.bits)
        groups = _in_groups(units, _group(weight))
        worst = qsdk.worst_sums(groups, -LARGEST_CODE, LARGEST_CODE - 1)
        sums = [Accumulator(bits=32, worst=int(worst.max(initial=0)), adds="a group")]
        if width in self.in_16_bits:
            count = self.in_16_bits[width]
            pairs = qsdk.worst_pairs(groups, -LARGEST_CODE, LARGEST_CODE - 1, neighbours=False)
            worst_16 = count * int(pairs.max(initial=0))
            adds = "pairs" if count == 1 else f"{count} pairs"
            sums.append(Accumulator(bits=16, worst=worst_16, adds=adds))
        return sums

    def prepare(self, operation: Operation, *, threads: int = 0) -> Prepared:
        library = native.library()
        packed = PackedGroups.of(operation)
        layer = packed.context(operation, self.table())
        coded = operation.activations.form is InputForm.INT8
        lib = library.lib
        return NativePrepared(
            self,
            operation,
            run=lib.qsdk_linear_groups_run if coded else lib.qsdk_linear_groups_run_floats,
            contexts={np.dtype(np.float32): layer},
            scratch_bytes=lambda rows: lib.qsdk_linear_groups_scratch(layer, rows),
            keep=packed,
            threads=threads,
        )


def _group(weight: qsdk.Affine) -> int:
    """Length of a group as the C code knows it: a multiple of 16, one group where it is all."""
    length = max(weight.shape[1], 1)
    return -(-min(weight.scheme.group_size or length, length) // COLUMNS) * COLUMNS


def _lowest(weight: qsdk.Affine) -> int:
    """The code that is stored as 0, also of a narrow grid."""
    return -(2 ** (weight.scheme.bits - 1)) if weight.scheme.signed else 0


def _units(weight: qsdk.Affine) -> NDArray[np.uint8]:
    """Codes (out, k) from 0 on."""
    return (weight.codes.astype(np.int16) - _lowest(weight)).astype(np.uint8)


def _width(bits: int) -> int:
    """Bits that a stored code takes."""
    return 2 if bits == 2 else 4 if bits <= 4 else 8


def _in_groups(units: NDArray[np.uint8], group: int) -> NDArray[np.uint8]:
    """(out, k) as (out * groups, group), filled up with zeros."""
    filled = np.pad(units, [(0, 0), (0, -units.shape[1] % max(group, 1))])
    return filled.reshape(-1, group) if filled.size else np.zeros((0, 0), np.uint8)


@attrs.frozen(eq=False)
class PackedGroups:
    """A weight in the memory order of native/linear_groups.

    codes : uint8, the packed units
    scale : float32, (blocks, groups, 16)
    zeros : uint8, (blocks, groups, 16); None where all are ``zero``
    bias : float32, (blocks, 16)
    """

    codes: NDArray[np.uint8]
    scale: NDArray[np.float32]
    zeros: NDArray[np.uint8] | None
    zero: int
    bias: NDArray[np.float32]
    width: int

    @classmethod
    def of(cls, operation: Operation) -> PackedGroups:
        weight = operation.weight
        assert isinstance(weight, qsdk.Affine)
        channels = weight.shape[0]
        zeros = (weight.zero_point.astype(np.int16) - _lowest(weight)).astype(np.uint8)
        alike = not zeros.size or (zeros == zeros.flat[0]).all()
        bias = np.zeros(channels, np.float32) if operation.bias is None else operation.bias
        width = _width(weight.scheme.bits)
        return cls(
            _pack(_units(weight), width),
            _blocks(weight.scale, channels),
            None if alike else _blocks(zeros, channels),
            int(zeros.flat[0]) if zeros.size else 0,
            _blocks(bias, channels),
            width,
        )

    def context(self, operation: Operation, table: Any) -> Any:
        """The struct that C gets, for :meth:`of` the same operation."""
        library = native.library()
        ffi, weight = library.ffi, operation.weight
        assert isinstance(weight, qsdk.Affine)
        arrays: Mapping[str, NDArray[Any] | None] = {
            "codes": self.codes, "scale": self.scale, "zeros": self.zeros, "bias": self.bias
        }  # fmt: skip
        low, high = operation.output.clip
        layer = ffi.new("struct qsdk_linear_groups *")
        for name, array in arrays.items():
            if array is not None:
                setattr(layer, name, ffi.cast("void *", array.ctypes.data))
        layer.set = table
        layer.columns, layer.length = weight.shape
        layer.group, layer.groups = _group(weight), self.scale.shape[1]
        layer.width, layer.zero = self.width, self.zero
        layer.low, layer.high = np.float32(low), np.float32(high)
        return layer


def _blocks(params: NDArray[Any], channels: int) -> NDArray[Any]:
    """(blocks, groups, 16) from (), (channels,) or (channels, groups), with zeros at the end."""
    if params.ndim < 2:
        params = np.broadcast_to(params, (channels,))[:, None]
    blocks = -(-channels // COLUMNS)
    padded = np.zeros((blocks * COLUMNS, params.shape[1]), params.dtype)
    padded[:channels] = params
    in_blocks = padded.reshape(blocks, COLUMNS, params.shape[1]).transpose(0, 2, 1)
    return _aligned(np.ascontiguousarray(in_blocks))


def _pack(codes: NDArray[np.uint8], width: int) -> NDArray[np.uint8]:
    library = native.library()
    ffi, lib = library.ffi, library.lib
    codes = np.ascontiguousarray(codes)
    packed = aligned(lib.qsdk_linear_groups_packed(*codes.shape, width))
    lib.qsdk_linear_groups_pack(
        ffi.from_buffer("uint8_t[]", codes), *codes.shape, width,
        ffi.from_buffer("uint8_t[]", packed),
    )  # fmt: skip
    return packed


def _aligned(array: NDArray[Any]) -> NDArray[Any]:
    """A copy whose data begins at a cache line."""
    copy = aligned(array.nbytes).view(array.dtype).reshape(array.shape)
    copy[...] = array
    return copy
