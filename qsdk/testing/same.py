"""Equal to the bit: encodings, and named arrays of any kind."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from qsdk.encodings import Encoding
from qsdk.testing.check import require

Bits = dict[str, tuple[str, tuple[int, ...], bytes]]


def array_bits(arrays: Mapping[str, NDArray[Any]]) -> Bits:
    """Type, shape and bytes of each array, as they are now."""
    return {
        name: (str(array.dtype), array.shape, np.ascontiguousarray(array).tobytes())
        for name, array in arrays.items()
    }


def bits_of(encoding: Encoding) -> tuple[Bits, dict[str, Any], bytes]:
    """Everything that an encoding holds, and what it decodes to."""
    arrays, values = encoding.arrays()
    return array_bits(arrays), dict(values), encoding.dequantize().tobytes()


def require_same(ours: Encoding, theirs: Encoding, what: str) -> None:
    """Both must hold the same arrays and values, and decode to the same bits."""
    here, there = bits_of(ours), bits_of(theirs)
    if here == there:
        return
    for name in here[0].keys() | there[0].keys():
        require(here[0].get(name) == there[0].get(name), f"{what} differ in {name!r}")
    require(here[1] == there[1], f"{what} differ in their values: {here[1]} and {there[1]}")
    require(False, f"{what} decode differently")
