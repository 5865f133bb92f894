"""Shrinking: the array stays wrong, and becomes small and simple."""

from __future__ import annotations

import numpy as np
import pytest

from qsdk.testing.shrink import TRIES, shrink

NORMAL = np.random.default_rng(0).standard_normal((5, 6, 3)).astype(np.float32)


@pytest.mark.parametrize(
    ("fails", "expected"),
    [
        (lambda a: True, [[[0.0]]]),
        (lambda a: bool((a > 0.5).any()), [[[1.0]]]),
        (lambda a: a.shape[1] >= 4, [[[0.0], [0.0], [0.0], [0.0]]]),
    ],
)
def test_the_smallest_array_is_found(fails, expected):
    assert shrink(NORMAL, fails).tolist() == expected


def test_what_cannot_be_smaller_stays_and_tries_are_bounded():
    tried = []

    def only_this(array):
        tried.append(array)
        return np.array_equal(array, NORMAL)

    assert shrink(NORMAL, only_this) is NORMAL
    assert len(tried) <= TRIES


def test_bytes_are_only_cut():
    data = np.arange(100, dtype=np.uint8)
    assert shrink(data, lambda a: bool((a == 42).any())).tolist() == [42]
