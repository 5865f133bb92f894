"""Rows of signs as numpy records: what an embedding hands to a layer that codes its input so."""

from __future__ import annotations

import functools
from typing import Any

import numpy as np


@functools.cache
def sign_codes_dtype(bits: int, length: int) -> np.dtype[Any]:
    """A record that stands for ``length`` values, each ``sum over i of alpha[i] * (+1 or -1)``.

    alpha : float32, (bits,), not negative, the largest first
    planes : uint64, (words, bits), the values' signs from the lowest place up, 1 for +1; places
        behind the last value are 0
    length : no bytes, shape (0, length): it tells records of other lengths apart

    >>> sign_codes_dtype(2, 1000).itemsize, sign_codes_dtype(2, 1000) == sign_codes_dtype(2, 1024)
    (264, False)
    """
    words = -(-length // 64)
    fields = [
        ("alpha", "<f4", (bits,)),
        ("planes", "<u8", (words, bits)),
        ("length", "u1", (0, length)),
    ]
    return np.dtype(fields)
