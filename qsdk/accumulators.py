"""How large sums of products can get, from the real weights: proof that nothing overflows.

Of ``sum of codes_x * weights`` each product lies between ``min(low * w, high * w)`` and
``max(low * w, high * w)`` when the input codes lie in [low, high], and all of them can be at one
end at once. So the extremes below are reached by some input, not only bounds.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

INT16 = np.iinfo(np.int16)
CHUNK = 2**20  # values at a time, so that large weights are never held as wide integers


def _rows_at_a_time(weights: NDArray[np.integer]) -> Iterator[NDArray[np.integer]]:
    step = max(CHUNK // max(weights.shape[1], 1), 1)
    for start in range(0, len(weights), step):
        yield weights[start : start + step]


def _ends(
    weights: NDArray[np.integer], low: int, high: int
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """The least and the largest of each product, with codes of [low, high]."""
    products = weights.astype(np.int64) * low, weights.astype(np.int64) * high
    return np.minimum(*products), np.maximum(*products)


def worst_sums(weights: NDArray[np.integer], low: int, high: int) -> NDArray[np.int64]:
    """The largest magnitude that the sum of a row's products can reach.

    weights : integers (rows, k), what the codes are multiplied by
    low, high : the input codes lie between, low <= 0 <= high
    Returns (rows,)

    >>> worst_sums(np.array([[1, -2], [0, 0]]), 0, 255).tolist()
    [510, 0]
    """
    found = [np.zeros(0, np.int64)]
    for rows in _rows_at_a_time(weights):
        bottom, top = _ends(rows, low, high)
        found.append(np.maximum(top.sum(axis=1), -bottom.sum(axis=1)))
    return np.concatenate(found)


def worst_pairs(
    weights: NDArray[np.integer], low: int, high: int, *, neighbours: bool
) -> NDArray[np.int64]:
    """The largest magnitude of two products added up, before a wider sum takes them.

    weights, low, high : as in :func:`worst_sums`
    neighbours : pairs are k and k + 1, k even, as vpmaddubsw takes them; else any two of a row
    Returns (rows,)

    >>> row = np.array([[127, -1, 127, 0]])
    >>> worst_pairs(row, 0, 255, neighbours=True).tolist()
    [32385]
    >>> worst_pairs(row, 0, 255, neighbours=False).tolist()
    [64770]
    """
    if not weights.shape[1]:
        return np.zeros(len(weights), np.int64)
    found = [np.zeros(0, np.int64)]
    for rows in _rows_at_a_time(weights):
        bottom, top = _ends(np.pad(rows, [(0, 0), (0, rows.shape[1] % 2)]), low, high)
        if neighbours:
            sums = top[:, ::2] + top[:, 1::2], bottom[:, ::2] + bottom[:, 1::2]
        else:
            two = np.partition(top, -2, axis=1)[:, -2:], np.partition(bottom, 1, axis=1)[:, :2]
            sums = two[0].sum(axis=1)[:, None], two[1].sum(axis=1)[:, None]
        found.append(np.maximum(sums[0].max(axis=1), -sums[1].min(axis=1)))
    return np.concatenate(found)


def pair_losses(weights: NDArray[np.integer], codes: NDArray[np.integer]) -> NDArray[np.int64]:
    """What sums lose where 16 bits take two products at a time and saturate, as vpmaddubsw does.

    weights : int8 values (rows, k), pairs being k and k + 1, k even
    codes : uint8 values (k, n), the inputs
    Returns (rows, n): the saturated sum less the exact one; 0 where no pair leaves 16 bits.

    >>> pair_losses(np.array([[127, 127]]), np.array([[255], [255]])).tolist()  # 32767 - 64770
    [[-32003]]
    """
    lost = np.zeros((len(weights), codes.shape[1]), np.int64)
    odd = [(0, weights.shape[1] % 2), (0, 0)]
    wide = np.pad(weights.T.astype(np.int32), odd)
    x = np.pad(codes.astype(np.int32), odd)
    worst = worst_pairs(wide.reshape(-1, 2, len(weights)).transpose(0, 2, 1).reshape(-1, 2),
                        0, 255, neighbours=True).reshape(-1, len(weights))  # fmt: skip
    for pair in np.flatnonzero((worst > INT16.max).any(axis=1)):
        k = 2 * pair
        rows = np.flatnonzero(worst[pair] > INT16.max)
        # 255 * bound is the largest sum, so smaller inputs than that leave room.
        large = np.maximum(x[k], x[k + 1]) * (worst[pair].max() // 255) > INT16.max
        columns = np.flatnonzero(large)
        one, two = x[k, columns], x[k + 1, columns]
        sums = wide[k, rows, None] * one + wide[k + 1, rows, None] * two
        lost[np.ix_(rows, columns)] += np.clip(sums, INT16.min, INT16.max) - sums
    return lost
