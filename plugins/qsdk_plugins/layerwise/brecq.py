"""BRECQ: learns which weights to round up, for the output of a whole block of layers.

Source: Li et al., "BRECQ: Pushing the Limit of Post-Training Quantization by Block Reconstruction",
ICLR 2021, arXiv:2102.05426. Ours: the plain squared error of a block, as the script of the released
code has it, not weighed by slopes of the network's own loss; scales of activations stay.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, ClassVar

import attrs
import numpy as np
from numpy.typing import NDArray

import qsdk
from qsdk.encodings import Affine, Encoding
from qsdk.errors import DataError, RecipeError
from qsdk.interfaces import Block, Coding, Layer, Model, ModelPass, Tuner
from qsdk.interfaces.model_pass import Feeds, first_rows
from qsdk_plugins.layerwise.soft_rounding import SoftRounding

Floats = NDArray[np.float32]
Doubles = NDArray[np.float64]

PART = 8  # samples that are run at a time where nothing is learned
NOISE = 1 / 12  # the mean squared error of rounding to nearest, in steps


@attrs.frozen(kw_only=True)
class Brecq(Tuner):
    """Block after block, on what the blocks before give with their codes; what comes behind the
    last tensor that everything goes through stays as it is.

    The loss is the squared error of a block's output, in units of that of the codes given; lambda
    is weighed against it so that rounding of all weights to nearest counts as their own noise.

    steps : of Adam, for each block
    batch : samples in a step
    rate, regularization : as of ``adaround``
    samples : so many inputs are looked at, at most; fewer where ``memory`` is not enough
    memory : MB for the inputs and outputs of a block
    seed : of the order of samples
    """

    name: ClassVar[str] = "brecq"
    paper: ClassVar[str] = "arXiv:2102.05426"

    steps: int = attrs.field(default=400, validator=attrs.validators.ge(1))
    batch: int = attrs.field(default=16, validator=attrs.validators.ge(1))
    rate: float = attrs.field(default=0.05, converter=float, validator=attrs.validators.gt(0))
    regularization: float = attrs.field(
        default=1.0, converter=float, validator=attrs.validators.ge(0)
    )
    samples: int = attrs.field(default=256, validator=attrs.validators.ge(1))
    memory: int = attrs.field(default=128, validator=attrs.validators.ge(1))
    seed: int = attrs.field(default=0)

    def tune(self, model: Model, coding: Coding, calibration: Iterable[Feeds]) -> Coding:
        blocks = model.blocks()
        layers = {layer.name: layer for layer in model.layers}
        _check_slopes(blocks, coding)
        expected = found = _samples(calibration, blocks[0].input, self.samples)
        encodings = dict(coding.encodings)
        for block in blocks:
            if block.input in coding.codes:
                found = coding.codes[block.input].rounded(found)
            target = _run(block, expected, {})
            most = self.memory * 2**20 * len(found) // (found.nbytes + target.nbytes)
            count = min(len(found), max(most, 1))
            expected, found, target = expected[:count], found[:count], target[:count]
            work = _BlockWork(self, block, layers, encodings, found, target)
            encodings |= work.learned()
            expected, found = target, _run(block, found, work.weights(encodings))
        return attrs.evolve(coding, encodings=encodings)


def _check_slopes(blocks: Iterable[Block], coding: Coding) -> None:
    for block in blocks:
        mine = [n for n in block.layers if isinstance(coding.encodings.get(n), Affine)]
        if block.obstacle and mine:
            raise RecipeError(
                f"brecq cannot learn {', '.join(mine)}: {block.obstacle} there; use the method "
                "adaround, which takes each layer by itself"
            )


def _samples(calibration: Iterable[Feeds], name: str, count: int) -> Floats:
    """The first so many rows of the one input."""
    rows = [feeds[name] for feeds in first_rows(calibration, count)]
    if not sum(map(len, rows)):
        raise DataError("brecq was given no calibration data; give one batch or more")
    return np.concatenate(rows)


def _run(block: Block, value: Floats, weights: Mapping[str, Floats]) -> Floats:
    starts = range(0, len(value), PART)
    return np.concatenate([block.run(value[i : i + PART], weights) for i in starts])


@attrs.frozen(eq=False)
class _Grid:
    """The grid of a weight, and between which two of its codes each value lies.

    All of the weight's shape, float64.
    """

    encoding: Affine
    scale: Doubles
    zero_point: Doubles
    low: Doubles
    part: Doubles

    @classmethod
    def of(cls, layer: Layer, encoding: Affine) -> _Grid:
        slices = qsdk.Slices(encoding.scheme, encoding.shape)
        scale, zero = (
            np.asarray(slices.expand(params), np.float64)
            for params in (encoding.scale, encoding.zero_point)
        )
        x = layer.weight.astype(np.float64) / scale + zero
        low = np.clip(np.floor(x), encoding.scheme.qmin, encoding.scheme.qmax)
        return cls(encoding, scale, zero, low, x - low)

    @property
    def free(self) -> NDArray[np.bool_]:
        return np.asarray((self.part > 0) & (self.low < self.encoding.scheme.qmax))

    def decoded(self, codes: Doubles) -> Floats:
        return (self.scale * (codes - self.zero_point)).astype(np.float32)

    def encoded(self, codes: Doubles) -> Affine:
        held = self.encoding
        return Affine.from_codes(
            codes.astype(held.scheme.dtype), held.scale, held.zero_point, held.scheme
        )


class _BlockWork:
    """One block: its grids, and what it is to give for what."""

    def __init__(
        self,
        options: Brecq,
        block: Block,
        layers: Mapping[str, Layer],
        encodings: Mapping[str, Encoding],
        found: Floats,
        target: Floats,
    ):
        self._options, self._block = options, block
        self._found, self._target = found, target
        self._encodings = {n: encodings[n] for n in block.layers if n in encodings}
        self._grids = {
            name: _Grid.of(layers[name], encoding)
            for name, encoding in self._encodings.items()
            if isinstance(encoding, Affine)
        }

    def weights(self, encodings: Mapping[str, Encoding]) -> dict[str, Floats]:
        """Of the layers that are quantized, decoded."""
        return {name: encodings[name].dequantize() for name in self._encodings}

    def learned(self) -> dict[str, Encoding]:
        """Encodings that are better than those given; none where there are no such."""
        if not self._grids:
            return {}
        start = self._loss(self._encodings)
        if not start:
            return {}
        ups = self._rounded(start)
        found: dict[str, Encoding] = {
            name: grid.encoded(grid.low + ups[name]) for name, grid in self._grids.items()
        }
        return found if self._loss({**self._encodings, **found}) < start else {}

    def _loss(self, encodings: Mapping[str, Encoding]) -> float:
        """Mean squared error of a sample."""
        output = _run(self._block, self._found, self.weights(encodings))
        return float(np.square(output - self._target, dtype=np.float64).sum() / len(output))

    def _rounded(self, start: float) -> dict[str, NDArray[np.bool_]]:
        """What to round up, after all steps."""
        options = self._options
        rounding = {
            name: SoftRounding(grid.part, grid.free, options.rate, options.regularization)
            for name, grid in self._grids.items()
        }
        count = sum(grid.low.size for grid in self._grids.values())
        rng = np.random.default_rng(options.seed)
        weights = self.weights(self._encodings)
        for step in range(1, options.steps + 1):
            rows = rng.choice(len(self._found), min(options.batch, len(self._found)), replace=False)
            unit = count * NOISE / start / len(rows)
            for name, grid in self._grids.items():
                weights[name] = grid.decoded(grid.low + rounding[name].h)
            slopes = self._slopes(np.sort(rows), weights, 2 * unit)
            for name, grid in self._grids.items():
                rounding[name].step(slopes[name] * grid.scale, step / options.steps)
        return {name: each.is_up for name, each in rounding.items()}

    def _slopes(self, rows: NDArray[np.int64], weights: Mapping[str, Floats], factor: float) -> Any:
        """Of ``factor / 2`` times the squared error, by the weights."""
        scaled = np.asarray(factor, np.float32)
        _, slopes = self._block.slopes(
            self._found[rows], weights, scaled, -scaled * self._target[rows]
        )
        return slopes


@qsdk.hookimpl
def qsdk_passes() -> list[type[ModelPass]]:
    return [Brecq]
