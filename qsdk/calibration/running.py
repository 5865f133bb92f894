"""The pass: a model runs over the data, every watched tensor is observed, no tensor is kept."""

from __future__ import annotations

import contextlib
import functools
import operator
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Executor, Future, ThreadPoolExecutor, wait
from pathlib import Path
from typing import Any

import attrs
import numpy as np

from qsdk import cpu
from qsdk.calibration.feeds import Batch, Data, Feeds, as_batches, batches
from qsdk.calibration.observing import Each, Group, Observing, Tensors, both
from qsdk.calibration.statistics import DIGEST_BITS, Calibration, load_calibration
from qsdk.calibration.watch import Watch
from qsdk.errors import DataError
from qsdk.interfaces import Model
from qsdk.interfaces.ends import Extent
from qsdk.interfaces.model import Runner

Progress = Callable[[int, int, str], None]

TENSOR_BYTES = 2**26  # of watched tensors at a time, where nothing else is said
PART_BYTES = 2**25  # of these that one thread computes and observes; with fewer, calls cost more


def calibrate(
    model: Model,
    watches: Sequence[Watch],
    data: Data,
    *,
    progress: Progress | None = None,
    executor: Executor | None = None,
    state: str | Path | None = None,
    save_seconds: float = 5.0,
    max_memory: int | None = None,
) -> Calibration:
    """Run ``model`` over ``data`` once and observe all watched tensors; neither is changed.

    data : batches, any iterable: each a dict of arrays, or an array for a model with one input;
        or one of these alone. Large batches run in parts, so memory does not grow with them
    progress : called with (batches done, in all or 0, what is going on)
    executor : of threads, one part of a batch a task, or some sites where memory or the order of
        batches allows only one part at a time; the result is the same for any number of them
    state : a file that statistics go to every ``save_seconds`` and at the end; if it is there
        already, the run goes on from it. It must be of this model, these observers and this data
    max_memory : bytes for tensors and statistics beside what the model itself takes to run

    Raises DataError for data that the model cannot take, and for tensors that become NaN.
    """
    data = as_batches(data)
    found = Calibration.new(watches, model.fingerprint())
    if state is not None and Path(state).exists():
        found = load_calibration(state, watches, found.model)
    run = _Run(model, found, progress, max_memory)
    keeper = _Keeper(run, state, save_seconds)
    with _threads(executor) as pool:
        return run.over(data, pool, keeper)


@contextlib.contextmanager
def _threads(executor: Executor | None) -> Iterator[Executor]:
    if executor is not None:
        yield executor
        return
    with ThreadPoolExecutor(cpu.cores(), "qsdk-calibration") as pool:
        yield pool


class _Keeper:
    """Writes statistics now and then."""

    def __init__(self, run: _Run, path: str | Path | None, seconds: float):
        self._run, self._path, self._seconds = run, path, seconds
        self._last = time.monotonic()

    @property
    def is_due(self) -> bool:
        return self._path is not None and time.monotonic() - self._last >= self._seconds

    def save(self) -> None:
        if self._path is not None:
            self._run.found.save(self._path)
            self._last = time.monotonic()


@attrs.frozen(eq=False)
class _Part:
    """Rows of a batch that run together, while ``at_once`` parts may be under way."""

    batch: Batch
    start: int
    feeds: Feeds
    at_once: int
    is_last: bool = False


class _Run:
    """One pass; ``found`` grows batch by batch, and holds whole ones when nothing is under way."""

    def __init__(
        self,
        model: Model,
        found: Calibration,
        progress: Progress | None,
        max_memory: int | None,
    ):
        self.model = model
        self.found = found
        self._observing = Observing(self.found.watches, self.found.observers)
        self._fetch = [name for watch in found.watches.values() for name in watch.site.watched]
        self._progress = progress or (lambda done, total, name: None)
        self._max_memory = max_memory
        self._nbytes: dict[Any, int] = {}  # of watched tensors, by the lengths of the inputs
        # For parts of which several run at once, and for others: for how many, and what runs them.
        self._runners: dict[bool, tuple[int, Runner]] = {}
        self._under_way: deque[tuple[_Part, Future[dict[str, Extent]]]] = deque()
        self._extents: list[dict[str, Extent]] = []  # of the batch whose parts come in

    def over(self, data: Data, pool: Executor, keeper: _Keeper) -> Calibration:
        total = operator.length_hint(data)  # 0 where it does not tell
        done, digest, number = self.found.batches, 0, 0
        try:
            for batch in batches(data, self.model):
                number = batch.number + 1
                if batch.number < done:  # seen before the interruption: only compared
                    digest += batch.digest()
                    continue
                self._check_same(digest, batch.number, done)
                for part in self._parts(batch, total):
                    self._begin(part, pool)
                    self._end(part.at_once - 1, total)
                if keeper.is_due:
                    self._end(0, total)
                    keeper.save()
            self._end(0, total)
        finally:
            wait([future for _, future in self._under_way])  # an error leaves nobody at work
        self._check_same(digest, number, done)
        keeper.save()
        return self.found

    def _check_same(self, digest: int, number: int, done: int) -> None:
        """DataError unless the batches that were skipped are those of the saved statistics."""
        if number < done or (number == done and digest % 2**DIGEST_BITS != self.found.data):
            raise DataError(
                f"the saved statistics are of {done} batches that this data does not begin with; "
                "give the same data, or another state file"
            )

    def _parts(self, batch: Batch, total: int) -> Iterator[_Part]:
        rows, at_once = self._cut(batch, total)
        *parts, last = batch.parts(rows)
        for start, feeds in parts:
            yield _Part(batch, start, feeds, at_once)
        yield _Part(batch, *last, at_once, is_last=True)

    def _cut(self, batch: Batch, total: int) -> tuple[int, int]:
        """How many rows of a batch to run together, 0 for all of it, and how many such at once.

        Rows from the lengths of a row alone, so that any number of threads sees the same parts.
        """
        if not self._can_cut(batch):
            known = self._nbytes.get(_lengths(batch.feeds), 0)
            return 0, self._at_once(known) if known and self._observing.is_indifferent else 1
        first = {name: array[:1] for name, array in batch.feeds.items()}
        is_new = _lengths(first) not in self._nbytes
        if is_new:
            _, any_ = next(iter(self._runners.values()), (0, None))
            self._tensors(any_ or self._runner(cpu.cores()), first, batch.number)
        one = self._nbytes[_lengths(first)]
        self._check_limit(one)
        rows = max(min(self._limit, PART_BYTES) // one, 1)
        at_once = self._at_once(rows * one)
        if is_new:
            if at_once == 1 and len(self._nbytes) == 1:
                self._runners.clear()  # each may hold a copy of the model
            peak = (self._statistics + at_once * min(rows, batch.rows) * one) / 1e6
            self._progress(batch.number, total, f"at most {peak:.0f} MB beside the model's own")
        return rows, at_once

    def _at_once(self, nbytes: int) -> int:
        """How many parts may be under way whose tensors take so much."""
        return min(cpu.cores(), max(self._limit // nbytes, 1))

    @functools.cached_property
    def _limit(self) -> int:
        """Bytes of tensors at a time."""
        return TENSOR_BYTES if self._max_memory is None else self._max_memory - self._statistics

    def _check_limit(self, one: int) -> None:
        """DataError where the tensors of one row take more."""
        if self._limit < one:
            raise DataError(
                f"max_memory is {self._max_memory} bytes, and this takes at least "
                f"{self._statistics + one}: {self._statistics} for statistics and {one} for the "
                "tensors of one row"
            )

    @functools.cached_property
    def _statistics(self) -> int:
        """Bytes of all observers once they have seen something."""
        tried = {}
        for watch in self.found.watches.values():
            key = (watch.observer, str(watch.options))
            if key not in tried:
                observer = watch.new()
                observer.observe(np.ones((1,) * (1 + abs(observer.axis or 0)), np.float32))
                tried[key] = sum(array.nbytes for array in observer.state().values())
        return sum(tried[w.observer, str(w.options)] for w in self.found.watches.values())

    def _can_cut(self, batch: Batch) -> bool:
        """Whether rows are samples of their own, and no observer cares how they come."""
        types = self.model.input_types
        free = [t.shape is not None and t.shape[:1] == (None,) for t in types.values()]
        lengths = {len(array) if array.ndim else 0 for array in batch.feeds.values()}
        is_free = bool(free) and all(free) and len(lengths) == 1 and 0 not in lengths
        return is_free and self._observing.is_indifferent

    def _begin(self, part: _Part, pool: Executor) -> None:
        """Run a part and observe it: in a thread of its own, or with all of them by site."""
        runner = self._runner(part.at_once)
        if part.at_once > 1:
            seen = pool.submit(self._seen, part, runner, map)
        else:
            seen = Future()
            seen.set_result(self._seen(part, runner, functools.partial(_all, pool)))
        self._under_way.append((part, seen))

    def _seen(self, part: _Part, runner: Runner, each: Each) -> dict[str, Extent]:
        number = part.batch.number
        tensors = self._tensors(runner, part.feeds, number)
        return self._observing.show(tensors, number, part.start, each)

    def _end(self, left: int, total: int) -> None:
        """Wait for parts, the first first, until so many are left; count batches that are whole."""
        while len(self._under_way) > left:
            part, future = self._under_way.popleft()
            self._extents.append(future.result())
            if part.is_last:
                self._count(part.batch, self._extents)
                self._extents = []
                self._progress(part.batch.number + 1, total, f"{self.found.rows} rows")

    def _tensors(self, runner: Runner, feeds: Feeds, number: int) -> Tensors:
        try:
            tensors = runner(feeds)
        except DataError as error:
            raise DataError(f"batch {number}: {error}") from None
        self._nbytes[_lengths(feeds)] = max(sum(array.nbytes for array in tensors.values()), 1)
        return tensors

    def _runner(self, at_once: int) -> Runner:
        """Made anew where fewer than before are to share the CPU; called by the main thread."""
        several = at_once > 1
        if several not in self._runners or at_once < self._runners[several][0]:
            self._runners[several] = at_once, self.model.runner(self._fetch, at_once, cpu.cores())
        return self._runners[several][1]

    def _count(self, batch: Batch, seen: list[dict[str, Extent]]) -> None:
        found = self.found
        whole: dict[str, Extent] = {}
        for extents in seen:
            for name, extent in extents.items():
                whole[name] = both(whole.get(name, extent), extent)
        for name, extent in whole.items():
            found.coverage[name] = found.coverage[name].with_batch(*extent)
        found.batches += 1
        found.rows += batch.rows
        found.data = (found.data + batch.digest()) % 2**DIGEST_BITS


def _lengths(feeds: Feeds) -> tuple[Any, ...]:
    return tuple((name, array.shape) for name, array in feeds.items())


def _all(pool: Executor, task: Callable[[Group], None], groups: Sequence[Group]) -> list[None]:
    """What the task gives for each; an error leaves nobody at work."""
    futures = [pool.submit(task, group) for group in groups]
    wait(futures)
    return [future.result() for future in futures]
