"""ACIQ: clips where a distribution of the spread that was seen asks for it; nothing is searched.

Source: Banner et al., "Post-training 4-bit quantization of convolution networks for rapid
deployment", arXiv:1810.05723.
"""

from __future__ import annotations

from typing import ClassVar

import attrs
import numpy as np

import qsdk
from qsdk.interfaces import Observer
from qsdk_plugins.observers.clipping import Clipping, Range
from qsdk_plugins.observers.errors import Values


@attrs.define(kw_only=True, eq=False)
class Aciq(Clipping):
    """``mean ± alpha`` of all values but exact zeros; half of it for values of one sign.

    Values of one sign are what a ReLU leaves of a Laplace distribution around zero: its codes need
    no sign, and so do with the factor of one bit more.
    """

    name: ClassVar[str] = "aciq"

    def _clipped(self, values: Values, whole: Range, scheme: qsdk.Scheme) -> Range:
        centres = (np.arange(-values.bins, values.bins) + 0.5) * values.width
        weights = values.counts / values.count
        mean = float(weights @ centres)
        if whole[0] >= 0 or whole[1] <= 0:
            alpha = abs(mean) * qsdk.aciq_factor("laplace", scheme.bits + 1)
            return max(whole[0], -alpha), min(whole[1], alpha)
        off = centres - mean
        deviation, sigma = float(weights @ np.abs(off)), float(np.sqrt(weights @ np.square(off)))
        alpha = float(qsdk.aciq_alpha(deviation, sigma, scheme.bits))
        return max(mean - alpha, whole[0]), min(mean + alpha, whole[1])


@qsdk.hookimpl
def qsdk_observers() -> list[type[Observer]]:
    return [Aciq]
