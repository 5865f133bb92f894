"""How often values lie where, in one pass, added to what was counted before."""

from __future__ import annotations

import threading
from collections.abc import Sequence
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
        # The struct does not keep alive what it points to.
        self._held = pointer(counts), pointer(exponent), pointer(zeros)
        self._job = library().ffi.new("struct qsdk_counting *")
        self._job.counts, self._job.exponent, self._job.zeros = self._held
        self._job.bins = self._bins

    def add(self, values: NDArray[np.float32]) -> tuple[float, float] | None:
        """Count values, float32 (n,); memory is read once.

        Returns the least and the greatest of them, infinity and minus infinity of none; None, and
        nothing changed, if one is not finite.
        """
        return count_each([self], [values])[0]


def count_each(
    counters: Sequence[Counter], values: Sequence[NDArray[np.float32]]
) -> list[tuple[float, float] | None]:
    """:meth:`Counter.add` for each, in one call of C."""
    jobs = library().ffi.new("struct qsdk_counting[]", len(counters))
    held = []
    for i, (counter, floats) in enumerate(zip(counters, values, strict=True)):
        check("values", floats, (FLOAT32,), "n")
        held.append(pointer(floats))
        jobs[i] = counter._job[0]
        jobs[i].x, jobs[i].n = held[-1], floats.size
    scratch = _scratch.of(max((counter._bins for counter in counters), default=0))
    library().lib.qsdk_histogram_each_portable(functions(), jobs, len(counters), *scratch)
    return [(job.low, job.high) if job.is_finite else None for job in jobs]


class _Scratch(threading.local):
    """Memory that C counts in: one for each thread, of the most bins that were asked for."""

    _bins = 0
    _held: tuple[Any, ...] = ()

    def of(self, bins: int) -> tuple[Any, ...]:
        """Tables and counts."""
        if bins > self._bins:
            zeros = library().lib.QSDK_ZERO_PLACES
            tables, counts = np.empty(4 * (2 * bins + zeros), "u4"), np.empty(2 * bins, np.int64)
            self._bins, self._held = bins, (pointer(tables), pointer(counts))
        return self._held


_scratch = _Scratch()
