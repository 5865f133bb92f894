"""High-bias absorption: what a channel always has goes into the bias of the next layer.

Source: Nagel et al., "Data-Free Quantization Through Weight Equalization and Bias Correction",
ICCV 2019, arXiv:1906.04721, section 4.1.3. Ours: bounds of a clip (ReLU6) move along, and layers
that pad are left alone, for what they pad with has nothing to give.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, ClassVar

import attrs
import numpy as np

import qsdk
from qsdk.interfaces import Changes, Expected, Layer, Link, Model, ModelPass
from qsdk.interfaces.model_pass import Feeds

# What adds a constant to its result when one is added to all of its inputs, these being above 0.
MOVES_ALONG = frozenset({"Clip", "Flatten", "GlobalAveragePool", "Identity", "MaxPool", "Relu"})


@attrs.frozen(kw_only=True)
class AbsorbBias(ModelPass):
    """``b1 -= c`` and ``b2 += W2 c`` with ``c = max(0, mean - deviations * deviation)``.

    Mean and deviation are those that batch norms told (``Model.expected``); layers that had none
    stay as they are. Exact for values above c, 99.87 % of a normal distribution's at 3 deviations.
    """

    name: ClassVar[str] = "absorb_bias"
    paper: ClassVar[str] = "arXiv:1906.04721"
    needs: ClassVar[frozenset[str]] = frozenset({"graph"})

    deviations: float = attrs.field(default=3.0, converter=float, validator=attrs.validators.ge(0))

    def change(self, model: Model, reference: Model | None, calibration: Iterable[Feeds]) -> Model:
        layers = {layer.name: layer for layer in model.layers}
        biases: dict[str, Any] = {}
        bounds: dict[str, Any] = {}
        expected = dict(model.expected)
        for link in model.links:
            told = expected.get(link.first)
            if told is None or not _is_movable(link, layers):
                continue
            c = np.maximum(told.mean - self.deviations * told.deviation, 0)
            if not c.any():
                continue
            assert link.second is not None
            for name, more in ((link.first, -c), (link.second, _through(layers[link.second], c))):
                biases[name] = biases.get(name, np.asarray(layers[name].bias, np.float64)) + more
            expected[link.first] = Expected(mean=told.mean - c, deviation=told.deviation)
            for step in link.steps:
                if step.high is not None:
                    bounds[step.output] = (step.low, step.high - c)
        if not biases:
            return model
        kept = {name: expected[name] for name in biases if name in expected}
        return model.changed(Changes(biases=biases, bounds=bounds, expected=kept))


def _is_movable(link: Link, layers: dict[str, Layer]) -> bool:
    """Whether a ReLU or the like is all that lies between, before a layer that does not pad."""
    if link.second is None or not link.steps:
        return False
    first, second = layers[link.first], layers[link.second]
    lows = [low for low, _ in (step.ends for step in link.steps) if low is not None]
    return (
        {step.operation for step in link.steps} <= MOVES_ALONG
        and all(step.scale is None for step in link.steps)
        and len(lows) == 1 and not np.any(lows[0])
        and first.read_bias is not None and second.read_bias is not None
        and first.is_float and second.is_float
        and not np.any(second.attributes.get("pads", 0))
        and second.attributes.get("auto_pad", "NOTSET") in ("NOTSET", "VALID")
    )  # fmt: skip


def _through(layer: Layer, c: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    """What a layer makes of inputs that are c everywhere, (out channels,)."""
    sums = layer.by_input(layer.weight.astype(np.float64)).sum(axis=3)
    return np.asarray((sums @ c.reshape(len(sums), -1, 1)).reshape(-1))


@qsdk.hookimpl
def qsdk_passes() -> list[type[ModelPass]]:
    return [AbsorbBias]
