"""Min-max: the lowest and the highest value ever seen."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar, Self

import attrs
import numpy as np
from numpy.typing import NDArray

import qsdk
from qsdk.errors import DataError
from qsdk.interfaces import Observer


@attrs.define(kw_only=True, eq=False)
class MinMax(Observer):
    """``[min, max]`` of all values; merging takes the wider ends, exactly."""

    name: ClassVar[str] = "minmax"
    mergeable: ClassVar[bool] = True

    _low: NDArray[np.float32] | None = attrs.field(default=None, init=False)
    _high: NDArray[np.float32] | None = attrs.field(default=None, init=False)

    def _observe(self, rows: NDArray[np.float32]) -> None:
        self._widen(rows.min(axis=1) + 0, rows.max(axis=1) + 0)  # -0.0 becomes 0.0: one zero

    def _widen(self, low: NDArray[np.float32], high: NDArray[np.float32]) -> None:
        if self._low is None or self._high is None:
            self._low, self._high = low, high
            return
        if low.shape != self._low.shape:
            raise DataError(f"this has {low.size} channels, and {self._low.size} were seen before")
        self._low, self._high = np.minimum(self._low, low), np.maximum(self._high, high)

    def merge(self, other: Self) -> Self:
        if self.axis != other.axis:
            raise DataError(f"observers of axis {self.axis} and {other.axis} do not merge")
        merged = attrs.evolve(self)
        for part in (self, other):
            if part._low is not None and part._high is not None:
                merged._widen(part._low, part._high)
        return merged

    def range(self) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        if self._low is None or self._high is None:
            raise DataError("nothing was observed; give at least one batch that is not empty")
        shape = () if self.axis is None else self._low.shape
        return self._low.reshape(shape).copy(), self._high.reshape(shape).copy()

    def state(self) -> dict[str, NDArray[Any]]:
        if self._low is None or self._high is None:
            return {}
        return {"low": self._low.copy(), "high": self._high.copy()}

    def load_state(self, arrays: Mapping[str, NDArray[Any]]) -> None:
        self._low, self._high = (
            (arrays["low"].copy(), arrays["high"].copy()) if arrays else (None, None)
        )


@qsdk.hookimpl
def qsdk_observers() -> list[type[Observer]]:
    return [MinMax]
