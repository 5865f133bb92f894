"""bn_range: ranges without data, from the spread of what noise becomes in the network.

Source: the activations of SQuant (Guo et al., arXiv:2202.07471), whose code takes a multiple of
the deviation on one batch of random inputs: 12, 14 and 25 of them at 4, 6 and 8 bits. Ours: where
layers had batch norms, these hold the noise in shape, and fewer deviations do.
"""

from __future__ import annotations

from typing import ClassVar

import attrs
import numpy as np
from numpy.typing import NDArray

import qsdk
from qsdk.interfaces import Observer
from qsdk_plugins.observers.clipping import Clipping, Range
from qsdk_plugins.observers.errors import Values

PER_BIT = 1.5  # deviations: 12 at 8 bits, 6 at 4
TWO_SIDED = 1.25  # by which the range of values of both signs is narrower
FINE = 6  # bits from which a wide range costs little: nothing that was seen is cut off
LARGEST = float(np.finfo(np.float32).max)
BESIDE = 16  # bins that hold less than the outermost one where that is what a ReLU6 cut off


@attrs.define(kw_only=True, eq=False)
class BnRange(Clipping):
    """``deviations`` times the deviation of all values but exact zeros, from 0; divided by 1.25
    and from the mean, where values have both signs or that is farther.

    deviations : 0 for 1.5 per bit of the codes
    An end that many values share is a bound, and the range ends there too. Below 6 bits the range
    is no wider than what was seen, from 6 on no narrower: noise has shorter tails than data.
    Calibration needs no data for it: it makes noise, and batch norms say how much of it is right.
    """

    name: ClassVar[str] = "bn_range"

    deviations: float = attrs.field(default=0.0, converter=float, validator=attrs.validators.ge(0))

    @property
    def is_data_free(self) -> bool:
        return True

    def _clipped(self, values: Values, whole: Range, scheme: qsdk.Scheme) -> Range:
        low, high = self._spread(values, whole, self.deviations or PER_BIT * scheme.bits)
        if scheme.bits < FINE:
            low, high = np.clip((low, high), *whole).tolist()
        else:
            low, high = max(min(low, whole[0]), -LARGEST), min(max(high, whole[1]), LARGEST)
        return (
            whole[0] if _is_bounded(values.counts) else low,
            whole[1] if _is_bounded(values.counts[::-1]) else high,
        )

    def _spread(self, values: Values, whole: Range, deviations: float) -> Range:
        centres = (np.arange(-values.bins, values.bins) + 0.5) * values.width
        shares = values.counts / values.count
        mean = float(shares @ centres)
        reach = deviations * float(np.sqrt(shares @ np.square(centres - mean)))
        low, high = mean - reach / TWO_SIDED, mean + reach / TWO_SIDED
        if whole[0] >= 0:
            return whole[0], max(reach, high)
        if whole[1] <= 0:
            return min(-reach, low), whole[1]
        return low, high


def _is_bounded(counts: NDArray[np.int64]) -> bool:
    """Whether the values do not thin out at the lower end but stop there."""
    first = int(np.argmax(counts > 0))
    return bool(counts[first] > max(counts[first + 1 : first + 1 + BESIDE].sum(), BESIDE))


@qsdk.hookimpl
def qsdk_observers() -> list[type[Observer]]:
    return [BnRange]
