"""What the kernels of ``linear`` on binary and ternary codes share: limits, packing, the C call."""

from __future__ import annotations

import math
from typing import Any, ClassVar

import attrs
import numpy as np
from numpy.typing import NDArray

from qsdk import native
from qsdk.encodings import Encoding
from qsdk.interfaces import InputForm, Operation, Output, Prepared, sign_codes_dtype
from qsdk_plugins.kernels.instruction_sets import NativeKernel
from qsdk_plugins.kernels.memory import aligned
from qsdk_plugins.kernels.native_prepared import NativePrepared

WORD = 64
PLANES = 4  # of a weight; 8 are possible, but then 8-bit integers are faster
LONGEST = 2**24 - 1  # a dot product of so many signs is exact in float32
FLOAT32 = np.dtype(np.float32)


@attrs.frozen(eq=False)
class SignPlanes:
    """A weight (rows, values of a row...) of either encoding, as its named arrays tell.

    words : uint64, (parts, planes, rows, words): one part of signs, 1 for +1; or where it is
        ternary two, of the digits that are +1 and of those that are -1
    alpha : float32, (planes, rows, groups)
    group_words : words of a group, of the whole row where it has no groups; at least 1
    """

    words: NDArray[np.uint64]
    alpha: NDArray[np.float32]
    length: int
    group_words: int

    @classmethod
    def of(cls, weight: Encoding) -> SignPlanes:
        arrays, values = weight.arrays()
        rows, *lengths = weight.shape
        length = math.prod(lengths)
        if "planes" in arrays:
            words = arrays["planes"][np.newaxis]
        else:
            words = np.stack([arrays["sign"], arrays["mask"] ^ arrays["sign"]])
        group = values["group_size"]
        assert isinstance(group, int)
        whole = -(-length // WORD)
        count = max(min(group // WORD, whole) if group else whole, 1)
        alpha = arrays["alpha"].reshape(words.shape[1], -1, max(-(-whole // count), 1))
        return cls(
            words, np.broadcast_to(alpha, (words.shape[1], rows, alpha.shape[2])), length, count
        )

    @property
    def ternary(self) -> bool:
        return len(self.words) == 2

    @property
    def planes(self) -> int:
        return len(self.alpha)

    @property
    def rows(self) -> int:
        return int(self.words.shape[2])

    @property
    def groups(self) -> int:
        return -(-int(self.words.shape[3]) // self.group_words)

    def group(self, number: int) -> slice:
        """The places of a group."""
        size = WORD * self.group_words
        return slice(number * size, min((number + 1) * size, self.length))

    def digits(self) -> NDArray[np.int8]:
        """-1, 0 or 1, (planes, rows, length)."""
        octets = np.ascontiguousarray(self.words, "<u8").view(np.uint8)
        bits = np.unpackbits(octets, axis=-1, count=self.length, bitorder="little").view(np.int8)
        digits: NDArray[np.int8] = bits[0] - bits[1] if self.ternary else 2 * bits[0] - 1
        return digits

    def by_block(self, values: NDArray[Any], block: int) -> NDArray[Any]:
        """(planes, rows, groups) as (blocks, groups, planes, rows of a block), padded with 0."""
        blocks = -(-self.rows // block)
        padded = np.zeros((self.planes, blocks * block, self.groups), values.dtype)
        padded[:, : self.rows] = values[..., : self.groups]
        shaped = padded.reshape(self.planes, blocks, block, self.groups)
        return np.ascontiguousarray(shaped.transpose(1, 3, 0, 2))

    def places(self) -> NDArray[np.int32]:
        """How many digits of each group are not 0, (planes, rows, groups)."""
        present = np.abs(self.digits())
        found = np.zeros((*present.shape[:2], self.groups), np.int32)  # no group in a length of 0
        for g in range(self.groups):
            found[..., g] = present[..., self.group(g)].sum(axis=-1)
        return found


def refusal(operation: Operation) -> str:
    """What no kernel of binary or ternary codes takes, in C or not."""
    values = operation.weight.arrays()[1]
    planes = int(str(values["bits"])) // (2 if operation.weight.name == "ternary" else 1)
    if planes > PLANES:
        return f"takes {PLANES} planes at most, not {planes}"
    if values["granularity"] != "per_tensor" and values["axis"] not in (
        0,
        -len(operation.weight.shape),
    ):
        return f"takes channels on axis 0, not {values['axis']}"
    group = int(str(values["group_size"]))
    length = math.prod(operation.weight.shape[1:])
    if group % WORD and group < length:
        return f"takes groups of a multiple of {WORD}, not {group}"
    if length > LONGEST:
        return f"takes {LONGEST} inputs at most, not {length}"
    return ""


def records(operation: Operation) -> np.dtype[Any] | None:
    """The codes that a layer takes beside floats; None for a layer on floats."""
    form = operation.activations
    if form.form is not InputForm.BINARY:
        return None
    return sign_codes_dtype(form.bits, operation.weight.shape[1])


def clip(y: NDArray[np.float32], output: Output) -> NDArray[np.float32]:
    """Into the output's limits; NaN stays."""
    low, high = (np.float32(end) for end in output.clip)
    clipped: NDArray[np.float32] = np.minimum(np.maximum(y, low), high)
    return clipped


class LinearBinary(NativeKernel):
    """Signs in the weight; signs or floats in the input."""

    family = "linear-binary"
    folder = "linear_binary"
    operation = "linear"
    encoding = "binary_coded"
    activations: ClassVar[frozenset[str]] = frozenset({InputForm.BINARY, InputForm.FLOAT32})
    reference: ClassVar[str] = "linear-binary-reference"

    def refusal(self, operation: Operation) -> str:
        return super().refusal(operation) or refusal(operation)

    def prepare(self, operation: Operation, *, threads: int = 0) -> Prepared:
        ffi, lib = native.library().ffi, native.library().lib
        weight, form = SignPlanes.of(operation.weight), operation.activations
        layer = ffi.new("qsdk_linear_binary *")
        layer.set = self.table()
        layer.rows, layer.length, layer.group_words = weight.rows, weight.length, weight.group_words
        layer.planes, layer.parts = weight.planes, len(weight.words)
        layer.bits = form.bits if form.form is InputForm.BINARY else 0
        layer.cycles = form.cycles
        block = lib.qsdk_linear_binary_block_rows(layer.set, layer.bits)
        packed = aligned(lib.qsdk_linear_binary_packed(layer))
        words = np.ascontiguousarray(weight.words)
        lib.qsdk_linear_binary_pack(
            layer, ffi.from_buffer("uint64_t[]", words), ffi.from_buffer("uint8_t[]", packed)
        )
        keep = [layer, packed]

        def give(word: str, ctype: str, array: NDArray[Any]) -> None:
            keep.append(array)
            setattr(layer, word, ffi.from_buffer(ctype, array))

        give("weights", "uint8_t[]", packed)
        give("alpha", "float[]", weight.by_block(weight.alpha, block))
        if weight.ternary:
            give("places", "int32_t[]", weight.by_block(weight.places(), block))
        if operation.bias is not None:
            give("bias", "float[]", operation.bias)
        layer.low, layer.high = operation.output.clip
        contexts = {FLOAT32: layer}
        codes = records(operation)
        if codes is not None:
            contexts[codes] = ffi.new("qsdk_linear_binary *", layer[0])
            contexts[codes].coded = 1
        return NativePrepared(
            self,
            operation,
            run=lib.qsdk_linear_binary_run,
            contexts=contexts,
            codes=codes,
            scratch_bytes=lambda rows: int(lib.qsdk_linear_binary_scratch(layer, rows)),
            keep=keep,
            threads=threads,
        )


class LinearTernary(LinearBinary):
    """The same for ternary weights."""

    family = "linear-ternary"
    encoding = "ternary"
    reference = "linear-ternary-reference"
