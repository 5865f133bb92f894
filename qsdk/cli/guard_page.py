"""Memory that ends where the process may not read on: one byte too far is a crash."""

from __future__ import annotations

import ctypes
import mmap
from typing import Any

import numpy as np
from numpy.typing import NDArray

PAGE = mmap.PAGESIZE


def at_page_end(array: NDArray[Any]) -> NDArray[Any]:
    """A copy of ``array`` that ends where a page begins that nobody may touch.

    For a process of its own only. Where pages cannot be protected it is a plain copy.
    """
    protect = getattr(ctypes.CDLL(None), "mprotect", None) if hasattr(mmap, "PROT_READ") else None
    if protect is None or not array.nbytes:
        return array.copy()
    size = -(-array.nbytes // PAGE) * PAGE
    memory = mmap.mmap(-1, size + PAGE)
    whole = np.frombuffer(memory, np.uint8)
    end = whole.ctypes.data + size
    if protect(ctypes.c_void_p(end), ctypes.c_size_t(PAGE), 0):
        return array.copy()
    copy = whole[size - array.nbytes : size].view(array.dtype).reshape(array.shape)
    copy[...] = array
    return copy
