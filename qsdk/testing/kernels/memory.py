"""What a layer must not touch: the memory beside its input and beside its output."""

from __future__ import annotations

import numpy as np

from qsdk.testing.check import Array, require
from qsdk.testing.kernels import inputs
from qsdk.testing.kernels.bench import Bench, same_bits
from qsdk.testing.kernels.cases import promise

MARGIN = 256  # bytes on both sides


def surrounded(array: Array, byte: int) -> tuple[Array, Array]:
    """(a copy of ``array`` in the middle of other bytes, all of those bytes)."""
    whole = np.full(array.nbytes + 2 * MARGIN, byte, np.uint8)
    inside = whole[MARGIN : MARGIN + array.nbytes].view(array.dtype).reshape(array.shape)
    inside[...] = array
    return inside, whole


def edges(whole: Array) -> Array:
    return np.concatenate([whole[:MARGIN], whole[-MARGIN:]])


@promise(inputs.lengths)
def check_nothing_beside_the_input_is_read(bench: Bench, x: Array) -> None:
    """NaN, zeros or anything else before and after the input: the same bits come out."""
    layer, x = bench.layer(x)
    expected = layer(x)
    for byte in (0xFF, 0x00, 0x7F):  # as floats: NaN, 0, 3.4e38
        inside, whole = surrounded(x, byte)
        require(same_bits(layer(inside), expected), "what lies beside the input has an effect")
        require((edges(whole) == byte).all(), "it writes beside the input")


@promise(inputs.lengths)
def check_nothing_beside_the_output_is_written(bench: Bench, x: Array) -> None:
    """Bytes before and after ``out`` stay as they are, and what is in it has no effect."""
    layer, x = bench.layer(x)
    expected = layer(x)
    for byte in (0xFF, 0x5A):
        inside, whole = surrounded(expected, byte)
        whole.fill(byte)
        layer(x, out=inside)
        require((edges(whole) == byte).all(), "it writes beside the output")
        require(same_bits(inside, expected), "what was in out before has an effect")
