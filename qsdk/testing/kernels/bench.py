"""A kernel on the bench: the operation that an input of some shape asks it for."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from typing import Any

import attrs
import numpy as np
from numpy.typing import NDArray

from qsdk.encodings import Affine, Encoding
from qsdk.errors import QsdkError
from qsdk.interfaces import (
    Activations,
    Conv,
    InputForm,
    Kernel,
    Linear,
    Operation,
    Output,
    Prepared,
)
from qsdk.testing.check import Array, NotApplicable
from qsdk.testing.kernels.weights import EXTREMES, RANDOM, Make

OUTS = (1, 5, 16, 33, 8, 2, 17)
SCALE = 0.0625  # of fixed activations: normal values reach over a quarter of the grid
ZERO_POINTS = {InputForm.FIXED_INT8: (0, 5, -128, 127), InputForm.FIXED_UINT8: (128, 3, 255, 0)}
CLIPS = ((-np.inf, np.inf), (0.0, np.inf), (-0.5, 0.75))
CONVS: tuple[dict[str, Any], ...] = (  # kernel is a length for every axis
    {"kernel": 3, "stride": 1, "padding": 1, "dilation": 1},
    {"kernel": 1, "stride": 1, "padding": 0, "dilation": 1},
    {"kernel": 3, "stride": 2, "padding": 0, "dilation": 1},
    {"kernel": 2, "stride": 1, "padding": 1, "dilation": 2},
)


@attrs.frozen(eq=False)
class Bench:
    """A kernel, the weights that it takes, and one form of input and output.

    What it is asked to prepare follows from the input alone, so that an input tells everything.
    """

    kernel: Kernel
    makes: tuple[Make, ...]
    given: str
    gives: str

    def operation(self, x: Array, fill: str = RANDOM) -> Operation:
        """The first operation for inputs of this shape that is not refused."""
        refusal = "it has no weight to take"
        for operation in self.operations(x.shape, fill):
            refusal = self.kernel.refusal(operation)
            if not refusal:
                return operation
        raise NotApplicable(f"it {refusal}")

    def extremes(self, x: Array) -> Iterator[Operation]:
        """Operations on the largest weights that it takes."""
        for fill in EXTREMES:
            try:
                yield self.operation(x, fill)
            except NotApplicable:
                continue

    def job(self, x: Array) -> tuple[Operation, Array]:
        """The operation for ``x``, and ``x`` as that takes it."""
        operation = self.operation(x)
        return operation, fitting(operation, x)

    def layer(self, x: Array) -> tuple[Prepared, Array]:
        """A layer prepared for ``x``, and ``x`` as it takes it."""
        operation, x = self.job(x)
        return self.kernel.prepare(operation, threads=1), x

    def operations(self, shape: tuple[int, ...], fill: str = RANDOM) -> Iterator[Operation]:
        """All that inputs of this shape may be for; where they begin depends on the shape."""
        seed = sum(shape)
        for make in _from(self.makes, seed):
            try:
                if self.kernel.operation == "linear":
                    weight = make((OUTS[seed % len(OUTS)], shape[-1]), fill, seed)
                    yield Linear(weight=weight, **self._words(weight, seed))
                else:
                    yield from self._convs(make, shape, fill, seed)
            except QsdkError:  # no such scheme for this shape
                continue

    def _convs(
        self, make: Make, shape: tuple[int, ...], fill: str, seed: int
    ) -> Iterator[Operation]:
        _, channels, *lengths = shape
        for words in _from(CONVS, seed):
            for groups in dict.fromkeys(_from((1, channels, 2), seed)):
                if not groups or channels % groups:
                    continue
                outs = groups * (1 + seed % 3) if groups > 1 else OUTS[seed % len(OUTS)]
                axes = len(lengths)
                kernel = (outs, channels // groups, *[words["kernel"]] * axes)
                weight = make(kernel, fill, seed)
                yield Conv(
                    weight=weight,
                    stride=[words["stride"]] * axes,
                    padding=[words["padding"]] * axes
                    + [max(words["padding"] - seed % 2, 0)] * axes,
                    dilation=[words["dilation"]] * axes,
                    groups=groups,
                    **self._words(weight, seed),
                )

    def _words(self, weight: Encoding, seed: int) -> dict[str, Any]:
        """Bias, activations and output; they differ from shape to shape."""
        rng = np.random.default_rng(seed)
        bias = rng.standard_normal(weight.shape[0]) if seed % 3 else None
        form = InputForm(self.given)
        words: dict[str, Any] = {"form": form}
        if form in ZERO_POINTS:
            zero_points = ZERO_POINTS[form]
            words |= {"scale": SCALE, "zero_point": zero_points[seed % len(zero_points)]}
        if form is InputForm.BINARY:
            words |= {"bits": 1 + seed % 4, "cycles": seed % 3}
            words["scale_map"] = self.kernel.operation == "conv" and seed % 8 == 0
        clip = CLIPS[seed % len(CLIPS)] if self.gives != "int32" else CLIPS[0]
        output = Output(form=self.gives, clip=clip, **self._grid(weight, seed))
        return {"bias": bias, "activations": Activations(**words), "output": output}

    def _grid(self, weight: Encoding, seed: int) -> dict[str, Any]:
        """A scale that ordinary results fill the output's grid with, and some zero_point."""
        if self.gives not in ("int8", "uint8"):
            return {}
        step = (
            float(np.mean(weight.scale)) if isinstance(weight, Affine) and weight.scale.size else 1
        )
        bits = weight.scheme.bits if isinstance(weight, Affine) else 1
        length = max(int(np.prod(weight.shape[1:])), 1)
        spread = np.sqrt(length) * 2.0 ** (bits - 2) * 16  # steps of an ordinary accumulator
        zero_point = (3, 100, 0)[seed % 3]
        return {"scale": SCALE * max(step, 1e-9) * spread / 40, "zero_point": zero_point}


def _from(items: tuple[Any, ...], start: int) -> Iterator[Any]:
    """All of them, beginning somewhere."""
    first = start % max(len(items), 1)
    return itertools.chain(items[first:], items[:first])


def fitting(operation: Operation, x: Array) -> Array:
    """``x``, cut or repeated where the weight has a shape of its own."""
    weight = operation.weight.shape
    if isinstance(operation, Conv):
        channels = weight[1] * operation.groups
        return x if x.shape[1] == channels else np.resize(x, (x.shape[0], channels, *x.shape[2:]))
    return x if x.shape[-1] == weight[1] else np.resize(x, (*x.shape[:-1], weight[1]))


def same_bits(a: NDArray[Any], b: NDArray[Any]) -> bool:
    """Equal in dtype, shape and bits; one NaN is like another."""
    if a.dtype != b.dtype or a.shape != b.shape:
        return False
    if a.dtype.kind == "f":
        a, b = (np.where(np.isnan(array), np.float32(np.nan), array) for array in (a, b))
    return a.tobytes() == b.tobytes()
