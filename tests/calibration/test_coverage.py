"""Whether there was enough data, from the outermost two batches on each side."""

from __future__ import annotations

import numpy as np
import pytest

from qsdk.calibration import Coverage


def covered(*ends: tuple[float, float]) -> Coverage:
    found = Coverage()
    for low, high in ends:
        found = found.with_batch(np.float32(low), np.float32(high))
    return found


def test_the_jackknife_by_hand():
    found = covered((-1, 2), (-1, 4), (-1, 3))
    # The highest end is 4, the second 3: (3 - 1) / 3 of the gap of 1, in a range of 5.
    assert found.missing == pytest.approx(2 / 3 / 5)
    assert "13.3 %" in str(found) and "in 3 batches" in str(found)


def test_zero_belongs_to_every_range():
    assert covered((2, 3), (2, 4)).missing == pytest.approx(0.5 / 4)


def test_merging_in_any_order_equals_one_pass():
    ends = [(-1, 2), (-3, 1), (-2, 7), (0, 6)]
    whole = covered(*ends)
    for cut in range(5):
        merged = covered(*ends[cut:]).merge(covered(*ends[:cut]))
        assert merged.batches == 4
        assert np.array_equal(merged.low, whole.low) and np.array_equal(merged.high, whole.high)


def test_one_batch_tells_nothing_and_a_constant_is_called_so():
    one = covered((-1, 1))
    assert not one.is_enough and "one batch" in str(one)
    constant = covered((0, 0), (0, 0))
    assert constant.is_enough and "every value is the same" in str(constant)
    assert str(Coverage()) == "nothing was observed"


def test_a_range_that_still_grows_asks_for_more_data():
    found = covered((0, 1), (0, 4))
    assert not found.is_enough and "give more data" in str(found)
