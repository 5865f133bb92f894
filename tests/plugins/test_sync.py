"""sync and sync_ema: workers in threads, against one that sees the batches of all as one."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from threading import Barrier

import numpy as np
import pytest

from qsdk import registry
from qsdk.errors import DataError, OptionError

BATCHES = np.random.default_rng(0).standard_normal((6, 8, 3, 5)).astype(np.float32)


class Exchange:
    """An all-gather between threads."""

    def __init__(self, workers):
        self.barrier, self.held = Barrier(workers, timeout=30), [None] * workers

    def of(self, worker):
        def gather(array):
            self.held[worker] = array
            self.barrier.wait()
            every = list(self.held)
            self.barrier.wait()
            return every

        return gather


@pytest.mark.parametrize(("name", "alone"), [("sync", "minmax"), ("sync_ema", "ema")])
@pytest.mark.parametrize("axis", [None, 1])
def test_each_worker_is_at_each_step_as_one_that_sees_everything(name, alone, axis):
    exchange = Exchange(4)
    one = registry.get(f"observer:{alone}", axis=axis)
    expected = []
    for batch in BATCHES:
        one.observe(batch)
        expected.append(one.state())

    def work(worker):
        observer = registry.get(f"observer:{name}", axis=axis, gather=exchange.of(worker))
        states = []
        for batch in BATCHES:
            observer.observe(batch[worker::4])
            states.append(observer.state())
        return states

    with ThreadPoolExecutor(4) as pool:
        for states in pool.map(work, range(4)):
            for found, state in zip(states, expected, strict=True):
                assert found.keys() == state.keys()
                assert all(np.array_equal(found[key], state[key]) for key in state)


def test_without_a_gather_it_is_one_worker_alone():
    observer = registry.get("observer:sync")
    observer.observe(np.float32([3, -2]))
    assert observer.range() == (-2, 3)


def loud(array):
    return [array, array * 10]


def test_a_gather_can_be_named():
    observer = registry.get("observer:sync", gather=f"{__name__}:loud")
    observer.observe(np.float32([3, -2]))
    assert observer.range() == (-20, 30)


@pytest.mark.parametrize("name", ["nowhere:gather", "math:gather", "math", ""])
def test_a_gather_that_is_not_there_is_refused(name):
    with pytest.raises(OptionError, match="no module:function"):
        registry.get("observer:sync", gather=name)


def test_what_a_gather_gives_must_be_ends_of_as_many_channels():
    observer = registry.get("observer:sync", gather=lambda array: [array, array[:, :0]])
    with pytest.raises(DataError, match=r"\(2, 0\).*must be float32 \(2, 1\)"):
        observer.observe(np.float32([3, -2]))
