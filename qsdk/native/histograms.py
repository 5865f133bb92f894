"""How often values lie where, in one pass."""

from __future__ import annotations

import attrs
import numpy as np
from numpy.typing import NDArray

from qsdk.errors import NativeError
from qsdk.native.arguments import FLOAT32, check, pointer
from qsdk.native.door import functions, library

MOST_BINS = 2**20  # on each side of zero, that a histogram in C may have


@attrs.frozen(eq=False)
class Histogram:
    """How often values lie in equal bins over ``[-2**exponent, 2**exponent)``.

    low, high : the least and the greatest; infinity and minus infinity of no values
    exponent : as small as it can be; None where there is nothing but zeros
    zeros : values that are 0, which are in no bin
    counts : int64, (2 * bins,)
    """

    low: float
    high: float
    exponent: int | None
    zeros: int
    counts: NDArray[np.int64]


def histogram(values: NDArray[np.float32], bins: int) -> Histogram | None:
    """The values at ``floor(x * bins / 2**exponent) + bins``, as if the product were exact.

    values : float32, (n,)
    bins : on each side of zero, a power of two from 2 to MOST_BINS
    None if a value is not finite. Memory is read once.
    """
    check("values", values, (FLOAT32,), "n")
    if not 2 <= bins <= MOST_BINS or bins & (bins - 1):
        raise NativeError(f"bins is {bins}; give a power of two from 2 to {MOST_BINS}")
    tables, counts = np.empty(4 * (2 * bins + 1), np.uint32), np.empty(2 * bins, np.int64)
    seen = library().ffi.new("struct qsdk_histogram *")
    if not library().lib.qsdk_histogram_portable(
        functions(), pointer(values), values.size, bins, pointer(tables), pointer(counts), seen
    ):
        return None
    exponent = None if seen.exponent == np.iinfo(np.int32).min else seen.exponent
    return Histogram(seen.low, seen.high, exponent, seen.zeros, counts)
