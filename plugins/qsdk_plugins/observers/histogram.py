"""A histogram whose state does not depend on how the data was cut or merged.

The range is a power of two and only ever doubles, summing bins pairwise; since binning by
``floor`` nests, growing then counting equals counting at the final range. Zeros have a count of
their own, because after ReLU they would drown everything else.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, Self

import attrs
import numpy as np
from numpy.typing import ArrayLike, NDArray

import qsdk
from qsdk import native
from qsdk.errors import DataError
from qsdk.interfaces import Ends, Observer
from qsdk.interfaces.ends import Extent
from qsdk.interfaces.finite import not_finite

NOTHING = np.iinfo(np.int32).min  # the exponent before anything but zeros was seen
SMALLEST, LARGEST = -148, 128  # exponents that float32 values have


def counts_in_c(bins: int) -> bool:
    return native.available() and bins <= native.MOST_BINS


@attrs.define(eq=False)
class Seen:
    """The counts of all channels; arrays that are updated in place.

    counts : int64 (channels, 2 * bins); exponent : k of each channel's range
    zeros : per channel
    """

    ends: Ends
    counts: NDArray[np.int64]
    zeros: NDArray[np.int64]
    exponent: NDArray[np.int32]
    _counters: dict[int, native.Counter] = attrs.field(factory=dict, init=False, repr=False)

    @classmethod
    def nothing(cls, ends: Ends, bins: int) -> Self:
        """What was seen before the values that have these ends are counted."""
        channels = ends.low.size
        return cls(
            ends=ends,
            counts=np.zeros((channels, 2 * bins), np.int64),
            zeros=np.zeros(channels, np.int64),
            exponent=np.full(channels, NOTHING, np.int32),
        )

    def copy(self) -> Self:
        return attrs.evolve(
            self, counts=self.counts.copy(), zeros=self.zeros.copy(), exponent=self.exponent.copy()
        )

    def arrays(self) -> dict[str, NDArray[Any]]:
        """All of it by name, not copied."""
        return {**attrs.asdict(self.ends, recurse=False), "counts": self.counts,
                "zeros": self.zeros, "exponent": self.exponent}  # fmt: skip

    def check(self) -> Self:
        """Itself; DataError for counts and ranges that no values can have given."""
        if self.counts.min() < 0 or self.zeros.min() < 0:
            raise DataError("a count of the state is negative; give what state() gave")
        for channel, exponent in enumerate(self.exponent):
            counted = self.counts[channel].any()
            fits = SMALLEST <= exponent <= LARGEST if counted else exponent == NOTHING
            if not fits or not (counted or self.zeros[channel]):
                raise DataError(
                    f"channel {channel} of the state has the range 2**{exponent}, which does not "
                    f"fit its {'' if counted else 'lack of '}counts; give what state() gave"
                )
        return self

    def grow(self, channel: int, exponent: int) -> None:
        """Double the channel's range until it is at least ``2**exponent``."""
        if self.exponent[channel] == NOTHING:
            self.exponent[channel] = exponent
        quarter = self.counts.shape[1] // 4
        while self.exponent[channel] < exponent:
            pairs = self.counts[channel, ::2] + self.counts[channel, 1::2]
            self.counts[channel] = 0
            self.counts[channel, quarter : 3 * quarter] = pairs
            self.exponent[channel] += 1

    def counter(self, channel: int = 0) -> native.Counter:
        """What counts for a channel in C."""
        if channel not in self._counters:
            one = slice(channel, channel + 1)
            self._counters[channel] = native.Counter(
                self.counts[channel], self.exponent[one], self.zeros[one]
            )
        return self._counters[channel]

    def count(self, channel: int, values: NDArray[np.float32], exponent: int) -> None:
        """Take in values, finite, not all zero and smaller than ``2**exponent``."""
        bins = self.counts.shape[1] // 2
        if counts_in_c(bins):
            self.counter(channel).add(values)
            return
        self.grow(channel, exponent)
        self.zeros[channel] += int((values == 0).sum())
        values = values[values != 0]
        # Doubles hold the product exactly, so the floor is that of the true value.
        scaled = np.ldexp(values.astype(np.float64), -int(self.exponent[channel])) * bins
        index = np.floor(scaled).astype(np.int64) + bins
        self.counts[channel] += np.bincount(index, minlength=2 * bins)

    def add(self, other: Seen) -> None:
        """Take in all that ``other`` has seen; ``other`` is grown to the same ranges."""
        self.ends = self.ends.joined(other.ends)
        for channel in range(self.zeros.size):
            self._add(channel, other, channel)

    def _add(self, channel: int, other: Seen, theirs: int) -> None:
        self.zeros[channel] += other.zeros[theirs]
        if other.exponent[theirs] != NOTHING:
            self.grow(channel, int(other.exponent[theirs]))
            other.grow(theirs, int(self.exponent[channel]))
            self.counts[channel] += other.counts[theirs]


def _power_of_two(instance: object, attribute: object, value: int) -> None:
    if not isinstance(value, int) or value < 2 or value & (value - 1):
        raise ValueError(f"bins is {value!r}; give a power of two, such as 4096")


@attrs.define(kw_only=True, eq=False)
class Histogram(Observer):
    """Counts over ``[-2**k, 2**k)`` in ``2 * bins`` equal bins; the range is that of the data.

    bins : bins on each side of zero; at least half of them lie inside the data's magnitude
    """

    name: ClassVar[str] = "histogram"
    mergeable: ClassVar[bool] = True

    bins: int = attrs.field(default=4096, validator=_power_of_two)
    _seen: Seen | None = attrs.field(default=None, init=False, repr=False)

    @property
    def seen(self) -> Seen:
        if self._seen is None:
            raise DataError("nothing was observed; give at least one batch that is not empty")
        return self._seen

    @classmethod
    def observe_each(
        cls, observers: Sequence[Self], tensors: Sequence[ArrayLike]
    ) -> list[Extent | DataError | None]:
        pairs = list(zip(observers, tensors, strict=True))
        if not native.available() or not all(o._counts_whole(x) for o, x in pairs):
            return super().observe_each(observers, tensors)
        begun = {id(o): o._begun() for o in observers}  # one may be given several tensors
        counters = [begun[id(o)].counter() for o in observers]
        found = native.count_each(counters, [np.asarray(x).reshape(-1) for x in tensors])
        return [
            o._joined(begun[id(o)], extent) or not_finite(x, np.asarray(x), "the batch")
            for (o, x), extent in zip(pairs, found, strict=True)
        ]

    def _counts_whole(self, x: ArrayLike) -> bool:
        """Whether the batch is one row that C takes as it is."""
        if not isinstance(x, np.ndarray) or self.axis is not None or self.bins > native.MOST_BINS:
            return False
        return x.dtype == np.float32 and x.flags.c_contiguous and x.size > 0

    def _take(self, rows: NDArray[np.float32]) -> Ends | None:
        if len(rows) > 1 or not counts_in_c(self.bins):
            return super()._take(rows)  # the counts of all channels would be there twice
        seen = self._begun()
        found = self._joined(seen, seen.counter().add(rows[0]))
        return Ends.of(*np.array(found, np.float32).reshape(2, 1)) if found else None

    def _begun(self) -> Seen:
        """What was seen of one channel, or what is to be held once there is something."""
        return self._seen or Seen.nothing(Ends.of(*np.zeros((2, 1), np.float32)), self.bins)

    def _joined(self, seen: Seen, found: Extent | None) -> Extent | None:
        """The ends of a batch, which ``seen`` now holds too; None if it did not count it."""
        if found is None:
            return None
        low, high = found
        if self._seen is None or low < seen.ends.low[0] or high > seen.ends.high[0]:
            ends = Ends.of(np.array([low], np.float32), np.array([high], np.float32))
            seen.ends = ends.joined(self._seen.ends if self._seen else None)
        self._seen = seen
        return found

    def _observe(self, rows: NDArray[np.float32], ends: Ends) -> None:
        if self._seen is None:
            self._seen = Seen.nothing(ends, self.bins)
        seen = self._seen
        seen.ends = seen.ends.joined(ends)
        # frexp: |x| = f * 2**e with f < 1, so 2**e is above |x| even at a power of two.
        sizes = np.maximum(ends.high, -ends.low)
        for channel, row in enumerate(rows):
            if sizes[channel]:
                seen.count(channel, row, int(np.frexp(sizes[channel])[1]))
            else:
                seen.zeros[channel] += row.size

    def merge(self, other: Self) -> Self:
        if self.bins != other.bins:
            raise DataError(f"histograms of {self.bins} and {other.bins} bins do not merge")
        self._require_same_axis(other)
        merged = attrs.evolve(self)
        parts = [part._seen.copy() for part in (self, other) if part._seen is not None]
        if parts:
            merged._seen = parts[0]
        if len(parts) == 2:
            parts[0].add(parts[1])
        return merged

    def range(self) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        return self.seen.ends.range(self.axis)

    def quantile(self, share: float, *, lower: bool = False) -> NDArray[np.float32]:
        """An edge of the bin in which the cumulative count reaches ``share``, per channel.

        The upper edge is at most one bin above the true quantile of all values, zeros included;
        the ``lower`` one at most one bin below it.
        """
        counts = self.seen.counts.copy()
        zeros_bin = self.bins if lower else self.bins - 1  # whose edge is zero
        counts[:, zeros_bin] += self.seen.zeros
        reached = np.cumsum(counts, axis=1)
        needed = np.maximum(np.ceil(share * reached[:, -1]), 1)
        place = (reached >= needed[:, None]).argmax(axis=1) - self.bins + (not lower)
        exponent = np.where(self.seen.exponent == NOTHING, 0, self.seen.exponent)
        largest = float(np.finfo(np.float32).max)  # the outermost edges may be 2**128 and -2**128
        edge = np.ldexp(place / self.bins, exponent)
        return np.asarray(np.clip(edge, -largest, largest), np.float32)

    def state(self) -> dict[str, NDArray[Any]]:
        held = {} if self._seen is None else self._seen.arrays()
        return {name: array.copy() for name, array in held.items()}

    def load_state(self, arrays: Mapping[str, NDArray[Any]]) -> None:
        self._seen = self._loaded(arrays) if arrays else None

    def _loaded(self, arrays: Mapping[str, NDArray[Any]]) -> Seen:
        held = self._checked_state(
            arrays,
            low=(np.float32, ()),
            high=(np.float32, ()),
            counts=(np.int64, (2 * self.bins,)),
            zeros=(np.int64, ()),
            exponent=(np.int32, ()),
        )
        ends = Ends.loaded(held.pop("low"), held.pop("high"))
        return Seen(ends=ends, **held).check()


@qsdk.hookimpl
def qsdk_observers() -> list[type[Observer]]:
    return [Histogram]
