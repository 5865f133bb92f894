"""The one door to C for qsdk and its built-ins: checks dtype, shape, contiguity.

What each function computes is stated, to the bit, in ``native/qsdk_native.h``; which instruction
set computes it makes no difference but the time. Values are not checked: the caller sees to it
that arrays are finite, scales positive, zero points on the grid.
``QSDK_DISABLE_NATIVE=1`` switches C off, at any time, and ``QSDK_DISABLE_CPU_FEATURES`` a set.
"""

from qsdk.native.door import array_set, array_sets, available, cpu_features, library, reason
from qsdk.native.histograms import MOST_BINS, Counter, count_each
from qsdk.native.packing import pack, pack_above, unpack
from qsdk.native.rounding import encode_rows, squant
from qsdk.native.rows import (
    decode_rows,
    dequantize_rows,
    grid_rows,
    quantize_rows,
    range_rows,
    requantize_rows,
    squared_error_rows,
)
from qsdk.native.signs import SIGN_SETS, sign_codes

__all__ = [
    "MOST_BINS",
    "SIGN_SETS",
    "Counter",
    "array_set",
    "array_sets",
    "available",
    "count_each",
    "cpu_features",
    "decode_rows",
    "dequantize_rows",
    "encode_rows",
    "grid_rows",
    "library",
    "pack",
    "pack_above",
    "quantize_rows",
    "range_rows",
    "reason",
    "requantize_rows",
    "sign_codes",
    "squant",
    "squared_error_rows",
    "unpack",
]
