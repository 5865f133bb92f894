"""KL: the threshold at which fewer levels tell least less than the histogram does.

Source: S. Migacz, "8-bit inference with TensorRT", GTC 2017, S7310; group edges as MNN cuts them.
Exact zeros are left out: after a ReLU they are half of the data and the method collapses.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import ClassVar

import attrs
import numpy as np
from numpy.typing import NDArray

import qsdk
from qsdk.interfaces import Observer
from qsdk_plugins.observers.clipping import Clipping, Range, within
from qsdk_plugins.observers.errors import Doubles, Values

NOWHERE = 1e-12  # what a bin weighs in the coarse histogram where it has no group with values
CLEARED = 0.002  # of the bins: the lowest ones, which one strategy leaves out
KEPT = 0.9999  # of the values: another strategy
FEW = 100  # values per channel, below which nothing is cut off


def folded(values: Values, largest: float) -> NDArray[np.int64]:
    """Counts of magnitudes, of both signs together, up to the largest."""
    bins = values.bins
    both: NDArray[np.int64] = values.counts[bins:] + values.counts[bins - 1 :: -1]
    return both[: int(np.ceil(largest / values.width))]


def best(counts: NDArray[np.int64], levels: int, *, fold_tail: bool = True) -> int:
    """How many bins to keep: the first of the least divergences."""
    kept = np.arange(levels, len(counts) + 1)
    found = divergences(counts.astype(np.float64), kept, levels, fold_tail)
    return int(kept[found.argmin()]) if found.size else len(counts)


def divergences(counts: Doubles, kept: NDArray[np.int64], levels: int, fold_tail: bool) -> Doubles:
    """``sum P ln (P / Q)`` for each number of bins kept.

    P : the kept bins, the tail added to the last. Q : the kept bins without the tail in so many
    equal groups, each group's mass spread evenly over what bins of it are not empty; a bin that
    two groups share counts by its fractions.
    """
    places = np.arange(len(counts) + 1.0)
    mass, filled = (np.append(0, np.cumsum(part)) for part in (counts, counts > 0))
    found = np.full(len(kept), np.inf)
    for n, i in enumerate(kept):
        edges = np.linspace(0, i, levels + 1)
        group = np.diff(np.interp(edges, places, mass))
        members = np.diff(np.interp(edges, places, filled))
        each = np.divide(group, members, out=np.zeros(levels), where=members > 0)
        spread = np.append(0, np.cumsum(each)) * (i / levels)
        q = np.diff(np.interp(places[: i + 1], edges, spread)) * (counts[:i] > 0)
        p = counts[:i].copy()
        p[-1] += (mass[-1] - mass[i]) * fold_tail
        if q.sum() > 0:
            found[n] = _divergence(p / p.sum(), q / q.sum())
    return found


def _divergence(p: Doubles, q: Doubles) -> float:
    here = p > 0
    return float((p[here] * np.log(p[here] / np.maximum(q[here], NOWHERE))).sum())


def _cleared(counts: NDArray[np.int64], levels: int) -> int:
    counts = counts.copy()
    counts[: int(np.ceil(CLEARED * len(counts)))] = 0
    return best(counts, levels)


def _percentile(counts: NDArray[np.int64], levels: int) -> int:
    reached = np.cumsum(counts)
    return int(np.searchsorted(reached, np.ceil(KEPT * reached[-1]))) + 1


# Each gives the number of bins to keep.
STRATEGIES: dict[str, Callable[[NDArray[np.int64], int], int]] = {
    "max": lambda counts, levels: len(counts),
    "kl": best,
    "cleared": _cleared,
    "dropped": functools.partial(best, fold_tail=False),
    "percentile": _percentile,
}


@attrs.frozen(eq=False)
class Choice:
    """Thresholds of one channel by strategy, and the squared error expected of each."""

    thresholds: dict[str, float]
    errors: dict[str, float]

    @property
    def name(self) -> str:
        """The strategy of the least error; the first of equals."""
        return min(self.errors, key=self.errors.__getitem__)


def choose(values: Values, whole: Range, scheme: qsdk.Scheme) -> Choice:
    """Every strategy's threshold and error."""
    found = {name: cut(name, values, whole, scheme) for name in STRATEGIES}
    ends = within(np.array(list(found.values())), whole)
    errors = values.approximated(*ends, scheme).squared_error
    return Choice(found, dict(zip(found, errors.tolist(), strict=True)))


def cut(strategy: str, values: Values, whole: Range, scheme: qsdk.Scheme) -> float:
    """The threshold; the largest magnitude where there is too little data to tell."""
    largest = max(whole[1], -whole[0])
    counts = folded(values, largest)
    one_sided = whole[0] >= 0 or whole[1] <= 0
    levels = 2 ** (scheme.bits - (scheme.symmetric or not one_sided))
    if values.count < FEW or np.count_nonzero(counts) < levels:
        return largest
    return min(STRATEGIES[strategy](counts, levels) * values.width, largest)


@attrs.define(kw_only=True, eq=False)
class Kl(Clipping):
    """Least Kullback-Leibler divergence between the histogram and one of as many bins as levels.

    strategy : "kl"; "cleared" leaves the lowest 0.2 % of the bins out; "dropped" leaves the values
        above the threshold out instead of counting them in the last bin; "percentile" keeps
        99.99 % of the values; "max" cuts nothing off; "auto" takes the one whose codes are expected
        to make the least squared error
    """

    name: ClassVar[str] = "kl"

    strategy: str = attrs.field(
        default="auto", validator=attrs.validators.in_(("auto", *STRATEGIES))
    )

    def choices(self, scheme: qsdk.Scheme) -> list[Choice | None]:
        """What each strategy gives, channel by channel; None where all values are zero."""
        low, high = (end.reshape(-1) for end in self.range())
        found: list[Choice | None] = []
        for channel, counts in enumerate(self.seen.counts):
            whole = float(low[channel]), float(high[channel])
            values = Values.of(counts, int(self.seen.exponent[channel])) if counts.any() else None
            found.append(None if values is None else choose(values, whole, scheme))
        return found

    def _clipped(self, values: Values, whole: Range, scheme: qsdk.Scheme) -> Range:
        if self.strategy == "auto":
            choice = choose(values, whole, scheme)
            threshold = choice.thresholds[choice.name]
        else:
            threshold = cut(self.strategy, values, whole, scheme)
        return max(-threshold, whole[0]), min(threshold, whole[1])


@qsdk.hookimpl
def qsdk_observers() -> list[type[Observer]]:
    return [Kl]
