"""``conv`` on any encoding, by decoding everything to floats: slow, and always there."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from qsdk.interfaces import Conv, InputForm, Kernel, Operation, Prepared, code_rows


class SimulatedConv(Kernel):
    """What fake quantization predicts: decoded images and weights, summed in float64."""

    name = "conv-simulated"
    operation = "conv"
    encoding = "*"
    activations: ClassVar[frozenset[str]] = frozenset(InputForm) - {InputForm.BINARY}
    backend = "reference"
    priority = 0

    def prepare(self, operation: Operation, *, threads: int = 0) -> Prepared:
        return _Simulated(self, operation)


def image_rows(x: NDArray[Any]) -> NDArray[Any]:
    """Images (batch, ...) as rows (batch, values): what has one scale each."""
    return x.reshape(len(x), math.prod(x.shape[1:]))


def windows(
    x: NDArray[Any], operation: Conv, kernel: tuple[int, ...]
) -> Iterator[tuple[tuple[Any, ...], NDArray[Any]]]:
    """Each place of the kernel, and what it sees: 0 where the image is padded.

    x : (batch, channels, length...)
    Yields (place, (batch, channels, length of the result...)), the last axis of places fastest.
    """
    axes = len(operation.stride)
    begin, end = operation.padding[:axes], operation.padding[axes:]
    padded = np.pad(x, [(0, 0), (0, 0), *zip(begin, end, strict=True)])
    lengths = operation.out_shape(x.shape)[2:]
    for place in np.ndindex(*kernel):
        window: tuple[Any, ...] = tuple(
            slice(at * apart, at * apart + step * (count - 1) + 1, step)
            for at, apart, step, count in zip(
                place, operation.dilation, operation.stride, lengths, strict=True
            )
        )
        yield place, padded[(slice(None), slice(None), *window)]


def convolve(
    x: NDArray[np.float64], weight: NDArray[np.float64], operation: Conv
) -> NDArray[np.float64]:
    """Sums of ONNX Conv, without bias: one matrix product per place of the kernel.

    x : (batch, channels, length...)
    weight : (out, channels / groups, kernel...)
    Returns (batch, out, length...), of at least one place.
    """
    groups, shape = operation.groups, operation.out_shape(x.shape)
    outputs, channels = weight.shape[0] // groups, weight.shape[1]
    places = math.prod(shape[2:])
    y = np.zeros((shape[0], groups, outputs, places))
    for place, part in windows(x, operation, weight.shape[2:]):
        at_place = weight[(..., *place)].reshape(groups, outputs, channels)
        y += at_place @ part.reshape(shape[0], groups, channels, places)
    return y.reshape(shape)


class _Simulated(Prepared):
    def __init__(self, kernel: Kernel, operation: Operation):
        super().__init__(kernel, operation)
        self._weight = operation.weight.dequantize().astype(np.float64)

    def run(self, x: NDArray[Any], out: NDArray[Any]) -> None:
        assert isinstance(self.operation, Conv)
        images, lost = x, np.zeros(len(x), np.bool_)
        if self.operation.activations.form is not InputForm.FLOAT32:
            rows = code_rows(image_rows(x), self.operation.activations)
            images, lost = rows.dequantize().reshape(x.shape), np.isnan(rows.scale)
        with np.errstate(invalid="ignore", over="ignore"):
            y = convolve(images.astype(np.float64), self._weight, self.operation)
            y[lost] = np.nan  # also where a window sees nothing but padding
            if self.operation.bias is not None:
                y += self.operation.bias.reshape(-1, *[1] * (x.ndim - 2))
            low, high = self.operation.output.clip
            out[...] = np.minimum(np.maximum(y, low), high)
