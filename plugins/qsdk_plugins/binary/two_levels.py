"""The best sum of two scaled signs: two levels of magnitude, found by trying every split."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

import qsdk
from qsdk_plugins.binary.planes import Words
from qsdk_plugins.binary.slices import AT_ONCE, Alphas

Doubles = NDArray[np.float64]


def best_two_levels(rows: NDArray[np.float32]) -> tuple[Alphas, Words]:
    """Alpha (2, rows) and planes (2, rows, words) of the least squared error there is.

    The magnitudes from some one on share a level, their mean, and those below it another: all
    splits are tried. ``alpha_1 +- alpha_2`` are the two levels. Rows have at least one value.

    >>> alpha, planes = best_two_levels(np.float32([[1, -1, 7, -9]]))
    >>> alpha.tolist(), planes.tolist()
    ([[4.5], [3.5]], [[[5]], [[6]]])
    """
    count, length = rows.shape
    alpha = np.empty((2, count), np.float32)
    planes = np.empty((2, count, -(-length // 64)), np.uint64)
    step = max(AT_ONCE // length, 1)
    for first in range(0, count, step):
        part = slice(first, first + step)
        size = np.abs(rows[part])
        split, low, high = _split(np.sort(size, axis=1).astype(np.float64))
        alpha[:, part] = (high + low) / 2, (high - low) / 2
        plus, upper = rows[part] >= 0, size >= split[:, None]
        planes[:, part] = qsdk.pack_words(np.stack([plus, plus == upper]))
    return alpha, planes


def _split(size: Doubles) -> tuple[Doubles, Doubles, Doubles]:
    """Where the upper magnitudes begin, and the means of those below and from there on.

    size : sorted upwards, (rows, length)
    """
    length = size.shape[1]
    below = np.cumsum(size, axis=1)
    number = np.arange(1, length)
    # The squared error is that of the sum of squares less these two.
    kept = below[:, :-1] ** 2 / number + (below[:, -1:] - below[:, :-1]) ** 2 / (length - number)
    kept[size[:, :-1] == size[:, 1:]] = 0  # equal ones stay together: no worse, and no tie to break
    kept = np.column_stack([below[:, -1] ** 2 / length, kept])  # 0: all are upper ones
    place = np.argmax(kept, axis=1)[:, None]
    start, first = (np.take_along_axis(a, place, axis=1)[:, 0] for a in (size, below - size))
    upper = (below[:, -1] - first) / (length - place[:, 0])
    lower = np.where(place[:, 0] > 0, first / np.maximum(place[:, 0], 1), upper)
    return start, lower, upper
