"""How often values lie where, in one pass, added to what was counted before."""

from __future__ import annotations

import threading
from typing import Any

import numpy as np
from numpy.typing import NDArray

from qsdk.errors import NativeError
from qsdk.native.arguments import FLOAT32, INT32, INT64, check, pointer
from qsdk.native.door import functions, library

MOST_BINS = 2**20  # on each side of zero, that a histogram in C may have


class Counter:
    """Counts at ``floor(x * bins / 2**exponent) + bins``, as if that were exact, in given arrays.

    counts : int64, (2 * bins,), over ``[-2**exponent, 2**exponent)``; bins is a power of two from
        2 to MOST_BINS. The range doubles until it holds all values
    exponent : int32, (1,): as small as it can be; the least int32 where only zeros were seen
    zeros : int64, (1,): values that are 0, which are in no bin
    """

    def __init__(
        self, counts: NDArray[np.int64], exponent: NDArray[np.int32], zeros: NDArray[np.int64]
    ):
        check("counts", counts, (INT64,), "2 * bins")
        check("exponent", exponent, (INT32,), 1)
        check("zeros", zeros, (INT64,), 1)
        self._bins = counts.size // 2
        if not 2 <= self._bins <= MOST_BINS or counts.size & (counts.size - 1):
            raise NativeError(f"bins is {self._bins}; give a power of two from 2 to {MOST_BINS}")
        self._into = pointer(counts), pointer(exponent), pointer(zeros)
        self._set, self._count = functions(), library().lib.qsdk_histogram_more_portable

    def add(self, values: NDArray[np.float32]) -> NDArray[np.float32] | None:
        """Count values, float32 (n,); memory is read once.

        Returns the least and the greatest of them, float32 (2,), infinity and minus infinity of
        none; None, and nothing changed, if one is not finite.
        """
        check("values", values, (FLOAT32,), "n")
        scratch, ends = _scratch.of(self._bins), np.empty(2, np.float32)
        is_finite = self._count(
            self._set,
            pointer(values),
            values.size,
            self._bins,
            *scratch,
            *self._into,
            pointer(ends),
        )
        return ends if is_finite else None


class _Scratch(threading.local):
    """Memory that C counts in: one for each thread, of the bins that were asked for last."""

    _bins = 0
    _held: tuple[Any, ...] = ()

    def of(self, bins: int) -> tuple[Any, ...]:
        """Tables and counts."""
        if bins != self._bins:
            tables, counts = np.empty(4 * (2 * bins + 1), np.uint32), np.empty(2 * bins, np.int64)
            self._bins, self._held = bins, (pointer(tables), pointer(counts))
        return self._held


_scratch = _Scratch()
