"""Percentile: the range that leaves out a small share of the values at each end."""

from __future__ import annotations

from typing import ClassVar

import attrs
import numpy as np
from numpy.typing import NDArray

import qsdk
from qsdk.interfaces import Observer
from qsdk_plugins.observers.histogram import Histogram


@attrs.define(kw_only=True, eq=False)
class Percentile(Histogram):
    """Quantiles of the mergeable histogram, at most one of its bins off.

    keep_percent : the upper quantile, in percent; the lower one is 100 minus it. 100 is min-max.
    """

    name: ClassVar[str] = "percentile"

    keep_percent: float = attrs.field(
        default=99.99,
        converter=float,
        validator=[attrs.validators.gt(50), attrs.validators.le(100)],
    )

    def range(self) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        low, high = super().range()
        keep = self.keep_percent / 100
        return (
            np.clip(self.quantile(1 - keep, lower=True).reshape(low.shape), low, high),
            np.clip(self.quantile(keep).reshape(high.shape), low, high),
        )


@qsdk.hookimpl
def qsdk_observers() -> list[type[Observer]]:
    return [Percentile]
