"""Memory that C works in: aligned to cache lines, and scratch that calls take turns with."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from qsdk import native

ALIGNMENT = 64
Scratch = tuple[int, Any, NDArray[np.uint8]]  # what it suffices for, the pointer, the memory


def aligned(nbytes: int) -> NDArray[np.uint8]:
    """So many bytes that start at a cache line."""
    block = np.empty(nbytes + ALIGNMENT, np.uint8)
    start = -block.ctypes.data % ALIGNMENT
    return block[start : start + nbytes]


class ScratchPool:
    """Each call takes scratch of its own and gives it back: several may run at once.

    nbytes : how much a call on so many rows or images needs; more never need less
    """

    def __init__(self, nbytes: Callable[[int], int]):
        self.nbytes = nbytes
        self._free: list[Scratch] = []
        self.give = self._free.append

    def take(self, count: int) -> Scratch:
        try:
            scratch = self._free.pop()
        except IndexError:
            pass
        else:
            if scratch[0] >= count:
                return scratch
        memory = aligned(int(self.nbytes(count)))
        return count, native.library().ffi.cast("void *", memory.ctypes.data), memory
