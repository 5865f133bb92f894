"""Inputs as sums of a few signs, coded while the model runs, in standard operators.

The formulas stand in ``native/linear_binary/linear_binary.h``; only the order of float sums is
left to the runtime. What kernels keep as bits is decoded here at once.
"""

from __future__ import annotations

from functools import partial, reduce
from itertools import combinations_with_replacement as pairs
from itertools import pairwise

import numpy as np
import onnx
import onnx.helper

from qsdk.interfaces import Activations
from qsdk_plugins.onnx.body import Body
from qsdk_plugins.onnx.constants import DOMAIN

QUANTIZE = "Quantize_binary_coded"
SINGULAR = 1 / 1024  # a pivot of sums of whole numbers is 0 or much more

FLOAT, DOUBLE = onnx.TensorProto.FLOAT, onnx.TensorProto.DOUBLE


def form_suffix(form: Activations) -> str:
    """Part of a function's name: its body is one for so many planes and cycles."""
    return f"{form.bits}_{form.cycles}"


def quantize_name(form: Activations) -> str:
    return f"{QUANTIZE}_{form_suffix(form)}"


def quantize_function(form: Activations, opset: int) -> onnx.FunctionProto:
    """Float x (..., length) to what its codes decode to; one code for each row.

    A row that is not finite becomes NaN.
    """
    body = Body("q")
    row = body("Concat", body.constant([-1]), _length(body, "x"), axis=0)
    coded = _coded_rows(body, body("Reshape", "x", row), form)
    body.nodes.append(onnx.helper.make_node("Reshape", [coded, body("Shape", "x")], ["coded"]))
    return onnx.helper.make_function(
        DOMAIN,
        quantize_name(form),
        ["x"],
        ["coded"],
        body.nodes,
        [onnx.helper.make_opsetid("", opset)],
        ["bits", "cycles"],
    )


def _length(body: Body, x: str) -> str:
    last, end = body.constant([-1]), body.constant([np.iinfo(np.int64).max])
    return body("Slice", body("Shape", x), last, end)


def _coded_rows(body: Body, x: str, form: Activations) -> str:
    """x (rows, length) decoded from its codes."""
    size = body("Abs", x)
    total = _row_sum(body, size)
    beta = _descending(body, _greedy(body, size, total, form.bits), form.bits)
    levels = _Levels(body, beta, form.bits)
    for _ in range(form.cycles if form.bits > 1 else 0):
        better = levels.refined(size, total, beta)
        beta = _descending(body, better, form.bits)
        levels = _Levels(body, beta, form.bits)
    value = levels.nearest(size)
    zero = body.constant(0, np.float32)
    signed = body("Where", body("Less", x, zero), body("Neg", value), value)
    # What is finite is its own minus: 0. Of infinity and NaN that is NaN, which nothing equals.
    finite = body("Equal", body("Sub", total, total), zero)
    return body("Where", finite, signed, body.constant(np.nan, np.float32))


def _row_sum(body: Body, values: str) -> str:
    return body("ReduceSum", values, body.constant([-1]), keepdims=1)


def _greedy(body: Body, size: str, total: str, bits: int) -> str:
    """Betas (rows, bits): means of what the planes before leave."""
    count = body("Cast", _length(body, size), to=FLOAT)
    betas, rest = [body("Div", total, count)], size
    for _ in range(bits - 1):
        rest = body("Abs", body("Sub", rest, betas[-1]))
        betas.append(body("Div", _row_sum(body, rest), count))
    return body("Concat", *betas, axis=-1) if bits > 1 else betas[0]


def _descending(body: Body, beta: str, bits: int) -> str:
    if bits == 1:
        return beta
    return body.several(2, "TopK", beta, body.constant([bits]), axis=-1, largest=1, sorted=1)[0]


class _Levels:
    """The non-negative sums of +-beta (rows, levels), upwards, and the thresholds between."""

    def __init__(self, body: Body, beta: str, bits: int):
        self._body, self._bits = body, bits
        self._count = 2 ** (bits - 1)
        self._raw = self._sums(beta)
        ordered = [body("Abs", self._raw)]
        if bits > 1:
            ordered = body.several(
                2, "TopK", ordered[0], body.constant([self._count]), axis=-1, largest=0, sorted=1
            )
        self._order = ordered[-1]
        self._level = [self._column(ordered[0], i) for i in range(self._count)]
        half = body.constant(0.5, np.float32)
        halves = [body("Mul", half, level) for level in self._level]
        self._threshold = [body("Add", *two) for two in pairwise(halves)]

    def _column(self, matrix: str, number: int) -> str:
        return self._body("Gather", matrix, self._body.constant([number]), axis=1)

    def _signs(self) -> np.ndarray:
        """(levels, bits), 1 or -1, before sorting; the first beta is always added."""
        place = np.arange(self._bits)
        bit = np.arange(self._count)[:, None] >> (self._bits - 1 - place) & 1
        return np.where((bit > 0) | (place == 0), 1.0, -1.0)

    def _sums(self, beta: str) -> str:
        """beta_0 +- beta_1 +- ..., from left to right."""
        body = self._body
        level, signs = self._column(beta, 0), self._signs()
        for plane in range(1, self._bits):
            step = body.constant(signs[None, :, plane], np.float32)
            level = body("Add", level, body("Mul", self._column(beta, plane), step))
        return level

    def nearest(self, size: str) -> str:
        """The level of each magnitude."""
        body, value = self._body, self._level[0]
        for threshold, level in zip(self._threshold, self._level[1:], strict=True):
            value = body("Where", body("GreaterOrEqual", size, threshold), level, value)
        return body("Expand", value, body("Shape", size)) if self._count == 1 else value

    def refined(self, size: str, total: str, beta: str) -> str:
        """Betas of least squares for the codes of these levels; ``beta`` where there are none."""
        body = self._body
        count = body("Cast", _length(body, size), to=FLOAT)
        numbers = [body("Expand", count, body("Shape", total))]
        sums, zero = [total], body.constant(0, np.float32)
        for threshold in self._threshold:
            above = body("GreaterOrEqual", size, threshold)
            numbers.append(_row_sum(body, body("Cast", above, to=FLOAT)))
            sums.append(_row_sum(body, body("Where", above, size, zero)))
        digits = self._digits()
        here, part = self._steps(numbers), self._steps(sums)
        weighted = body("Unsqueeze", body("Mul", digits, here), body.constant([3]))
        # No MatMul: onnxruntime before 1.26 fuses one of doubles into an operator without a kernel.
        across = body("Mul", weighted, body("Unsqueeze", digits, body.constant([2])))
        g = body("ReduceSum", across, body.constant([1]), keepdims=0)
        d = body("ReduceSum", body("Mul", digits, part), body.constant([1]), keepdims=0)
        exact, singular = _solved(body, g, d, self._bits)
        sizes = body("Cast", body("Abs", exact), to=FLOAT)
        return body("Where", singular, beta, sizes)

    def _steps(self, from_: list[str]) -> str:
        """Sums from each threshold on, as those of each level: (rows, levels, 1) of doubles."""
        body = self._body
        first = body("Cast", body("Concat", *from_, axis=-1), to=DOUBLE)
        zero = body("Cast", body("Mul", from_[0], body.constant(0, np.float32)), to=DOUBLE)
        rest = body("Cast", body("Concat", *from_[1:], axis=-1), to=DOUBLE)
        steps = body("Sub", first, body("Concat", rest, zero, axis=-1))
        return body("Unsqueeze", steps, body.constant([2]))

    def _digits(self) -> str:
        """Signs of the planes in sorted levels, (rows, levels, bits) of doubles."""
        body = self._body
        table = body.constant(self._signs(), np.float64)
        one = body.constant(1, np.float64)
        below = body("Less", self._raw, body.constant(0, np.float32))
        turn = body("Where", below, body("Neg", one), one)
        turned = body("GatherElements", turn, self._order, axis=1)
        signs = body("Gather", table, self._order, axis=0)
        return body("Mul", signs, body("Unsqueeze", turned, body.constant([2])))


def _solved(body: Body, g: str, d: str, bits: int) -> tuple[str, str]:
    """Solutions (rows, bits) of g (rows, bits, bits) and d by elimination; where g is singular."""
    flat = body("Reshape", g, body.constant([-1, bits * bits]))

    def entry(matrix: str, number: int) -> str:
        return body("Gather", matrix, body.constant([number]), axis=1)

    a = {(j, i): entry(flat, i * bits + j) for j, i in pairs(range(bits), 2)}
    right = [entry(d, i) for i in range(bits)]
    for j in range(bits):
        for i in range(j + 1, bits):
            factor = body("Div", a[j, i], a[j, j])
            for m in range(j + 1, i + 1):
                a[m, i] = body("Sub", a[m, i], body("Mul", factor, a[j, m]))
            right[i] = body("Sub", right[i], body("Mul", factor, right[j]))
    beta: list[str] = [""] * bits
    for j in reversed(range(bits)):
        rest = right[j]
        for i in range(j + 1, bits):
            rest = body("Sub", rest, body("Mul", a[j, i], beta[i]))
        beta[j] = body("Div", rest, a[j, j])
    least = body.constant(SINGULAR, np.float64)
    sound = [body("GreaterOrEqual", a[j, j], least) for j in range(bits)]  # NaN behind a 0 is not
    return body("Concat", *beta, axis=-1), body("Not", reduce(partial(body, "And"), sound))
