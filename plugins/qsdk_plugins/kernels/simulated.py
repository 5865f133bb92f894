"""Any operation on any encoding, by decoding everything to floats: slow, and always there."""

from __future__ import annotations

from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from qsdk.interfaces import InputForm, Kernel, Operation, Prepared, code_rows, input_group_size


class SimulatedLinear(Kernel):
    """``y = x' @ w.T + bias`` with x' and w as their codes decode, summed in float64.

    What fake quantization predicts. Kernels that run on codes agree with it within the rounding
    of floats; that of integers is exact and belongs to the reference of their encoding.
    """

    name = "linear-simulated"
    operation = "linear"
    encoding = "*"
    activations: ClassVar[frozenset[str]] = frozenset(InputForm) - {InputForm.BINARY}
    backend = "reference"
    priority = 0

    def prepare(self, operation: Operation, *, threads: int = 0) -> Prepared:
        return _Simulated(self, operation)


class _Simulated(Prepared):
    def __init__(self, kernel: Kernel, operation: Operation):
        super().__init__(kernel, operation)
        self._weight = operation.weight.dequantize().astype(np.float64)

    def run(self, x: NDArray[Any], out: NDArray[Any]) -> None:
        rows = x.reshape(out.size // out.shape[-1], x.shape[-1])  # -1 is not for a length of 0
        if self.operation.activations.form is not InputForm.FLOAT32:
            group_size = input_group_size(self.operation.weight)
            rows = code_rows(rows, self.operation.activations, group_size).dequantize()
        with np.errstate(invalid="ignore", over="ignore"):
            y = rows.astype(np.float64) @ self._weight.T
            if self.operation.bias is not None:
                y += self.operation.bias
            low, high = self.operation.output.clip
            out[...] = np.minimum(np.maximum(y, low), high).reshape(out.shape)
