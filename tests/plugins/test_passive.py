"""The passive observer: a range that data does not move."""

from __future__ import annotations

import numpy as np
import pytest

from qsdk import Scheme, registry
from qsdk.errors import DataError, OptionError

UINT8 = Scheme(bits=8, signed=False, granularity="per_tensor")


def test_a_given_range_is_kept_whatever_is_observed():
    observer = registry.get("observer:passive", low=-1, high=4)
    observer.observe(np.float32([-50, 70]))
    assert observer.range() == (-1, 4)
    scale, zero_point = observer.params(UINT8)
    assert (float(scale), int(zero_point)) == (np.float32(5 / 255), 51)


def test_without_a_range_the_first_batch_sets_it():
    observer = registry.get("observer:passive")
    for batch in ([2, -3], [9, -9]):
        observer.observe(np.float32(batch))
    assert observer.range() == (-3, 2)


def test_a_given_range_holds_for_every_channel():
    observer = registry.get("observer:passive", low=0, high=6, axis=1)
    with pytest.raises(DataError, match="no range"):
        observer.range()
    observer.observe(np.ones((2, 3, 4), np.float32))
    assert [end.tolist() for end in observer.range()] == [[0] * 3, [6] * 3]


@pytest.mark.parametrize("ends", [{"low": 1}, {"low": 2, "high": 1}, {"low": 0, "high": np.inf}])
def test_ends_that_are_no_range_are_refused(ends):
    with pytest.raises(OptionError, match="two finite numbers"):
        registry.get("observer:passive", **ends)


def test_passive_does_not_merge():
    with pytest.raises(DataError, match="do not merge"):
        registry.get("observer:passive").merge(registry.get("observer:passive"))
