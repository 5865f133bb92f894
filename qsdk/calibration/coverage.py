"""Whether there was enough data: how far a range would go on growing."""

from __future__ import annotations

from typing import Self

import attrs
import numpy as np
from numpy.typing import NDArray

WIDE = 0.25  # of the range: what may be missing before the data counts as too little


@attrs.frozen(eq=False)
class Coverage:
    """The two outermost ends that batches had on each side: two numbers, however long the stream.

    Merging keeps the outermost of both, so neither cut nor order matters.
    batches : how many were seen
    low, high : float32 (2,), the outermost first; NaN where there are fewer batches
    """

    batches: int = 0
    low: NDArray[np.float32] = attrs.field(factory=lambda: np.full(2, np.nan, np.float32))
    high: NDArray[np.float32] = attrs.field(factory=lambda: np.full(2, np.nan, np.float32))

    def with_batch(self, low: float, high: float) -> Self:
        """This after one more batch, whose values lie between these ends."""
        more = type(self)(
            1, np.array([low, np.nan], np.float32), np.array([high, np.nan], np.float32)
        )
        return self.merge(more)

    def merge(self, other: Self) -> Self:
        low = np.sort(np.append(self.low, other.low))[:2]  # NaN is sorted to the end
        high = -np.sort(-np.append(self.high, other.high))[:2]
        return attrs.evolve(self, batches=self.batches + other.batches, low=low, high=high)

    @property
    def missing(self) -> float:
        """What the range is expected to lack, as a share of it; NaN where one batch tells nothing.

        The jackknife for an end of a distribution: the outermost of n batches falls short by about
        (n - 1) / n of its distance to the second. Source: M. Quenouille, "Notes on bias in
        estimation", Biometrika 43, 1956; D. Robson and J. Whitlock, Biometrika 51, 1964.
        """
        if self.batches < 2:
            return float("nan")
        width = float(max(self.high[0], 0)) - float(min(self.low[0], 0))
        gaps = float(self.low[1] - self.low[0]) + float(self.high[0] - self.high[1])
        return gaps * (self.batches - 1) / self.batches / width if width else 0.0

    @property
    def is_constant(self) -> bool:
        return bool(self.low[0] == self.high[0])

    @property
    def is_enough(self) -> bool:
        """Whether the range looks whole; False where one batch tells nothing."""
        return self.is_constant or self.missing <= WIDE  # which NaN is not

    def __str__(self) -> str:
        if not self.batches:
            return "nothing was observed"
        text = f"[{self.low[0]:.4g}, {self.high[0]:.4g}] in {self.batches} batches"
        if self.is_constant:
            return f"always {self.low[0]:.4g}: every value is the same"
        if self.batches == 1:
            return f"[{self.low[0]:.4g}, {self.high[0]:.4g}] in one batch: give several, to tell"
        if self.missing > WIDE:
            return f"{text}; {100 * self.missing:.0f} % of the range may be missing: give more data"
        return f"{text}; {100 * self.missing:.1f} % of the range may be missing"
