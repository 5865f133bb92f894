"""A small proof on this machine: squant in C gives the codes that squant in numpy gives."""

from __future__ import annotations

import numpy as np

from qsdk import native
from qsdk.cli.environment import environment
from qsdk.encodings import Encoding
from qsdk.errors import QsdkError
from qsdk.registry import registry


def self_test() -> dict[str, str]:
    """``health`` (ok, failed or skipped) and the ``reason``."""
    if not native.available():
        return {"health": "skipped", "reason": "there is no C to compare with numpy"}
    weight = np.random.default_rng(0).normal(size=(16, 8, 3, 3)).astype(np.float32)
    try:
        quantizers = [registry.get("qsdk:quantizer:squant", bits=bits) for bits in (2, 4, 8)]
    except QsdkError as error:
        return {"health": "skipped", "reason": f"there is no squant to try: {error}"}
    try:
        for quantizer in quantizers:
            in_c = quantizer.quantize(weight)
            with environment("QSDK_DISABLE_NATIVE", "1"):
                in_numpy = quantizer.quantize(weight)
            if not _same(in_c, in_numpy):
                reason = f"{quantizer.scheme} differs between C and numpy: please report it"
                return {"health": "failed", "reason": reason}
    except QsdkError as error:
        return {"health": "failed", "reason": f"squant failed: {error}"}
    return {"health": "ok", "reason": f"squant in C equals numpy on {weight.size} weights"}


def _same(a: Encoding, b: Encoding) -> bool:
    (arrays_a, values_a), (arrays_b, values_b) = a.arrays(), b.arrays()
    return (
        values_a == values_b
        and arrays_a.keys() == arrays_b.keys()
        and all(np.array_equal(arrays_a[name], arrays_b[name]) for name in arrays_a)
    )
