"""Folds each batch norm into the layer in front of it.

Source: Jacob et al. 2018, arXiv:1712.05877, section 3.2.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import ClassVar

import attrs
import numpy as np

import qsdk
from qsdk.interfaces import Changes, Model, ModelPass
from qsdk.interfaces.model_pass import Feeds


@attrs.frozen(kw_only=True)
class FoldBatchNorm(ModelPass):
    """``W <- scale * W``, ``b <- scale * b + shift``, channel by channel."""

    name: ClassVar[str] = "fold_batch_norm"
    paper: ClassVar[str] = "arXiv:1712.05877"
    needs: ClassVar[frozenset[str]] = frozenset({"graph"})
    preserves: ClassVar[bool] = True

    def change(self, model: Model, reference: Model | None, calibration: Iterable[Feeds]) -> Model:
        layers = {layer.name: layer for layer in model.layers}
        weights, biases, removed = {}, {}, []
        for link in model.links:
            layer, step = layers[link.first], link.steps[0] if link.steps else None
            if step is None or step.scale is None or not layer.is_float or layer.bias is None:
                continue
            along = step.scale.reshape(-1, *(1,) * (len(layer.shape) - 1))
            weights[layer.name] = layer.weight.astype(np.float64) * along
            biases[layer.name] = layer.bias * step.scale + step.shift
            removed.append(step.output)
        return model.changed(Changes(weights=weights, biases=biases, removed=removed))


@qsdk.hookimpl
def qsdk_passes() -> list[type[ModelPass]]:
    return [FoldBatchNorm]
