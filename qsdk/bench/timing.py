"""Interleaved timing: every call in turn within a round, so that a slow moment hits all alike.

The best round says what the code can do, the median what the machine let it do. Short calls are
timed several at a time, and each round keeps the best of a few such samples.
"""

from __future__ import annotations

import contextlib
import gc
import math
import statistics
import time
from collections.abc import Callable, Hashable, Iterator, Mapping
from typing import TypeVar

import attrs

Call = Callable[[], object]
Key = TypeVar("Key", bound=Hashable)

SAMPLE_NS = 100_000  # what a sample lasts at least: the clock's own cost is far below
ROUND_NS = 2_000_000  # what a call may take of a round with its samples
MOST_SAMPLES = 20
WARM_NS = 20_000_000  # calls up to here are run once before they are timed, in every round
NOISY = 1.3  # medians so far above the best say that others use the machine


@attrs.frozen
class Timing:
    """Nanoseconds of one call, the best of each round."""

    rounds_ns: tuple[float, ...]

    @property
    def best_ns(self) -> float:
        return min(self.rounds_ns)

    @property
    def median_ns(self) -> float:
        return statistics.median(self.rounds_ns)

    @property
    def is_noisy(self) -> bool:
        return self.median_ns > NOISY * self.best_ns


@attrs.frozen
class Plan:
    """How one call takes part.

    loops : calls in a sample
    samples : samples in a round
    rounds : rounds that it takes part in
    """

    loops: int
    samples: int
    rounds: int
    is_warmed: bool

    @classmethod
    def of(cls, call_ns: float, rounds: int, limit_s: float) -> Plan:
        """A plan for a call that takes about ``call_ns``.

        >>> Plan.of(1e3, rounds=10, limit_s=5)
        Plan(loops=100, samples=20, rounds=10, is_warmed=True)
        >>> Plan.of(2e9, rounds=10, limit_s=5)
        Plan(loops=1, samples=1, rounds=2, is_warmed=False)
        """
        call_ns = max(call_ns, 1.0)
        loops = math.ceil(SAMPLE_NS / call_ns)
        samples = min(max(int(ROUND_NS / (loops * call_ns)), 1), MOST_SAMPLES)
        fit = int(limit_s * 1e9 / (loops * samples * call_ns))
        return cls(loops, samples, min(max(fit, 1), rounds), call_ns <= WARM_NS)


def interleave(
    calls: Mapping[Key, Call],
    rounds: int,
    *,
    limit_s: float = 10.0,
    rest_s: float = 0.0,
    clock: Callable[[], int] = time.perf_counter_ns,
) -> dict[Key, Timing]:
    """Time all calls in the same ``rounds``.

    limit_s : about what one call may take in all; slow ones sit out the later rounds
    rest_s : between calls, for threads of the one before that still spin
    """
    with _no_garbage_collection():
        plans = {name: _plan(call, rounds, limit_s, clock) for name, call in calls.items()}
        found: dict[Key, list[float]] = {name: [] for name in calls}
        for number in range(rounds):
            for name, call in calls.items():
                if number < plans[name].rounds:
                    if rest_s:
                        time.sleep(rest_s)
                    found[name].append(_round(call, plans[name], clock))
    return {name: Timing(tuple(times)) for name, times in found.items()}


def _plan(call: Call, rounds: int, limit_s: float, clock: Callable[[], int]) -> Plan:
    call()  # the first one allocates, packs and starts threads
    start = clock()
    call()
    return Plan.of(clock() - start, rounds, limit_s)


def _round(call: Call, plan: Plan, clock: Callable[[], int]) -> float:
    if plan.is_warmed:
        call()
    return min(_sample(call, plan.loops, clock) for _ in range(plan.samples))


def _sample(call: Call, loops: int, clock: Callable[[], int]) -> float:
    start = clock()
    for _ in range(loops):
        call()
    return (clock() - start) / loops


@contextlib.contextmanager
def _no_garbage_collection() -> Iterator[None]:
    was_on = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_on:
            gc.enable()
