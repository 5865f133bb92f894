"""What codes of a scheme make of a histogram's values: the sums behind every error measure.

A bin's values count as spread evenly over it, as in MegEngine's search; a border between two codes
may cut it anywhere. All levels of many candidate grids are summed at once, from running sums.
"""

from __future__ import annotations

from typing import Self

import attrs
import numpy as np
from numpy.typing import NDArray

import qsdk

Doubles = NDArray[np.float64]


@attrs.frozen(eq=False)
class Approximation:
    """Sums over all values x and their decoded codes y, one entry per candidate.

    dot : sum of x y; power : sum of y y; total : sum of x x, the same for all
    """

    dot: Doubles
    power: Doubles
    total: float

    @property
    def squared_error(self) -> Doubles:
        """Sum of (x - y)**2."""
        return np.maximum(self.total - 2 * self.dot + self.power, 0)

    @property
    def cosine(self) -> Doubles:
        """x y / (|x| |y|); 0 where the codes are all zero."""
        norm = np.sqrt(self.total * self.power)
        return np.divide(self.dot, norm, out=np.zeros_like(norm), where=norm > 0)


@attrs.frozen(eq=False)
class Values:
    """One channel's values as a histogram tells them; zeros, which every grid holds, left out.

    width : of a bin, in the unit of the data
    counts : (2 * bins,), the middle is zero
    """

    width: float
    counts: NDArray[np.int64]
    total: float  # sum of x x
    _number: Doubles  # (2 * bins + 1,): of values below each edge
    _sum: Doubles  # of x below each edge

    @classmethod
    def of(cls, counts: NDArray[np.int64], exponent: int) -> Self:
        """counts over ``[-2**exponent, 2**exponent)``."""
        bins = len(counts) // 2
        width = float(np.ldexp(1.0, exponent) / bins)
        centres = (np.arange(-bins, bins) + 0.5) * width
        total = float(counts @ (np.square(centres) + width * width / 12))
        below = (np.append(0.0, np.cumsum(part)) for part in (counts, counts * centres))
        return cls(width, counts, total, *below)

    @property
    def bins(self) -> int:
        """Bins on each side of zero."""
        return len(self.counts) // 2

    @property
    def count(self) -> int:
        return int(self._number[-1])

    def approximated(self, low: Doubles, high: Doubles, scheme: qsdk.Scheme) -> Approximation:
        """How codes of ``scheme`` come out whose grid covers each of these ranges."""
        scale, zero_point = qsdk.scale_and_zero_point(low, high, scheme)
        steps = scale.astype(np.float64)[:, np.newaxis]
        codes = np.arange(scheme.qmin, scheme.qmax + 1) - zero_point[:, np.newaxis]
        borders = (codes[:, :-1] + 0.5) * steps
        number, sum_ = self._below(borders / self.width + self.bins)
        # By parts: beyond a border y is larger by a step, y y by two steps times the border.
        top = codes[:, -1] * steps[:, 0]
        dot = top * self._sum[-1] - steps[:, 0] * sum_.sum(axis=1)
        power = np.square(top) * self.count - 2 * steps[:, 0] * (borders * number).sum(axis=1)
        return Approximation(dot, power, self.total)

    def error(self, low: Doubles, high: Doubles, scheme: qsdk.Scheme, power: float) -> Doubles:
        """Sum of |x - y|**power, the values of a bin at its centre."""
        bins = np.flatnonzero(self.counts)
        x = (bins - self.bins + 0.5) * self.width
        scale, zero_point = qsdk.scale_and_zero_point(low, high, scheme)
        found = np.empty(len(scale))
        for i, (step, zero) in enumerate(zip(scale.tolist(), zero_point.tolist(), strict=True)):
            codes = np.clip(np.rint(x / step), scheme.qmin - zero, scheme.qmax - zero)
            found[i] = np.abs(x - codes * step) ** power @ self.counts[bins]
        return found

    def _below(self, edges: Doubles) -> tuple[Doubles, Doubles]:
        """How many values lie below each edge, and their sum; edges in bins from the lowest."""
        inside = np.clip(edges, 0, len(self.counts))
        bin_ = np.minimum(inside.astype(np.intp), len(self.counts) - 1)
        share = inside - bin_
        here = self.counts[bin_] * share
        mean = (bin_ - self.bins + share / 2) * self.width  # of the part of the bin below the edge
        return self._number[bin_] + here, self._sum[bin_] + here * mean
