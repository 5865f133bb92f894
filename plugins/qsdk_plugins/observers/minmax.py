"""Min-max: the lowest and the highest value ever seen."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar, Self

import attrs
import numpy as np
from numpy.typing import NDArray

import qsdk
from qsdk.errors import DataError
from qsdk.interfaces import Ends, Observer


@attrs.define(kw_only=True, eq=False)
class MinMax(Observer):
    """``[min, max]`` of all values; merging takes the wider ends, exactly."""

    name: ClassVar[str] = "minmax"
    mergeable: ClassVar[bool] = True

    _ends: Ends | None = attrs.field(default=None, init=False)

    def _observe(self, rows: NDArray[np.float32], ends: Ends) -> None:
        self._ends = ends if self._ends is None else self._ends.joined(ends)

    def merge(self, other: Self) -> Self:
        self._require_same_axis(other)
        merged = attrs.evolve(self)
        merged._ends = other._ends if self._ends is None else self._ends.joined(other._ends)
        return merged

    def range(self) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        if self._ends is None:
            raise DataError("nothing was observed; give at least one batch that is not empty")
        return self._ends.range(self.axis)

    def state(self) -> dict[str, NDArray[Any]]:
        if self._ends is None:
            return {}
        return {"low": self._ends.low.copy(), "high": self._ends.high.copy()}

    def load_state(self, arrays: Mapping[str, NDArray[Any]]) -> None:
        self._ends = self._loaded(arrays) if arrays else None

    def _loaded(self, arrays: Mapping[str, NDArray[Any]]) -> Ends:
        each = (np.float32, ())
        return Ends.loaded(**self._checked_state(arrays, low=each, high=each))


@qsdk.hookimpl
def qsdk_observers() -> list[type[Observer]]:
    return [MinMax]
