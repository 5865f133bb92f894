"""Passive: a range that is given, or that of the first batch; nothing later changes it.

Source: MegEngine's PassiveObserver, which holds parameters that are set from outside.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar, Self

import attrs
import numpy as np
from numpy.typing import NDArray

import qsdk
from qsdk.errors import DataError, OptionError
from qsdk.interfaces import Ends, Observer


@attrs.define(kw_only=True, eq=False)
class Passive(Observer):
    """Keeps ``[low, high]``, whatever it is shown.

    low, high : the ends, the same for all channels; without them those of the first batch
    """

    name: ClassVar[str] = "passive"
    mergeable: ClassVar[bool] = False

    low: float | None = None
    high: float | None = None
    _ends: Ends | None = attrs.field(default=None, init=False)

    def __attrs_post_init__(self) -> None:
        if self.low is None and self.high is None:
            return
        ends = np.array([self.low, self.high], np.float32)  # None becomes NaN
        if not (np.isfinite(ends).all() and ends[0] <= ends[1]):
            raise OptionError(
                f"low is {self.low} and high is {self.high}; give two finite numbers in order"
            )
        if self.axis is None:
            self._ends = Ends(ends[:1], ends[1:])

    @property
    def is_data_free(self) -> bool:
        return self.low is not None

    def _observe(self, rows: NDArray[np.float32], ends: Ends) -> None:
        if self._ends is not None:
            ends.joined(self._ends)  # refuses another number of channels
        elif self.low is not None and self.high is not None:
            each = len(rows)
            self._ends = Ends(np.full(each, self.low, "f4"), np.full(each, self.high, "f4"))
        else:
            self._ends = ends

    def merge(self, other: Self) -> Self:
        raise DataError(
            "passive keeps a range that is set once, so two of them do not merge; "
            "use the one whose range is wanted, or minmax"
        )

    def range(self) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        if self._ends is None:
            raise DataError("no range is set; give low and high, or observe a batch")
        return self._ends.range(self.axis)

    def state(self) -> dict[str, NDArray[Any]]:
        if self._ends is None:
            return {}
        return {"low": self._ends.low.copy(), "high": self._ends.high.copy()}

    def load_state(self, arrays: Mapping[str, NDArray[Any]]) -> None:
        each = (np.float32, ())
        self._ends = (
            Ends.loaded(**self._checked_state(arrays, low=each, high=each)) if arrays else None
        )


@qsdk.hookimpl
def qsdk_observers() -> list[type[Observer]]:
    return [Passive]
