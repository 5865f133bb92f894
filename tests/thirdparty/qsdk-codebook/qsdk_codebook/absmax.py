"""Absmax: activations range over plus and minus the largest magnitude."""

import attrs
import numpy as np

import qsdk
from qsdk.errors import DataError


@attrs.define(kw_only=True, eq=False)
class AbsMax(qsdk.Observer):
    """From minus to plus the largest magnitude seen; merging is exact, in any order."""

    name = "absmax"
    mergeable = True

    _largest: np.ndarray | None = attrs.field(default=None, init=False)  # one for each channel

    def _observe(self, rows, ends):
        self._widen(np.maximum(ends.high, -ends.low))

    def _widen(self, largest):
        if self._largest is not None and self._largest.shape != largest.shape:
            raise DataError(f"this has {largest.size} channels, not {self._largest.size} as before")
        self._largest = largest if self._largest is None else np.maximum(self._largest, largest)

    def merge(self, other):
        self._require_same_axis(other)
        merged = attrs.evolve(self)
        for part in (self, other):
            if part._largest is not None:
                merged._widen(part._largest)
        return merged

    def range(self):
        if self._largest is None:
            raise DataError("nothing was observed; give a batch that is not empty")
        largest = self._largest.reshape(() if self.axis is None else -1)
        return -largest, largest.copy()

    def state(self):
        return {} if self._largest is None else {"largest": self._largest.copy()}

    def load_state(self, arrays):
        each = (np.float32, ())  # one number for each channel
        held = self._checked_state(arrays, largest=each) if arrays else {}
        self._largest = held.get("largest")


@qsdk.hookimpl
def qsdk_observers():
    return [AbsMax]
