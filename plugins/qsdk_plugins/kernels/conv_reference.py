"""``conv`` on affine weights and 8-bit input codes, in numpy: normative.

Accumulators, results and their order are those of ``linear`` (linear_int8_reference.py), where an
image stands for a row; padded places hold real 0.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

import qsdk
from qsdk.interfaces import Conv, Kernel, Operation, Prepared, code_rows
from qsdk_plugins.kernels.conv_simulated import convolve, image_rows
from qsdk_plugins.kernels.linear_int8_reference import (
    LinearInt8Reference,
    Requantizer,
    finish,
    steps_and_scale,
)


class ConvInt8Reference(LinearInt8Reference):
    """Exact for every affine weight with one scale per tensor or per channel."""

    name = "conv-int8-reference"
    operation = "conv"

    def prepare(self, operation: Operation, *, threads: int = 0) -> Prepared:
        return _ConvInt8(self, operation)


class _ConvInt8(Prepared):
    def __init__(self, kernel: Kernel, operation: Operation):
        super().__init__(kernel, operation)
        assert isinstance(operation.weight, qsdk.Affine)
        steps, self._scale = steps_and_scale(operation.weight)
        # Products are below 2**17, so float64 adds 2**36 of them without rounding.
        self._steps = steps.astype(np.float64)
        if operation.output.is_requantized:
            self._requantizer = Requantizer.of(operation, self._scale)

    def run(self, x: NDArray[Any], out: NDArray[Any]) -> None:
        assert isinstance(self.operation, Conv)
        images = code_rows(image_rows(x), self.operation.activations)
        codes = images.steps.reshape(x.shape).astype(np.float64)
        sums = np.moveaxis(convolve(codes, self._steps, self.operation), 1, -1).astype(np.int64)
        places = sums[0, ..., 0].size
        y = self._result(sums.reshape(-1, len(self._scale)), np.repeat(images.scale, places))
        out[...] = np.moveaxis(y.reshape(sums.shape), -1, 1)

    def _result(self, accumulator: NDArray[np.int64], scale: NDArray[np.float32]) -> NDArray[Any]:
        """accumulator : (places of all images, out); scale : of the image of each place"""
        output = self.operation.output
        if output.form == "float32":
            return finish(accumulator, scale, self._scale, self.operation.bias, output)
        return accumulator if output.form == "int32" else self._requantizer(accumulator)
