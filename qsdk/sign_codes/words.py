"""Bits, 64 to a word."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Words = NDArray[np.uint64]
WORD = 64  # bits


def pack_words(bits: NDArray[np.bool_]) -> Words:
    """Bits along the last axis into words, the first into the lowest place, the rest 0.

    >>> pack_words(np.array([[True, False, True]])).tolist()
    [[5]]
    """
    length = bits.shape[-1]
    words = -(-length // WORD)
    octets = np.zeros((*bits.shape[:-1], words * 8), np.uint8)
    octets[..., : -(-length // 8)] = np.packbits(bits, axis=-1, bitorder="little")
    return octets.view("<u8").astype(np.uint64, copy=False)


def unpack_words(words: Words, length: int) -> NDArray[np.uint8]:
    """The inverse of :func:`pack_words`: 0 or 1 for each of ``length`` bits."""
    octets = np.ascontiguousarray(words, "<u8").view(np.uint8)
    return np.unpackbits(octets, axis=-1, count=length, bitorder="little")
