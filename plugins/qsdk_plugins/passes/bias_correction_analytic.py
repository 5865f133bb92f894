"""Analytic bias correction: the mean that codes of weights shift, from batch norms alone.

Source: Nagel et al., "Data-Free Quantization Through Weight Equalization and Bias Correction",
ICCV 2019, arXiv:1906.04721, section 4.2.1 and appendix C.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any, ClassVar

import attrs
import numpy as np
from numpy.typing import NDArray

import qsdk
from qsdk.interfaces import Changes, Expected, Link, Model, ModelPass
from qsdk.interfaces.model_pass import Feeds

Doubles = NDArray[np.float64]

KEEPS_THE_MEAN = frozenset({"AveragePool", "Flatten", "GlobalAveragePool", "Identity"})


@attrs.frozen(kw_only=True)
class BiasCorrectionAnalytic(ModelPass):
    """``b <- b - (W' - W) E[a]``, W' the decoded weight and a the inputs, summed over the kernel.

    E[a] is that of normal values, clipped as the model clips them, with the mean and deviation that
    a batch norm told (``Model.expected``). Layers whose inputs come from elsewhere, as from an
    Add, stay as they are, and so does what codes of activations shift: ``bias_correction_free``
    reaches both.
    """

    name: ClassVar[str] = "bias_correction_analytic"
    paper: ClassVar[str] = "arXiv:1906.04721"
    needs: ClassVar[frozenset[str]] = frozenset({"graph", "reference"})

    def change(self, model: Model, reference: Model | None, calibration: Iterable[Feeds]) -> Model:
        assert reference is not None  # needed, so it was checked
        floats = {layer.name: layer for layer in reference.layers}
        coded = {layer.name: layer for layer in model.layers}
        biases: dict[str, Any] = {}
        for link in reference.links:
            mean = _mean_behind(link, reference.expected.get(link.first))
            if mean is None or link.second not in coded or coded[link.second].read_bias is None:
                continue
            layer, before = coded[link.second], floats[link.second]
            moved = layer.weight.astype(np.float64) - before.weight
            sums = before.by_input(moved).sum(axis=3)
            shift = (sums @ mean.reshape(len(sums), -1, 1)).reshape(-1)
            biases[link.second] = np.asarray(layer.bias, np.float64) - shift
        return model.changed(Changes(biases=biases)) if biases else model


def _mean_behind(link: Link, expected: Expected | None) -> Doubles | None:
    """Of each channel at the end of a link; None where nothing tells it."""
    clipped: Doubles | None = None
    for step in link.steps:
        if step.expected is not None:
            expected, clipped = step.expected, None
        elif any(end is not None for end in step.ends):
            if expected is None or clipped is not None:
                return None
            clipped = clipped_mean(expected, *step.ends)
        elif step.operation not in KEEPS_THE_MEAN:
            return None
    return expected.mean if clipped is None and expected is not None else clipped


def clipped_mean(expected: Expected, low: Any, high: Any) -> Doubles:
    """Of normal values that are clipped to [low, high], None for no bound.

    ``d (phi(l) - phi(h)) + m (Phi(h) - Phi(l)) + low Phi(l) + high (1 - Phi(h))`` with the bounds
    l and h in deviations d from the mean m; the clipped mean where nothing varies.
    """
    mean, deviation = expected.mean, expected.deviation
    bottom = -np.inf if low is None else np.asarray(low, np.float64)
    top = np.inf if high is None else np.asarray(high, np.float64)
    still = deviation == 0
    spread = np.where(still, 1, deviation)
    l, h = (np.broadcast_to((end - mean) / spread, mean.shape) for end in (bottom, top))  # noqa: E741
    inside = spread * (_density(l) - _density(h)) + mean * (_below(h) - _below(l))
    ends = [np.where(np.isfinite(end), end, 0) for end in (bottom, top)]
    found = inside + ends[0] * _below(l) + ends[1] * (1 - _below(h))
    return np.where(still, np.clip(mean, bottom, top), found)


def _density(x: Doubles) -> Doubles:
    return np.asarray(np.exp(-np.square(x) / 2) / math.sqrt(2 * math.pi))


def _below(x: Doubles) -> Doubles:
    return np.array([0.5 * (1 + math.erf(value / math.sqrt(2))) for value in x.tolist()])


@qsdk.hookimpl
def qsdk_passes() -> list[type[ModelPass]]:
    return [BiasCorrectionAnalytic]
