"""What is computed: a product, a convolution, many weights, many values; and random arrays for it.

Arrays are made when first asked for, the same in every run.
"""

from __future__ import annotations

import math
from functools import cached_property
from typing import ClassVar

import attrs
import numpy as np
from numpy.typing import NDArray

from qsdk.errors import OptionError

Floats = NDArray[np.float32]


def normal(shape: tuple[int, ...], seed: int = 0) -> Floats:
    return np.random.default_rng(seed).standard_normal(shape, np.float32)


@attrs.frozen(slots=False)
class Product:
    """``y (m, n) = x (m, k) @ w (n, k).T``."""

    kind: ClassVar[str] = "linear"

    m: int
    n: int
    k: int

    def __str__(self) -> str:
        return f"{self.m}x{self.n}x{self.k}"

    @property
    def macs(self) -> int:
        return self.m * self.n * self.k

    @property
    def out_shape(self) -> tuple[int, ...]:
        return (self.m, self.n)

    @cached_property
    def x(self) -> Floats:
        return normal((self.m, self.k))

    @cached_property
    def w(self) -> Floats:
        return normal((self.n, self.k), 1)

    @cached_property
    def codes_x(self) -> NDArray[np.uint8]:
        """Small enough that no instruction saturates, whichever a peer has."""
        return np.random.default_rng(2).integers(0, 128, (self.m, self.k), np.uint8)

    @cached_property
    def codes_w(self) -> NDArray[np.int8]:
        """(k, n), as ONNX has it."""
        return np.random.default_rng(3).integers(-64, 64, (self.k, self.n), np.int8)


@attrs.frozen(slots=False)
class Convolution:
    """ONNX Conv: x (batch, channels, length...), w (out, channels / groups, kernel...)."""

    kind: ClassVar[str] = "conv"

    batch: int
    channels: int
    lengths: tuple[int, ...]
    out: int
    kernel: tuple[int, ...]
    stride: tuple[int, ...]
    padding: tuple[int, ...]
    dilation: tuple[int, ...]
    groups: int = 1

    @classmethod
    def square(
        cls, batch: int, channels: int, size: int, out: int, kernel: int, stride: int = 1,
        groups: int = 1,
    ) -> Convolution:  # fmt: skip
        """2-D, padded so that stride 1 keeps the size of an odd kernel's input."""
        return cls(batch, channels, (size, size), out, (kernel, kernel), (stride, stride),
                   (kernel // 2,) * 4, (1, 1), groups)  # fmt: skip

    def __str__(self) -> str:
        groups = f" g{self.groups}" if self.groups > 1 else ""
        same = len(set(self.stride)) == 1
        stride = self.stride[:1] if same else self.stride
        steps = "" if stride == (1,) else f" s{_joined(stride)}"
        shape = f"{self.batch}x{self.channels}x{_joined(self.lengths)}"
        return f"{shape} {_joined(self.kernel)}{steps}{groups} -> {self.out}"

    @property
    def macs(self) -> int:
        inside = self.channels // self.groups * math.prod(self.kernel)
        return math.prod(self.out_shape) * inside

    @property
    def out_shape(self) -> tuple[int, ...]:
        axes = range(len(self.lengths))
        return (self.batch, self.out, *map(self._out_length, axes))

    @property
    def out_scale(self) -> float:
        """For 8-bit codes of the result, of normal ``x`` and ``w``: 5 sigma lie inside."""
        return 5 * math.sqrt(self.macs / max(math.prod(self.out_shape), 1)) / 127

    def _out_length(self, axis: int) -> int:
        padded = self.lengths[axis] + self.padding[axis] + self.padding[axis + len(self.lengths)]
        reach = self.dilation[axis] * (self.kernel[axis] - 1) + 1
        return max((padded - reach) // self.stride[axis] + 1, 0)

    @cached_property
    def x(self) -> Floats:
        return normal((self.batch, self.channels, *self.lengths))

    @cached_property
    def w(self) -> Floats:
        return normal((self.out, self.channels // self.groups, *self.kernel), 1)


@attrs.frozen(slots=False)
class Weights:
    """Arrays to quantize."""

    kind: ClassVar[str] = "weights"

    name: str
    shapes: tuple[tuple[int, ...], ...]

    def __str__(self) -> str:
        return self.name

    @cached_property
    def arrays(self) -> list[Floats]:
        return [normal(shape, seed) * np.float32(0.05) for seed, shape in enumerate(self.shapes)]


@attrs.frozen(slots=False)
class Values:
    """A batch of activations to observe."""

    kind: ClassVar[str] = "values"

    count: int

    def __str__(self) -> str:
        return f"{self.count * 4 / 1e6:.0f} MB"

    @cached_property
    def array(self) -> Floats:
        return normal((self.count,))


Work = Product | Convolution | Weights | Values


def parse_shape(text: str) -> Product | Convolution:
    """``MxNxK``, or ``BATCHxCHANNELSxSIZExOUTxKERNEL`` with ``xSTRIDE`` and ``xGROUPS`` if wanted.

    >>> str(parse_shape("16x4096x1024")), str(parse_shape("1x16x32x32x3x2"))
    ('16x4096x1024', '1x16x32x32 3x3 s2 -> 32')
    """
    parts = text.lower().split("x")
    numbers = [int(part) for part in parts if part.isdecimal()]
    if len(numbers) == len(parts) and min(numbers) > 0:
        if len(numbers) == 3:
            return Product(*numbers)
        if 5 <= len(numbers) <= 7:
            return Convolution.square(*numbers)
    raise OptionError(
        f"--shape {text!r}; write MxNxK for a product (16x4096x1024), or "
        "BATCHxCHANNELSxSIZExOUTxKERNEL[xSTRIDE[xGROUPS]] for a convolution (1x64x56x64x3)"
    )


def _joined(numbers: tuple[int, ...]) -> str:
    return "x".join(map(str, numbers))
