"""The pass: a model runs over the data, every watched tensor is observed, no tensor is kept."""

from __future__ import annotations

import contextlib
import functools
import operator
import os
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Executor, Future, ThreadPoolExecutor, wait
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from qsdk.calibration.feeds import Batch, Data, Feeds, as_batches, batches, not_finite
from qsdk.calibration.statistics import DIGEST_BITS, Calibration, load_calibration
from qsdk.calibration.watch import Watch
from qsdk.errors import DataError
from qsdk.interfaces import Model

Progress = Callable[[int, int, str], None]
Tensors = dict[str, NDArray[Any]]
Extent = tuple[np.float32, np.float32]  # the lowest and the highest value

TENSOR_BYTES = 2**26  # of watched tensors at a time, where nothing else is said


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
    executor : of threads, one site a task; the result is the same for any number of them
    state : a file that statistics go to every ``save_seconds`` and at the end; if it is there
        already, the run goes on from it. It must be of this model, these observers and this data
    max_memory : bytes for tensors and statistics beside what the model itself takes to run

    Raises DataError for data that the model cannot take, and for tensors that become NaN.
    """
    data = as_batches(data)
    run = _Run(model, watches, progress, max_memory)
    if state is not None and Path(state).exists():
        run.found = load_calibration(state, watches, run.found.model)
    keeper = _Keeper(run, state, save_seconds)
    with _threads(executor) as pool:
        return run.over(data, pool, keeper)


@contextlib.contextmanager
def _threads(executor: Executor | None) -> Iterator[Executor]:
    if executor is not None:
        yield executor
        return
    with ThreadPoolExecutor(os.cpu_count(), "qsdk-calibration") as pool:
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


class _Run:
    """One pass; ``found`` grows batch by batch."""

    def __init__(
        self,
        model: Model,
        watches: Sequence[Watch],
        progress: Progress | None,
        max_memory: int | None,
    ):
        self.model = model
        self.found = Calibration.new(watches, model.fingerprint())
        self._fetch = [name for watch in watches for name in watch.site.watched]
        self._progress = progress or (lambda done, total, name: None)
        self._max_memory = max_memory
        self._rows: dict[Any, int] = {}  # of a part, by the shape of a row

    def over(self, data: Data, pool: Executor, keeper: _Keeper) -> Calibration:
        total = operator.length_hint(data)  # 0 where it does not tell
        done, digest, number = self.found.batches, 0, 0
        for batch in batches(data, self.model):
            number = batch.number + 1
            if batch.number < done:  # seen before the interruption: only compared
                digest += batch.digest()
                continue
            self._check_same(digest, batch.number, done)
            self._take(batch, pool, self._rows_of(batch, total))
            self._progress(batch.number + 1, total, f"{self.found.rows} rows")
            if keeper.is_due:
                keeper.save()
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

    def _rows_of(self, batch: Batch, total: int) -> int:
        """How many rows of a batch to run at a time; 0 for all of it.

        From the lengths of a row alone, so that an interrupted run goes on with the same parts.
        """
        if not self._can_cut(batch):
            return 0
        row = tuple((name, array.shape[1:]) for name, array in batch.feeds.items())
        if row not in self._rows:
            first = {name: array[:1] for name, array in batch.feeds.items()}
            one = sum(array.nbytes for array in self._tensors(first, batch.number).values())
            self._rows[row] = max(self._limit(one) // max(one, 1), 1)
            at_once = min(self._rows[row], batch.rows) * one
            peak = (self._statistics + at_once) / 1e6
            self._progress(batch.number, total, f"at most {peak:.0f} MB beside the model's own")
        return self._rows[row]

    def _limit(self, one: int) -> int:
        """Bytes of tensors in a part, of which one row takes ``one``."""
        if self._max_memory is None:
            return TENSOR_BYTES
        limit = self._max_memory - self._statistics
        if limit < one:
            raise DataError(
                f"max_memory is {self._max_memory} bytes, and this takes at least "
                f"{self._statistics + one}: {self._statistics} for statistics and {one} for the "
                "tensors of one row"
            )
        return limit

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
        indifferent = all(observer.mergeable for observer in self.found.observers.values())
        return bool(free) and all(free) and len(lengths) == 1 and 0 not in lengths and indifferent

    def _take(self, batch: Batch, pool: Executor, rows: int) -> None:
        """Run a batch and observe it, part by part."""
        seen = []
        for start, part in batch.parts(rows):
            tensors = self._tensors(part, batch.number)
            waiting = [
                pool.submit(self._observe, name, tensors, batch.number, start)
                for name in self.found.watches
            ]
            seen.append([future.result() for future in _all_done(waiting)])
            del tensors, waiting
        self._count(batch, seen)

    def _tensors(self, part: Feeds, number: int) -> Tensors:
        try:
            return self.model.run(part, self._fetch)
        except DataError as error:
            raise DataError(f"batch {number}: {error}") from None

    def _observe(self, name: str, tensors: Tensors, number: int, start: int) -> Extent:
        """Show one site's tensors to its observer; the ends of their values."""
        lowest, highest = np.float32(np.inf), np.float32(-np.inf)
        for tensor in self.found.watches[name].site.watched:
            try:
                ends = self.found.observers[name].observe(tensors[tensor])
            except DataError as error:
                if np.isfinite(tensors[tensor]).all():
                    raise DataError(f"tensor {tensor!r} in batch {number}: {error}") from None
                raise not_finite(tensor, tensors[tensor], number, start) from None
            if ends is not None:
                lowest, highest = min(lowest, ends.low.min()), max(highest, ends.high.max())
        return lowest, highest

    def _count(self, batch: Batch, seen: list[list[Extent]]) -> None:
        found = self.found
        for name, extents in zip(found.watches, zip(*seen, strict=True), strict=True):
            low, high = min(e[0] for e in extents), max(e[1] for e in extents)
            if low <= high:  # not where all of it was empty
                found.coverage[name] = found.coverage[name].with_batch(low, high)
        found.batches += 1
        found.rows += batch.rows
        found.data = (found.data + batch.digest()) % 2**DIGEST_BITS


def _all_done(waiting: list[Future[Extent]]) -> list[Future[Extent]]:
    """The futures when none of them runs any more, so that an error leaves nobody at work."""
    wait(waiting)
    return waiting
