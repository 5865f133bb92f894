"""Bias correction: gives each output channel of a quantized model the mean it had in float.

Source: Nagel et al., arXiv:1906.04721, section 4.2, in its empirical form.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable
from typing import ClassVar

import attrs
import numpy as np
from numpy.typing import NDArray

import qsdk
from qsdk.errors import DataError
from qsdk.interfaces import Changes, Layer, Model, ModelPass, Stage
from qsdk.interfaces.model_pass import Feeds

Doubles = NDArray[np.float64]


@attrs.frozen(kw_only=True)
class BiasCorrection(ModelPass):
    """``b <- b + E[y] - E[y']``, layer after layer, y' computed with what is corrected already.

    samples : so many inputs are looked at, at most. What later layers need of each is held, of
        the float model and of the quantized one, and nothing else
    """

    name: ClassVar[str] = "bias_correction"
    paper: ClassVar[str] = "arXiv:1906.04721"
    needs: ClassVar[frozenset[str]] = frozenset({"graph", "run", "calibration", "reference"})

    samples: int = attrs.field(default=256, validator=attrs.validators.ge(1))

    def change(self, model: Model, reference: Model | None, calibration: Iterable[Feeds]) -> Model:
        assert reference is not None  # needed, so it was checked
        held = list(_first(calibration, self.samples))
        if not held:
            raise DataError("bias_correction was given no calibration batch; give one or more")
        theirs = {layer.name for layer in reference.layers}
        layers = {
            layer.name: layer
            for layer in model.layers
            if layer.read_bias is not None and layer.name in theirs
        }
        expected, found = ([dict(feeds) for feeds in held] for _ in range(2))
        biases: dict[str, Doubles] = {}
        pairs = zip(reference.stages(layers), model.stages(layers), strict=True)
        for stage_before, stage in pairs:
            layer = layers[stage.layer]
            before, after = _advance(stage_before, expected, layer), _advance(stage, found, layer)
            shift = before - after
            biases[layer.name] = np.asarray(layer.bias, np.float64) + shift
            for tensors in found:
                value = tensors[stage.output]
                tensors[stage.output] = value + _along(shift, value, layer).astype(value.dtype)
        return model.changed(Changes(biases=biases))


def _first(calibration: Iterable[Feeds], samples: int) -> Iterable[Feeds]:
    """Batches until there are so many samples; the last one is cut."""
    left = samples
    for feeds in calibration:
        count = max((len(array) for array in feeds.values() if np.ndim(array)), default=1)
        yield {name: a[:left] if np.shape(a)[:1] == (count,) else a for name, a in feeds.items()}
        left -= count
        if left <= 0:
            return


def _advance(stage: Stage, held: list[dict[str, NDArray[np.float32]]], layer: Layer) -> Doubles:
    """Run a stage on every batch, keep what is needed later; the mean of each channel."""
    total, count = np.zeros(layer.shape[0]), 0
    for i, tensors in enumerate(held):
        made = stage.run(tensors)
        value = np.moveaxis(made[stage.output], _axis(layer), -1)
        total += value.reshape(-1, layer.shape[0]).sum(axis=0, dtype=np.float64)
        count += value.size // max(layer.shape[0], 1)
        every = itertools.chain(tensors.items(), made.items())
        held[i] = {name: array for name, array in every if name in stage.keep}
    return total / max(count, 1)


def _axis(layer: Layer) -> int:
    """Where the output of a layer has its channels."""
    return 1 if layer.operation in ("Conv", "ConvTranspose") else -1


def _along(shift: Doubles, value: NDArray[np.float32], layer: Layer) -> Doubles:
    beside = value.ndim - 2 if _axis(layer) == 1 else 0
    return shift.reshape(-1, *(1,) * beside)


@qsdk.hookimpl
def qsdk_passes() -> list[type[ModelPass]]:
    return [BiasCorrection]
