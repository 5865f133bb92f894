"""MSE and Lp: the range that makes the sum of errors least. Cosine: the angle.

Source: the searches of MegEngine (HistogramObserver) and PPQ (isotone in its options), which go
through few candidates; here every edge of a bin is one near the best of every sixteenth.
"""

from __future__ import annotations

import abc
from typing import ClassVar

import attrs
import numpy as np

import qsdk
from qsdk.interfaces import Observer
from qsdk_plugins.observers.clipping import Clipping, Range, thresholds, within
from qsdk_plugins.observers.errors import Doubles, Values

ROUNDS = 8  # of low and high in turn; two or three do, mostly
STRIDE = 16  # of the candidates that are looked at first


@attrs.define(kw_only=True, eq=False)
class Searching(Clipping):
    """All thresholds where the grid is symmetric; else the two ends in turn, from the widest on."""

    @abc.abstractmethod
    def _loss(self, values: Values, low: Doubles, high: Doubles, scheme: qsdk.Scheme) -> Doubles:
        """What to make least, for each of these ranges."""

    def _clipped(self, values: Values, whole: Range, scheme: qsdk.Scheme) -> Range:
        if scheme.symmetric:
            return self._best(values, *within(thresholds(values, whole), whole), scheme)
        low, high = best = min(whole[0], 0.0), max(whole[1], 0.0)
        lows = -thresholds(values, (low, min(whole[1], 0.0))) if low < 0 else np.zeros(1)
        highs = thresholds(values, (max(whole[0], 0.0), high)) if high > 0 else np.zeros(1)
        for _ in range(ROUNDS):
            _, high = self._best(values, np.full_like(highs, low), highs, scheme)
            low, _ = self._best(values, lows, np.full_like(lows, high), scheme)
            if (low, high) == best:
                break
            best = low, high
        return max(best[0], whole[0]), min(best[1], whole[1])

    def _best(self, values: Values, low: Doubles, high: Doubles, scheme: qsdk.Scheme) -> Range:
        """The widest of the best: of some candidates first, then of all beside the best."""

        def best(chosen: slice) -> int:
            return int(self._loss(values, low[chosen], high[chosen], scheme).argmin())

        near = best(slice(None, None, STRIDE)) * STRIDE
        first = max(near - STRIDE + 1, 0)
        found = first + best(slice(first, near + STRIDE))
        return float(low[found]), float(high[found])


@attrs.define(kw_only=True, eq=False)
class Mse(Searching):
    """Least ``sum (x - y)**2`` over the values x and their decoded codes y."""

    name: ClassVar[str] = "mse"

    def _loss(self, values: Values, low: Doubles, high: Doubles, scheme: qsdk.Scheme) -> Doubles:
        return values.approximated(low, high, scheme).squared_error


@attrs.define(kw_only=True, eq=False)
class Lp(Searching):
    """Least ``sum |x - y|**p``; more than 2 keeps more of the tails, less cuts more off.

    p : 2.4 as in the code of BRECQ (Li et al., arXiv:2102.05426)
    """

    name: ClassVar[str] = "lp"

    p: float = attrs.field(default=2.4, converter=float, validator=attrs.validators.gt(0))

    def _loss(self, values: Values, low: Doubles, high: Doubles, scheme: qsdk.Scheme) -> Doubles:
        return values.error(low, high, scheme, self.p)


@attrs.define(kw_only=True, eq=False)
class Cosine(Searching):
    """Largest ``x y / (|x| |y|)``, which a gain that all values share does not change."""

    name: ClassVar[str] = "cosine"

    def _loss(self, values: Values, low: Doubles, high: Doubles, scheme: qsdk.Scheme) -> Doubles:
        return -values.approximated(low, high, scheme).cosine


@qsdk.hookimpl
def qsdk_observers() -> list[type[Observer]]:
    return [Mse, Lp, Cosine]
