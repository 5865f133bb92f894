"""Observers that cover another range than the data's: most cut off its tails, so that codes lie
closer where most of it is.
"""

from __future__ import annotations

import abc

import attrs
import numpy as np
from numpy.typing import NDArray

import qsdk
from qsdk_plugins.observers.errors import Doubles, Values
from qsdk_plugins.observers.histogram import NOTHING, Histogram

Range = tuple[float, float]


@attrs.define(kw_only=True, eq=False)
class Clipping(Histogram):
    """A histogram from which the best range for a scheme is searched, channel by channel.

    bins : a candidate end on each edge of a bin; half as many as the plain histogram has, for
        the search takes time
    """

    bins: int = attrs.field(default=2048, validator=attrs.fields(Histogram).bins.validator)

    def range_for(self, scheme: qsdk.Scheme) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        low, high = self.range()
        ends = np.array([low.reshape(-1), high.reshape(-1)])
        for channel, exponent in enumerate(self.seen.exponent):
            if exponent != NOTHING:
                values = Values.of(self.seen.counts[channel], int(exponent))
                whole = (float(ends[0, channel]), float(ends[1, channel]))
                ends[:, channel] = self._clipped(values, whole, scheme)
        return ends[0].reshape(low.shape), ends[1].reshape(high.shape)

    @abc.abstractmethod
    def _clipped(self, values: Values, whole: Range, scheme: qsdk.Scheme) -> Range:
        """The range to use where ``whole`` goes from the lowest to the highest value."""


def thresholds(values: Values, whole: Range) -> Doubles:
    """Edges of bins among the magnitudes, the largest first: it is the magnitude itself."""
    smallest, largest = max(whole[0], -whole[1], 0.0), max(whole[1], -whole[0])
    edges = np.arange(1, np.ceil(largest / values.width)) * values.width
    return np.append(edges[edges >= smallest], largest)[::-1]


def within(threshold: Doubles, whole: Range) -> tuple[Doubles, Doubles]:
    """The ends that magnitudes up to ``threshold`` have in data that reaches over ``whole``."""
    return np.maximum(-threshold, whole[0]), np.minimum(threshold, whole[1])
