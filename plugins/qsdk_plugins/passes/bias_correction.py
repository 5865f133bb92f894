"""Bias correction: gives each output channel of a quantized model the mean it had in float.

Source: Nagel et al., arXiv:1906.04721, section 4.2, in its empirical form.
"""

from __future__ import annotations

import contextlib
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from typing import ClassVar

import attrs
import numpy as np
from numpy.typing import NDArray

import qsdk
from qsdk.errors import DataError
from qsdk.interfaces import (
    Changes,
    Layer,
    Model,
    ModelPass,
    Stage,
    as_expected,
    in_order,
    noise,
)
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
            both = _Side(layer, stage_before, expected), _Side(layer, stage, found)
            _advance(both)
            shift = both[0].mean - both[1].mean
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


class _Side:
    """A stage of one of the two models, run batch by batch on what is held of each."""

    def __init__(self, layer: Layer, stage: Stage, held: list[Tensors]):
        self._layer, self._stage, self.held = layer, stage, held
        self._total, self._count = np.zeros(layer.shape[0]), 0

    def run(self, i: int) -> tuple[Tensors, Doubles]:
        """Of a batch what is needed later, and the sum over each channel of the output."""
        made = self._stage.run(self.held[i])
        value = made[self._stage.output]
        axis = self._layer.output_axis % value.ndim
        others = tuple(each for each in range(value.ndim) if each != axis)
        every = {**self.held[i], **made}
        keep = {name: array for name, array in every.items() if name in self._stage.keep}
        return keep, value.sum(axis=others, dtype=np.float64)

    def take(self, i: int, tensors: Tensors, total: Doubles) -> int:
        """Hold that in the batch's place; how many bytes it is."""
        self.held[i] = tensors
        self._total += total
        self._count += tensors[self._stage.output].size // max(len(total), 1)
        return sum(array.nbytes for array in tensors.values())

    @property
    def mean(self) -> Doubles:
        """Of each channel, over all batches that are held."""
        return self._total / max(self._count, 1)


def _advance(sides: Sequence[_Side]) -> None:
    """Both stages on each batch, until too much is held: the last batches are left out then."""
    bytes_held, every = 0, range(len(sides[0].held))
    done = in_order(lambda i: [side.run(i) for side in sides], every)
    with contextlib.closing(done):
        for i, results in enumerate(done):
            for side, result in zip(sides, results, strict=True):
                bytes_held += side.take(i, *result)
            if bytes_held > HELD_BYTES:
                break
    for side in sides:
        del side.held[i + 1 :]


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
