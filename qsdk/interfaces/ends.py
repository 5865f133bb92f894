"""The ends of what an observer has seen, which most observers keep."""

from __future__ import annotations

from typing import Self

import attrs
import numpy as np
from numpy.typing import NDArray

from qsdk.errors import DataError

Extent = tuple[float, float]  # the lowest and the highest value, of all channels


@attrs.frozen(eq=False)
class Ends:
    """The lowest and the highest value of each channel: float32 (channels,), never changed."""

    low: NDArray[np.float32]
    high: NDArray[np.float32]

    @classmethod
    def of(cls, low: NDArray[np.float32], high: NDArray[np.float32]) -> Self:
        """Those of a batch, finite and in order."""
        return cls(low + 0, high + 0)  # -0.0 becomes 0.0: one zero

    @classmethod
    def loaded(cls, low: NDArray[np.float32], high: NDArray[np.float32]) -> Self:
        """Those of a state; DataError where they are not finite, or not in order."""
        for channel, (below, above) in enumerate(zip(low, high, strict=True)):
            if not -np.inf < below <= above < np.inf:  # which NaN is not
                raise DataError(
                    f"channel {channel} of the state lies between {below} and {above}; "
                    "give what an observer's state() gave"
                )
        return cls(low, high)

    def joined(self, other: Ends | None) -> Ends:
        """Those of both together; DataError when ``other`` has another number of channels."""
        if other is None:
            return self
        if other.low.size != self.low.size:
            raise DataError(
                f"this has {other.low.size} channels, and {self.low.size} were seen before"
            )
        return Ends(np.minimum(self.low, other.low), np.maximum(self.high, other.high))

    @property
    def extent(self) -> Extent:
        return float(self.low.min()), float(self.high.max())

    def range(self, axis: int | None) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Copies of both, of the shape that :meth:`Observer.range` gives."""
        shape = () if axis is None else self.low.shape
        return self.low.reshape(shape).copy(), self.high.reshape(shape).copy()
