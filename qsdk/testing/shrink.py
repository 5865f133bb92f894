"""From an array that breaks a promise to a smaller one that still does."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

SECONDS = 3.0  # after which the smallest array so far is taken
TRIES = 300


def shrink(array: NDArray[Any], fails: Callable[[NDArray[Any]], bool]) -> NDArray[Any]:
    """A smaller array, with simpler values, for which ``fails`` is still true."""
    until, tries = time.monotonic() + SECONDS, 0
    smallest = array
    progress = True
    while progress:
        progress = False
        for candidate in _simpler(smallest):
            if tries >= TRIES or time.monotonic() > until:
                return smallest
            tries += 1
            if fails(candidate):
                smallest, progress = candidate, True
                break
    return smallest


def _simpler(array: NDArray[Any]) -> Iterator[NDArray[Any]]:
    """Large steps first: halves, then single slices, then values."""
    for axis, length in enumerate(array.shape):
        if length > 1:
            first, second = np.split(array, [length // 2], axis)
            yield first.copy()
            yield second.copy()
    for axis, length in enumerate(array.shape):
        if 2 < length <= 8:
            for index in range(length):
                yield np.delete(array, index, axis)
    yield from _simpler_values(array)


def _simpler_values(array: NDArray[Any]) -> Iterator[NDArray[Any]]:
    """Whole numbers, one more zero, one more 1: each step leaves less to look at."""
    if array.dtype.kind != "f":
        return
    rounded = np.rint(array)
    if not np.array_equal(rounded, array):
        yield rounded
    for value in (0.0, 1.0):
        plain = np.isin(array, (0.0, value))
        for index in np.flatnonzero(~plain)[:16]:
            simpler = array.copy()
            simpler.flat[index] = value
            yield simpler
