"""``linear`` on sums of scaled sign planes, in numpy: normative, formula by formula as in C.

Binary input is coded inside the call: greedy, then alternating cycles (Xu et al., ICLR 2018,
arXiv:1802.00150), with the thresholds between levels instead of a search. The formulas and their
order stand in ``native/linear_binary/linear_binary.h``. Sums that decide codes are float32 in 16
lanes, and the normal equations are solved in double.
"""

from __future__ import annotations

from typing import Any, ClassVar

import attrs
import numpy as np
from numpy.typing import NDArray

from qsdk.interfaces import InputForm, Kernel, Operation, Prepared
from qsdk_plugins.kernels.linear_binary import SignPlanes, clip, refusal

LANES = 16
SINGULAR = 1 / 1024  # a pivot of sums of whole numbers is 0 or much more


def lane_sum(values: NDArray[np.float32]) -> np.float32:
    """Lane l sums values l, l + 16, ... in order; then halves are added to halves."""
    lanes = np.zeros(LANES, np.float32)
    for start in range(0, len(values), LANES):
        part = values[start : start + LANES]
        lanes[: len(part)] += part
    for half in (8, 4, 2, 1):
        lanes = lanes[:half] + lanes[half:]
    return np.float32(lanes[0])


@attrs.frozen(eq=False)
class Levels:
    """The non-negative sums of ``+-beta``, upwards.

    level : float32, (2**(bits - 1),)
    signs : (levels, bits), True where the plane adds its beta
    """

    level: NDArray[np.float32]
    signs: NDArray[np.bool_]

    @classmethod
    def of(cls, beta: NDArray[np.float32]) -> Levels:
        """``beta`` in descending order."""
        bits = len(beta)
        count = 2 ** (bits - 1)
        signs = np.ones((count, bits), bool)
        level = np.full(count, beta[0], np.float32)
        for plane in range(1, bits):
            signs[:, plane] = np.arange(count) >> (bits - 1 - plane) & 1
            level = np.where(signs[:, plane], level + beta[plane], level - beta[plane])
        below = level < 0
        order = np.argsort(np.abs(level), kind="stable")
        return cls(np.abs(level)[order], (signs ^ below[:, None])[order])

    @property
    def threshold(self) -> NDArray[np.float32]:
        half = np.float32(0.5) * self.level
        return half[:-1] + half[1:]

    def number(self, size: NDArray[np.float32]) -> NDArray[np.intp]:
        """Which level each magnitude belongs to."""
        return np.searchsorted(self.threshold, size, side="right")


def refined(
    levels: Levels, size: NDArray[np.float32], total: np.float32, beta: NDArray[np.float32]
) -> NDArray[np.float32]:
    """Betas of least squares for the codes of ``levels``; those before where there are none."""
    above = [size >= threshold for threshold in levels.threshold]
    number = [len(size), *(int(mask.sum()) for mask in above), 0]
    parts = [lane_sum(np.where(mask, size, np.float32(0))) for mask in above]
    sums = np.array([total, *parts, 0], np.float64)
    bits = len(beta)
    g, d = np.zeros((bits, bits)), np.zeros(bits)
    for t, signs in enumerate(levels.signs):
        digits = np.where(signs, 1.0, -1.0)
        g += (number[t] - number[t + 1]) * np.outer(digits, digits)
        d += (sums[t] - sums[t + 1]) * digits
    exact = _solved(g, d)
    return beta if exact is None else np.abs(exact).astype(np.float32)


def _solved(g: NDArray[np.float64], d: NDArray[np.float64]) -> NDArray[np.float64] | None:
    """Elimination without pivoting, in a fixed order; None where g is singular."""
    bits = len(d)
    for j in range(bits):
        if g[j, j] < SINGULAR:
            return None
        for i in range(j + 1, bits):
            factor = g[i, j] / g[j, j]
            for m in range(j + 1, i + 1):
                g[i, m] -= factor * g[m, j]
            d[i] -= factor * d[j]
    beta = np.zeros(bits)
    for j in reversed(range(bits)):
        total = d[j]
        for i in range(j + 1, bits):
            total -= g[i, j] * beta[i]
        beta[j] = total / g[j, j]
    return beta


def code_row(
    x: NDArray[np.float32], bits: int, cycles: int
) -> tuple[NDArray[np.float32], NDArray[np.int8]] | None:
    """Betas (bits,) and digits (bits, length) of a row; None for one that is not finite.

    >>> beta, digits = code_row(np.float32([3, -1, 1, -3]), bits=2, cycles=0)
    >>> beta.tolist(), digits.tolist()
    ([2.0, 1.0], [[1, -1, 1, -1], [1, 1, -1, -1]])
    """
    size, count = np.abs(x), np.float32(max(len(x), 1))
    with np.errstate(over="ignore", invalid="ignore"):
        total = lane_sum(size)
        if not np.isfinite(total):
            return None
        beta, rest = np.zeros(bits, np.float32), size
        for i in range(bits):
            beta[i] = lane_sum(rest) / count
            rest = np.abs(rest - beta[i])
        beta = np.sort(beta)[::-1]
        levels = Levels.of(beta)
        for _ in range(cycles if bits > 1 else 0):
            beta = np.sort(refined(levels, size, total, beta))[::-1]
            levels = Levels.of(beta)
    signs = levels.signs[levels.number(size)] ^ (x < 0)[:, None]
    return beta, np.where(signs, 1, -1).astype(np.int8).T


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

    def run(self, x: NDArray[Any], out: NDArray[Any]) -> None:
        row = self._float_row if self.operation.activations.form == "float32" else self._binary_row
        count = out.size // out.shape[-1]  # -1 is not for a length of 0
        rows, results = x.reshape(count, x.shape[-1]), out.reshape(count, out.shape[-1])
        bias = self.operation.bias
        with np.errstate(over="ignore", invalid="ignore"):
            for given, result in zip(rows, results, strict=True):
                y = row(given)
                result[...] = clip(y if bias is None else y + bias, self.operation.output)

    def _binary_row(self, x: NDArray[np.float32]) -> NDArray[np.float32]:
        form = self.operation.activations
        coded = code_row(x, form.bits, form.cycles)
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
