"""Sums of rows that are the same bits on every machine, whatever vectors it has."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

LANES = 16


def sum_rows(rows: NDArray[np.float64]) -> NDArray[np.float64]:
    """Sum of each row: lane l takes values l, l + 16, ..., then halves are added to halves.

    rows : float64, (n, length)

    >>> sum_rows(np.arange(20.0).reshape(1, 20)).tolist()
    [190.0]
    """
    count, length = rows.shape
    whole = length // LANES * LANES
    lanes = np.zeros((count, LANES))
    if whole:
        lanes += np.add.reduce(rows[:, :whole].reshape(count, -1, LANES), axis=1)
    lanes[:, : length - whole] += rows[:, whole:]
    for half in (8, 4, 2, 1):
        lanes = lanes[:, :half] + lanes[:, half:]
    return lanes[:, 0]
