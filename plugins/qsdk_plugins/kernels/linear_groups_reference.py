"""``linear`` on affine weights in groups and int8 input codes, in numpy: normative.

acc_g = sum over k of group g of codes_x * (codes_w - zero_w)            exact, and fits int32
y     = sum over g, first to last, of float32(acc_g) * (scale_x_g * scale_w_g)
        from 0, in float32, each product rounded before it is added
y     = y + bias, then clip

The input has one scale per row and group, and codes from -128 to 127 without a zero_point. Where
the input stays float32, ``linear-simulated`` says what is right: there the order is free.
"""

from __future__ import annotations

from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

import qsdk
from qsdk.interfaces import Kernel, Operation, Prepared, code_rows


class LinearGroupsReference(Kernel):
    """Exact for every affine weight with groups along its rows."""

    name = "linear-groups-reference"
    operation = "linear"
    encoding = "affine"
    granularity = frozenset({"per_group"})
    activations: ClassVar[frozenset[str]] = frozenset({"int8"})
    backend = "reference"
    priority = 1

    def prepare(self, operation: Operation, *, threads: int = 0) -> Prepared:
        return _LinearGroups(self, operation)


class _LinearGroups(Prepared):
    def __init__(self, kernel: Kernel, operation: Operation):
        super().__init__(kernel, operation)
        weight = operation.weight
        assert isinstance(weight, qsdk.Affine)
        zero_point = qsdk.Slices(weight.scheme, weight.shape).expand(weight.zero_point)
        self._steps = weight.codes.astype(np.int64) - zero_point.astype(np.int64)
        self._scale = weight.scale
        self._group_size = weight.scheme.group_size or 1

    def run(self, x: NDArray[Any], out: NDArray[Any]) -> None:
        rows = x.reshape(out.size // out.shape[-1], x.shape[-1])  # -1 is not for a length of 0
        codes = code_rows(rows, self.operation.activations, self._group_size)
        steps, y = codes.steps, np.zeros((len(rows), len(self._steps)), np.float32)
        with np.errstate(invalid="ignore", over="ignore"):
            for group in range(self._scale.shape[1]):
                part = slice(group * self._group_size, (group + 1) * self._group_size)
                accumulator = steps[:, part] @ self._steps[:, part].T
                scale = codes.scale[:, group, None] * self._scale[:, group]
                y = y + accumulator.astype(np.float32) * scale
            if self.operation.bias is not None:
                y = y + self.operation.bias
            low, high = (np.float32(end) for end in self.operation.output.clip)
            out[...] = np.minimum(np.maximum(y, low), high).reshape(out.shape)
