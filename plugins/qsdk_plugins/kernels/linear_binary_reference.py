"""``linear`` on sums of scaled sign planes, in numpy: normative, formula by formula as in C.

The formulas and their order stand in ``native/linear_binary/linear_binary.h``.
"""

from __future__ import annotations

from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

import qsdk
from qsdk.interfaces import InputForm, Kernel, Operation, Prepared
from qsdk_plugins.kernels.linear_binary import SignPlanes, clip, records, refusal


class LinearBinaryReference(Kernel):
    """Binary weights, groups of whole words, binary or float input."""

    name = "linear-binary-reference"
    encoding = "binary_coded"
    operation = "linear"
    activations: ClassVar[frozenset[str]] = frozenset({InputForm.BINARY, InputForm.FLOAT32})
    backend = "reference"
    priority = 1

    def refusal(self, operation: Operation) -> str:
        return super().refusal(operation) or refusal(operation)

    def prepare(self, operation: Operation, *, threads: int = 0) -> Prepared:
        return _LinearBinary(self, operation)


class LinearTernaryReference(LinearBinaryReference):
    """The same for ternary weights."""

    name = "linear-ternary-reference"
    encoding = "ternary"


class _LinearBinary(Prepared):
    def __init__(self, kernel: Kernel, operation: Operation):
        super().__init__(kernel, operation)
        self._weight = SignPlanes.of(operation.weight)
        self._digits = self._weight.digits()  # (planes, rows, length)
        self.codes = records(operation)

    def run(self, x: NDArray[Any], out: NDArray[Any]) -> None:
        count = out.size // out.shape[-1]  # -1 is not for a length of 0
        results = out.reshape(count, out.shape[-1])
        row: Any = self._float_row
        if x.dtype == self.codes:
            row, rows = self._coded_row, x.reshape(count)
        else:
            rows = x.reshape(count, x.shape[-1])
            if self.codes is not None:
                row = self._binary_row
        bias = self.operation.bias
        with np.errstate(over="ignore", invalid="ignore"):
            for given, result in zip(rows, results, strict=True):
                y = row(given)
                result[...] = clip(y if bias is None else y + bias, self.operation.output)

    def _binary_row(self, x: NDArray[np.float32]) -> NDArray[np.float32]:
        form = self.operation.activations
        coder = qsdk.SignCoder(bits=form.bits, cycles=form.cycles)
        betas, words = coder.reference(x[np.newaxis])
        beta, signs = betas[:, 0], 2 * qsdk.unpack_words(words[:, 0], len(x)).view(np.int8) - 1
        return self._of_codes(None if np.isnan(beta[0]) else (beta, signs))

    def _coded_row(self, record: np.void) -> NDArray[np.float32]:
        octets = np.ascontiguousarray(record["planes"].T, "<u8").view(np.uint8)
        bits = np.unpackbits(octets, axis=-1, count=self._digits.shape[2], bitorder="little")
        beta = record["alpha"]
        finite = np.isfinite(beta).all()
        return self._of_codes((beta, 2 * bits.view(np.int8) - 1) if finite else None)

    def _of_codes(
        self, coded: tuple[NDArray[np.float32], NDArray[np.int8]] | None
    ) -> NDArray[np.float32]:
        if coded is None:
            return np.full(self._digits.shape[1], np.nan, np.float32)
        beta, signs = coded

        def t(plane: int, part: slice) -> NDArray[np.float32]:
            digits = self._digits[plane, :, part].astype(np.int64)
            total = np.zeros(len(digits), np.float32)
            for scale, sign in zip(beta, signs[:, part], strict=True):
                total = total + scale * (digits @ sign.astype(np.int64)).astype(np.float32)
            return total

        return self._weighted(t)

    def _float_row(self, x: NDArray[np.float32]) -> NDArray[np.float32]:
        fours = np.zeros((-(-len(x) // 4), 4), np.float32)
        fours.reshape(-1)[: len(x)] = x

        def t(plane: int, part: slice) -> NDArray[np.float32]:
            digits = self._digits[plane, :, part]
            padded = np.full((len(digits), -(-digits.shape[1] // 4), 4), -1, np.int8)
            padded.reshape(len(digits), -1)[:, : digits.shape[1]] = digits
            here = fours[part.start // 4 :][: padded.shape[1]]
            total = np.zeros(len(digits), np.float32)
            for q, four in enumerate(here):
                digit = padded[:, q]
                if self._weight.ternary:
                    step = _four(np.where(digit > 0, four, 0)) - _four(np.where(digit < 0, four, 0))
                else:
                    step = _four(np.where(digit > 0, four, -four))
                total = total + step
            return total

        return self._weighted(t)

    def _weighted(self, t: Any) -> NDArray[np.float32]:
        """Sum over groups of the sum over planes of alpha times t."""
        weight = self._weight
        y = np.zeros(weight.rows, np.float32)
        for g in range(weight.groups):
            part = np.zeros(weight.rows, np.float32)
            for plane in range(weight.planes):
                part = part + weight.alpha[plane, :, g] * t(plane, weight.group(g))
            y = y + part
        return y


def _four(x: NDArray[np.float32]) -> NDArray[np.float32]:
    pairs = x[:, 0::2] + x[:, 1::2]
    total: NDArray[np.float32] = pairs[:, 0] + pairs[:, 1]
    return total
