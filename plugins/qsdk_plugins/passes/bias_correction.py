"""Bias correction: gives each output channel of a quantized model the mean it had in float.

Source: Nagel et al., arXiv:1906.04721, section 4.2, in its empirical form.
"""

from __future__ import annotations

import itertools
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from typing import ClassVar

import attrs
import numpy as np
from numpy.typing import NDArray

import qsdk
from qsdk.errors import DataError
from qsdk.interfaces import Changes, Layer, Model, ModelPass, Stage, as_expected, noise
from qsdk.interfaces.model_pass import Feeds
from qsdk_plugins.passes.samples import HELD_BYTES, first_samples

Doubles = NDArray[np.float64]
Tensors = dict[str, NDArray[np.float32]]
Held = tuple[str, list[Tensors]]  # a layer's output, and what is held of each batch


@attrs.frozen(kw_only=True)
class BiasCorrection(ModelPass):
    """``b <- b + E[y] - E[y']``, layer after layer, y' computed with what is corrected already.

    samples : so many inputs are looked at, at most. What later layers need of each is held, of
        the float model and of the quantized one, and nothing else; where that is more than 32 MiB
        the last samples are left out from there on
    """

    name: ClassVar[str] = "bias_correction"
    paper: ClassVar[str] = "arXiv:1906.04721"
    needs: ClassVar[frozenset[str]] = frozenset({"graph", "run", "calibration", "reference"})

    samples: int = attrs.field(default=256, validator=attrs.validators.ge(1))

    def change(self, model: Model, reference: Model | None, calibration: Iterable[Feeds]) -> Model:
        assert reference is not None  # needed, so it was checked
        expected = [dict(feeds) for feeds in self._feeds(reference, calibration)]
        if not expected:
            raise DataError("bias_correction was given no calibration batch; give one or more")
        theirs = {layer.name for layer in reference.layers}
        layers = {
            layer.name: layer
            for layer in model.layers
            if layer.read_bias is not None and layer.name in theirs
        }
        found = [dict(feeds) for feeds in expected]
        biases: dict[str, Doubles] = {}
        stages = (_in_turn(each.stages(layers)) for each in (reference, model))
        for stage_before, stage in zip(*stages, strict=True):
            layer = layers[stage.layer]
            sums = _Mean(layer), _Mean(layer)
            bytes_held = 0
            for i in range(len(expected)):
                expected[i] = sums[0].advanced(stage_before, expected[i])
                found[i] = sums[1].advanced(stage, found[i])
                bytes_held += sum(a.nbytes for at in (expected, found) for a in at[i].values())
                if bytes_held > HELD_BYTES:
                    break
            del expected[i + 1 :], found[i + 1 :]
            shift = sums[0].value - sums[1].value
            biases[layer.name] = np.asarray(layer.bias, np.float64) + shift
            for tensors in found:
                value = tensors[stage.output]
                tensors[stage.output] = value + layer.along(shift, value)
            self._hold(layer, reference, (stage_before.output, expected), (stage.output, found))
        return model.changed(Changes(biases=biases))

    def _feeds(self, reference: Model, calibration: Iterable[Feeds]) -> Iterable[Feeds]:
        return first_samples(calibration, self.samples)

    def _hold(self, layer: Layer, reference: Model, expected: Held, found: Held) -> None:
        """For those that change what a corrected layer hands on, in place."""


def _in_turn(stages: Sequence[Stage]) -> Iterator[Stage]:
    """One after the other, none held any longer than it is needed."""
    waiting = deque(stages)
    del stages
    while waiting:
        yield waiting.popleft()


class _Mean:
    """Of each channel of a layer's output, over all batches that a stage has run on."""

    def __init__(self, layer: Layer):
        self._layer, self._total, self._count = layer, np.zeros(layer.shape[0]), 0

    def advanced(self, stage: Stage, tensors: Tensors) -> Tensors:
        """Run a stage on what is held of one batch; what is needed later."""
        made = stage.run(tensors)
        value = np.moveaxis(made[stage.output], self._layer.output_axis, -1)
        channels = len(self._total)
        self._total += value.reshape(-1, channels).sum(axis=0, dtype=np.float64)
        self._count += value.size // max(channels, 1)
        every = itertools.chain(tensors.items(), made.items())
        return {name: array for name, array in every if name in stage.keep}

    @property
    def value(self) -> Doubles:
        return self._total / max(self._count, 1)


@attrs.frozen(kw_only=True)
class BiasCorrectionFree(BiasCorrection):
    """The same on noise, without data: between layers each channel is scaled and shifted until the
    float model has the mean and deviation that the batch norm behind the layer told.

    Both models get the same scale and shift. Where no batch norm was, noise goes on as it is.
    samples : of noise, where no calibration batches take its place; 0 for as many as make the
        statistics good to a few percent
    """

    name: ClassVar[str] = "bias_correction_free"
    needs: ClassVar[frozenset[str]] = frozenset({"graph", "run", "reference"})

    samples: int = attrs.field(default=0, validator=attrs.validators.ge(0))

    def _feeds(self, reference: Model, calibration: Iterable[Feeds]) -> Iterable[Feeds]:
        return list(calibration) or [noise(reference, self.samples or None)]

    def _hold(self, layer: Layer, reference: Model, expected: Held, found: Held) -> None:
        told = reference.expected.get(layer.name)
        if told is None:
            return
        output, batches = expected
        outputs = [tensors[output] for tensors in batches]
        scale, shift = as_expected(told, outputs, layer.output_axis)
        for output, batches in (expected, found):
            for tensors in batches:
                value = tensors[output]
                tensors[output] = layer.along(scale, value) * value + layer.along(shift, value)


@qsdk.hookimpl
def qsdk_passes() -> list[type[ModelPass]]:
    return [BiasCorrection, BiasCorrectionFree]
