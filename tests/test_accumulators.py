"""Worst sums are reached and never passed; what saturates is what vpmaddubsw saturates."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

import qsdk
from qsdk.accumulators import pair_losses, worst_pairs, worst_sums

ROWS = arrays.arrays(np.int8, st.tuples(st.integers(1, 3), st.integers(0, 7)))
RANGES = st.sampled_from([(0, 255), (-128, 127), (-113, 142), (-255, 255)])


@given(weights=ROWS, ends=RANGES)
def test_worst_sums_are_those_of_the_worst_input(weights, ends):
    low, high = ends
    for row, worst in zip(
        weights.astype(int).tolist(), worst_sums(weights, low, high), strict=True
    ):
        inputs = [(low, high)] * len(row)
        sums = [sum(a * b for a, b in zip(x, row, strict=True)) for x in itertools.product(*inputs)]
        assert worst == max(map(abs, sums))


@given(weights=ROWS, ends=RANGES, neighbours=st.booleans())
def test_worst_pairs_are_those_of_the_worst_pair(weights, ends, neighbours):
    low, high = ends
    found = worst_pairs(weights, low, high, neighbours=neighbours)
    for row, worst in zip(weights.astype(int).tolist(), found, strict=True):
        row = row + [0] * (len(row) % 2)
        pairs = (
            list(zip(row[::2], row[1::2], strict=True))
            if neighbours
            else list(itertools.combinations(row, 2))
        )
        sums = [a * x + b * y for a, b in pairs for x in (low, 0, high) for y in (low, 0, high)]
        assert worst == max(map(abs, sums), default=0)


def test_the_rule_of_128_in_all_pairs_of_bytes():
    """Card 10: safe for all inputs where positive weights add to 128 at most, and negative ones."""
    one, two = (axis.ravel() for axis in np.meshgrid(*2 * [np.arange(-128, 128)]))
    pairs = np.stack([one, two], axis=1)
    safe = worst_pairs(pairs, 0, 255, neighbours=True) <= np.iinfo(np.int16).max
    positive, negative = np.maximum(pairs, 0).sum(axis=1), np.minimum(pairs, 0).sum(axis=1)
    assert np.array_equal(safe, (positive <= 128) & (negative >= -128))


def test_examples_of_vpmaddubsw_worked_by_hand():
    assert pair_losses(np.array([[127, 127]]), np.array([[255], [255]])) == [[32767 - 64770]]
    assert pair_losses(np.array([[-128, -128]]), np.array([[255], [255]])) == [[-32768 + 65280]]
    assert pair_losses(np.array([[127, -128]]), np.array([[255], [255]])) == [[0]]


@given(data=st.data())
def test_losses_are_those_of_16_bits(data):
    k, n = data.draw(st.integers(0, 7)), data.draw(st.integers(0, 4))
    weights = data.draw(arrays.arrays(np.int8, (3, k)))
    codes = data.draw(arrays.arrays(np.uint8, (k, n)))
    w, x = weights.astype(int), codes.astype(int)
    expected = np.zeros((3, n), int)
    for start in range(0, k, 2):
        sums = w[:, start : start + 2] @ x[start : start + 2]
        expected += np.clip(sums, -(2**15), 2**15 - 1) - sums
    assert np.array_equal(pair_losses(weights, codes), expected)


@pytest.mark.parametrize("bits", [6, 7])
def test_weights_of_7_bits_lose_nothing(bits):
    rng, end = np.random.default_rng(0), 2 ** (bits - 1)
    weights = rng.integers(-end, end, (8, 64))
    weights[0], weights[1] = -end, end - 1
    assert (worst_pairs(weights, 0, 255, neighbours=False) <= 2**15 - 1).all()
    assert not pair_losses(weights, rng.integers(0, 256, (64, 50))).any()


def test_both_are_words_of_qsdk():
    assert qsdk.worst_sums is worst_sums and qsdk.worst_pairs is worst_pairs
