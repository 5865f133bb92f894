"""``conv`` on sums of scaled sign planes, in numpy: normative, formula by formula as in C.

The formulas and their order stand in ``native/conv_binary/conv_binary.h``. Padded places hold real
0: they count neither as +1 nor as -1.
"""

from __future__ import annotations

import math
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

import qsdk
from qsdk.interfaces import Conv, InputForm, Kernel, Operation, Prepared
from qsdk_plugins.kernels.conv_binary import refusal
from qsdk_plugins.kernels.conv_simulated import convolve, image_rows, windows
from qsdk_plugins.kernels.linear_binary import SignPlanes, clip


class ConvBinaryReference(Kernel):
    """1 to 4 planes in the weight and as many in the input, one set of betas per image."""

    name = "conv-binary-reference"
    encoding = "binary_coded"
    operation = "conv"
    activations: ClassVar[frozenset[str]] = frozenset({InputForm.BINARY})
    backend = "reference"
    priority = 1

    def refusal(self, operation: Operation) -> str:
        return super().refusal(operation) or refusal(operation)

    def prepare(self, operation: Operation, *, threads: int = 0) -> Prepared:
        return _ConvBinary(self, operation)


def scale_map(x: NDArray[np.float32], conv: Conv) -> NDArray[np.float32]:
    """Means of ``|x|`` over the kernel and the channels of a group, XNOR-Net's K.

    x : one image, (channels, length...)
    Returns (groups, length of the result...); float32 sums over channels, then over places.
    """
    grouped = np.abs(x).reshape(conv.groups, -1, *x.shape[1:])
    mean = np.zeros((conv.groups, *x.shape[1:]), np.float32)
    for channel in range(grouped.shape[1]):
        mean += grouped[:, channel]
    mean /= np.float32(max(grouped.shape[1], 1))
    kernel = conv.weight.shape[2:]
    total = np.zeros((conv.groups, *conv.out_shape((1, *x.shape))[2:]), np.float32)
    for _, part in windows(mean[np.newaxis], conv, kernel):
        total += part[0]
    return total / np.float32(max(math.prod(kernel), 1))


class _ConvBinary(Prepared):
    def __init__(self, kernel: Kernel, operation: Operation):
        super().__init__(kernel, operation)
        weight = SignPlanes.of(operation.weight)
        ones = [1] * (len(operation.weight.shape) - 2)
        self._digits = weight.digits().reshape(weight.planes, *operation.weight.shape)
        self._digits = self._digits.astype(np.float64)
        self._alpha = weight.alpha[..., 0].reshape(weight.planes, -1, *ones)

    def run(self, x: NDArray[Any], out: NDArray[Any]) -> None:
        form, bias = self.operation.activations, self.operation.bias
        betas, words = qsdk.SignCoder(bits=form.bits, cycles=form.cycles).reference(image_rows(x))
        with np.errstate(over="ignore", invalid="ignore"):
            for n, (image, result) in enumerate(zip(x, out, strict=True)):
                signs = 2 * qsdk.unpack_words(words[:, n], image.size).view(np.int8) - 1
                y = self._image(image, betas[:, n], signs, result.shape)
                if bias is not None:
                    y = y + bias.reshape(-1, *[1] * (y.ndim - 1))
                result[...] = clip(y, self.operation.output)

    def _image(
        self,
        x: NDArray[np.float32],
        beta: NDArray[np.float32],
        signs: NDArray[np.int8],
        shape: tuple[int, ...],
    ) -> NDArray[np.float32]:
        conv = self.operation
        assert isinstance(conv, Conv)
        if np.isnan(beta[0]):
            return np.full(shape, np.nan, np.float32)
        scales: Any = beta
        if conv.activations.scale_map:
            scales = np.repeat(scale_map(x, conv), shape[0] // conv.groups, axis=0)[np.newaxis]
        planes = signs.reshape(-1, *x.shape).astype(np.float64)
        y = np.zeros(shape, np.float32)
        for alpha, digits in zip(self._alpha, self._digits, strict=True):
            t = np.zeros(shape, np.float32)
            for scale, dot in zip(scales, convolve(planes, digits, conv), strict=True):
                t = t + scale * dot.astype(np.float32)
            y = y + alpha * t
        return y
