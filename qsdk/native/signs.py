"""Rows as sums of planes of signs."""

from __future__ import annotations

import functools
import os
from typing import Any

import numpy as np
from numpy.typing import NDArray

from qsdk.native.arguments import FLOAT32, check, check_bits, pointer
from qsdk.native.door import library

# Sets of native/sign_codes, the fastest first, and the features each needs.
SIGN_SETS = {
    "avx512bw": frozenset({"avx512bw", "avx512dq"}),
    "avx2": frozenset({"avx2"}),
    "neon": frozenset({"neon"}),
    "portable": frozenset[str](),
}


def sign_codes(
    rows: NDArray[np.float32],
    bits: int,
    start: int,
    *,
    nearest: bool,
    cycles: int,
    final: bool,
    threads: int,
) -> tuple[NDArray[np.float32], NDArray[np.uint64]]:
    """Alphas (bits, rows) and planes of signs (bits, rows, words): ``SignCoder.code``.

    rows : float32, (rows, length)
    start : 0 greedy, 1 refined, 2 uniform
    """
    check("rows", rows, (FLOAT32,), "rows", "length")
    check_bits(bits)
    count, length = rows.shape
    alpha = np.empty((bits, count), np.float32)
    planes = np.empty((bits, count, -(-length // 64)), np.uint64)
    how = library().ffi.new("qsdk_sign_how *", [bits, start, nearest, cycles, final])
    library().lib.qsdk_sign_codes_rows(
        _sign_set(library(), os.environ.get("QSDK_DISABLE_CPU_FEATURES", "")),
        pointer(rows), count, length, how, pointer(alpha), pointer(planes), threads,
    )  # fmt: skip
    return alpha, planes


@functools.cache
def _sign_set(module: Any, disabled: str) -> Any:
    from qsdk import cpu  # which asks here what is found

    usable = cpu.features()
    named = [name for name, features in SIGN_SETS.items() if features <= usable]
    found = [module.lib.qsdk_sign_codes_find(name.encode()) for name in named]
    return next(table for table in found if table)
