"""Wrong observers: each has one fault."""

from __future__ import annotations

from typing import ClassVar

import attrs
import numpy as np

from qsdk import registry
from qsdk.interfaces import Ends

from .base import MUTANTS, caught_by

MinMax = registry.find("observer:minmax").target


class Good(MinMax):
    """What the mutants of observers are derived from: it passes."""

    name: ClassVar[str] = "good"


# -- What goes in


@caught_by("check_batches_are_left_unchanged")
class ClearsTheBatch(Good):
    def observe(self, x):
        super().observe(x)
        if x.flags.writeable:
            x[...] = 0


@caught_by("check_any_float_type_is_observed")
class OnlySingles(Good):
    def observe(self, x):
        if x.dtype != np.float32:
            raise TypeError(f"no {x.dtype} here")
        super().observe(x)


@caught_by("check_any_memory_layout_is_observed")
class ReadsMemoryInOrder(Good):
    def observe(self, x):
        super().observe(np.ravel(x, order="K").reshape(np.shape(x)))


@caught_by("check_an_empty_batch_changes_nothing")
class CountsEmptyBatches(Good):
    def observe(self, x):
        super().observe(x if np.size(x) else np.full((len(x), 1), 1000.0))


@caught_by("check_nan_and_infinity_leave_the_state_alone")
class TakesNan(Good):
    def observe(self, x):
        super().observe(np.nan_to_num(x, posinf=0, neginf=0))


@caught_by("check_nan_and_infinity_leave_the_state_alone")
class TakesHalfOfABadBatch(Good):
    def observe(self, x):
        if not np.isfinite(x).all():
            super().observe(np.nan_to_num(x) * 0 + np.float32(99))
        super().observe(x)


@caught_by("check_batches_without_floats_are_refused")
class TakesIntegers(Good):
    def observe(self, x):
        super().observe(np.real(x) * np.float32(1))


@caught_by("check_a_batch_of_other_channels_is_refused")
class StartsAnew(Good):
    def _observe(self, rows, ends):
        if self._ends is not None and self._ends.low.size != len(rows):
            self._ends = None
        super()._observe(rows, ends)


@caught_by("check_an_axis_that_a_batch_lacks_is_refused")
class AddsAnAxis(Good):
    def observe(self, x):
        super().observe(np.atleast_1d(x))


# -- What comes out


@caught_by("check_nothing_observed_is_an_error")
class ZeroFromNothing(Good):
    def range(self):
        return super().range() if self._ends is not None else (np.float32(0), np.float32(0))


@caught_by("check_the_range_is_ordered_and_no_wider_than_the_data")
class Backwards(Good):
    def range(self):
        return super().range()[::-1]


@caught_by("check_the_range_is_ordered_and_no_wider_than_the_data")
class Generous(Good):
    def range(self):
        low, high = super().range()
        return low * np.float32(1.5), high * np.float32(1.5)


@caught_by("check_the_range_has_one_entry_per_channel")
class AlwaysAnAxis(Good):
    def range(self):
        return tuple(np.atleast_1d(end) for end in super().range())


@caught_by("check_params_lie_on_the_grid")
class OffTheGrid(Good):
    def params(self, scheme):
        scale, zero_point = super().params(scheme)
        return scale, zero_point + np.int32(1000)


@caught_by("check_the_same_stream_gives_the_same_state")
class CountsObservers(Good):
    calls: ClassVar = iter(range(10**9))

    def state(self):
        return {**super().state(), "call": np.array(next(self.calls))}


# -- State


@caught_by("check_the_state_can_be_stored")
class KeepsText(Good):
    def state(self):
        return {**super().state(), "note": np.array("text")}

    def load_state(self, arrays):
        super().load_state({k: v for k, v in arrays.items() if k != "note"})


@caught_by("check_the_state_round_trips")
class ForgetsTheHigh(Good):
    def load_state(self, arrays):
        super().load_state({**arrays, "high": arrays["low"]} if arrays else {})


@caught_by("check_a_state_given_out_is_a_copy")
class GivesItself(Good):
    def state(self):
        return {} if self._ends is None else {"low": self._ends.low, "high": self._ends.high}


@caught_by("check_a_state_taken_in_is_copied")
class KeepsWhatItLoads(Good):
    def load_state(self, arrays):
        self._ends = Ends(arrays["low"], arrays["high"]) if arrays else None


@caught_by("check_a_state_of_no_observer_is_refused")
class LoadsAnything(Good):
    def load_state(self, arrays):
        ends = [np.array(arrays[name], np.float32) for name in ("low", "high")] if arrays else None
        self._ends = Ends(*ends) if ends else None


@caught_by("check_memory_is_bounded")
class KeepsEverything(Good):
    def observe(self, x):
        super().observe(x)
        self.__dict__.setdefault("all", []).append(np.float32(x).reshape(-1))

    def state(self):
        return {**super().state(), "all": np.concatenate([np.zeros(0), *self.__dict__["all"]])}


# -- Merging


@caught_by("check_merging_equals_one_pass")
class LosesTheOther(Good):
    def merge(self, other):
        return super().merge(self)


@caught_by("check_merging_is_commutative")
class PrefersItself(Good):
    def merge(self, other):
        return super().merge(self if self._ends is not None else other)


@caught_by("check_merging_is_associative")
class Averages(Good):
    def merge(self, other):
        merged = super().merge(other)
        if self._ends is not None and other._ends is not None:
            low = (self._ends.low + other._ends.low) / 2
            merged._ends = attrs.evolve(merged._ends, low=low)
        return merged


@caught_by("check_many_at_once_are_as_one_by_one")
class SeesTheFirstOfTwo(Good):
    @classmethod
    def observe_each(cls, observers, tensors):
        once = {id(observer): observer for observer in observers}
        found = super().observe_each(list(once.values()), tensors[: len(once)])
        return found + [found[0]] * (len(observers) - len(once))


@caught_by("check_many_at_once_tell_what_each_refuses")
class RaisesForAll(Good):
    @classmethod
    def observe_each(cls, observers, tensors):
        for observer, tensor in zip(observers, tensors, strict=True):
            observer.observe(tensor)
        return [(float(np.min(x)), float(np.max(x))) for x in tensors]


@caught_by("check_a_new_observer_is_neutral")
class NothingWins(Good):
    def merge(self, other):
        return super().merge(other) if other._ends is not None else attrs.evolve(other)


@caught_by("check_merging_leaves_both_unchanged")
class MergesInPlace(Good):
    def merge(self, other):
        self._ends = super().merge(other)._ends
        return self


@caught_by("check_merging_raises_where_order_matters")
class MergesAnyhow(Good):
    mergeable = False


# -- Options


@attrs.define(kw_only=True, eq=False)
class NeedsAnOption(Good):
    must: int


MUTANTS.append(("check_an_observer_has_defaults", NeedsAnOption(must=1)))
