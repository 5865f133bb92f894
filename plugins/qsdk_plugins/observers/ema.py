"""EMA: a running mean of the ends of each batch, in which later batches weigh more.

Source: MegEngine's ExponentialMovingAverageObserver.
"""

from __future__ import annotations

from typing import ClassVar, Self

import attrs
import numpy as np
from numpy.typing import NDArray

import qsdk
from qsdk.errors import DataError
from qsdk.interfaces import Ends, Observer
from qsdk_plugins.observers.minmax import MinMax


@attrs.define(kw_only=True, eq=False)
class Ema(MinMax):
    """``end = momentum * end + (1 - momentum) * end of the batch``; the first batch starts it.

    momentum : the share that stays; 0 is the last batch alone
    """

    name: ClassVar[str] = "ema"
    mergeable: ClassVar[bool] = False

    momentum: float = attrs.field(
        default=0.9,
        converter=float,
        validator=[attrs.validators.ge(0), attrs.validators.lt(1)],
    )

    def _observe(self, rows: NDArray[np.float32], ends: Ends) -> None:
        if self._ends is not None:
            ends.joined(self._ends)  # refuses another number of channels
            low = self._moved(self._ends.low, ends.low)
            ends = Ends(low, self._moved(self._ends.high, ends.high))
        self._ends = ends

    def _moved(self, old: NDArray[np.float32], new: NDArray[np.float32]) -> NDArray[np.float32]:
        mean = self.momentum * old.astype(np.float64) + (1 - self.momentum) * new
        return mean.astype(np.float32)

    def merge(self, other: Self) -> Self:
        raise DataError(
            "ema depends on the order of the batches, so two of them do not merge; "
            "use minmax, or let one observer see all batches"
        )


@qsdk.hookimpl
def qsdk_observers() -> list[type[Observer]]:
    return [Ema]
