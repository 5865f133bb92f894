"""How far an approximation is from its reference.

Sums are in double precision, whatever the arrays. Each function takes two arrays of one shape.
"""

from __future__ import annotations

import math
from collections.abc import Iterator

import numpy as np
from numpy.typing import ArrayLike, NDArray

from qsdk.errors import DataError

CHUNK = 1 << 18  # values at a time, so that doubles of a large array never exist as a whole


def _chunks(
    reference: ArrayLike, approximation: ArrayLike
) -> Iterator[tuple[NDArray[np.float64], NDArray[np.float64]]]:
    a, b = np.asarray(reference), np.asarray(approximation)
    if a.shape != b.shape:
        raise DataError(f"shapes differ: {a.shape} and {b.shape}; compare like with like")
    a, b = a.reshape(-1), b.reshape(-1)
    for start in range(0, a.size, CHUNK):
        part = slice(start, start + CHUNK)
        yield a[part].astype(np.float64), b[part].astype(np.float64)


def sqnr_db(reference: ArrayLike, approximation: ArrayLike) -> float:
    """Signal-to-quantization-noise ratio in dB; inf when both are equal.

    >>> round(sqnr_db([3.0, 4.0], [3.0, 4.5]), 6)  # 25 / 0.25
    20.0
    """
    signal = noise = 0.0
    for a, b in _chunks(reference, approximation):
        signal += float(np.square(a).sum())
        noise += float(np.square(a - b).sum())
    if noise == 0:
        return math.inf
    return -math.inf if signal == 0 else 10 * math.log10(signal / noise)


def mse(reference: ArrayLike, approximation: ArrayLike) -> float:
    """Mean squared error, in squared units of the data; 0 for empty arrays."""
    total = sum(float(np.square(a - b).sum()) for a, b in _chunks(reference, approximation))
    return total / max(np.size(reference), 1)


def max_error(reference: ArrayLike, approximation: ArrayLike) -> float:
    """Largest absolute difference, in units of the data; 0 for empty arrays."""
    worst = (float(np.abs(a - b).max()) for a, b in _chunks(reference, approximation))
    return max(worst, default=0.0)


def cosine(reference: ArrayLike, approximation: ArrayLike) -> float:
    """Cosine of the angle between both; 1 when both are zero, 0 when one is.

    >>> round(cosine([1.0, 0.0], [1.0, 1.0]), 6)
    0.707107
    """
    product = square_a = square_b = 0.0
    for a, b in _chunks(reference, approximation):
        product += float((a * b).sum())
        square_a += float(np.square(a).sum())
        square_b += float(np.square(b).sum())
    if square_a == 0 or square_b == 0:
        return 1.0 if square_a == square_b else 0.0
    return min(max(product / math.sqrt(square_a) / math.sqrt(square_b), -1.0), 1.0)


def agreement(reference: ArrayLike, approximation: ArrayLike) -> float:
    """Share of rows (last axis) in which both have their highest value at the same place.

    >>> agreement([[1, 2], [3, 1]], [[0, 1], [0, 1]])
    0.5
    """
    a, b = np.asarray(reference), np.asarray(approximation)
    if a.shape != b.shape or a.ndim == 0:
        raise DataError(f"agreement needs two arrays of one shape, not {a.shape} and {b.shape}")
    if a.size == 0:
        return 1.0
    return float((a.argmax(axis=-1) == b.argmax(axis=-1)).mean())
