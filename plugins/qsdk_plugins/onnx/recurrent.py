"""LSTM and GRU whose hidden state is coded before each product, as functions of a model.

A function takes what the operator takes, in its order, and all of it: where a node leaves out an
input, the call has a default that is as wide as needed. Products with W are made for all steps at
once; a Scan goes through the steps. The input is coded by a node in front, if at all.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import onnx
import onnx.helper

from qsdk.interfaces import Activations
from qsdk_plugins.onnx.body import Body
from qsdk_plugins.onnx.coding import form_suffix, quantize_name
from qsdk_plugins.onnx.constants import DOMAIN

GATES = {"LSTM": 4, "GRU": 3}
INPUTS = {
    "LSTM": ("X", "W", "R", "B", "sequence_lens", "initial_h", "initial_c"),
    "GRU": ("X", "W", "R", "B", "sequence_lens", "initial_h"),
}
OUTPUTS = {"LSTM": ("Y", "Y_h", "Y_c"), "GRU": ("Y", "Y_h")}
ATTRIBUTES = {
    "LSTM": ("direction", "hidden_size", "bits", "cycles"),
    "GRU": ("direction", "hidden_size", "linear_before_reset", "bits", "cycles"),
}
FORWARD = {"forward": (True,), "reverse": (False,), "bidirectional": (True, False)}
INT64 = onnx.TensorProto.INT64


def recurrent_name(operation: str, words: Mapping[str, Any], form: Activations) -> str:
    """Each body has a name of its own, which the node's attributes decide."""
    kind = "_linear_before_reset" if words.get("linear_before_reset", 0) else ""
    direction = words.get("direction", "forward")
    return f"{operation}_binary_coded_{form_suffix(form)}_{direction}{kind}"


def recurrent_function(
    operation: str, words: Mapping[str, Any], form: Activations, opset: int
) -> onnx.FunctionProto:
    """LSTM or GRU, its attributes ``words``, with a hidden state in codes of ``form``."""
    body = Body("o")
    results = [
        _Direction(body, operation, words, form, number, forward).run()
        for number, forward in enumerate(FORWARD[words.get("direction", "forward")])
    ]
    axes = {"Y": 1, "Y_h": 0, "Y_c": 0}
    for name, parts in zip(OUTPUTS[operation], zip(*results, strict=True), strict=True):
        axis = axes[name]
        whole = [body("Unsqueeze", part, body.constant([axis])) for part in parts]
        body.named(name, body("Concat", *whole, axis=axis))
    return onnx.helper.make_function(
        DOMAIN,
        recurrent_name(operation, words, form),
        list(INPUTS[operation]),
        list(OUTPUTS[operation]),
        body.nodes,
        [onnx.helper.make_opsetid("", opset), onnx.helper.make_opsetid(DOMAIN, 1)],
        list(ATTRIBUTES[operation]),
    )


class _Direction:
    """One direction of a layer: what comes before the steps, the steps, what comes after."""

    def __init__(
        self,
        body: Body,
        operation: str,
        words: Mapping[str, Any],
        form: Activations,
        number: int,
        forward: bool,
    ):
        self.body, self.operation, self.form = body, operation, form
        self.number, self.forward = number, forward
        self.reset_after = bool(words.get("linear_before_reset", 0))

    def run(self) -> list[str]:
        """Y (seq, batch, hidden), then the last states (batch, hidden)."""
        body = self.body
        bias, self.state_bias = self._biases()
        weight = body("Transpose", self._own("W"), perm=[1, 0])
        products = body("Add", body("MatMul", "X", weight), bias)
        self.recurrence = body("Transpose", self._own("R"), perm=[1, 0])
        lengths, goes_on = self._lengths(products)
        states = [self._initial(name) for name in INPUTS[self.operation][5:]]
        if not self.forward:
            products = self._reversed(products, lengths)
        *last, y = body.several(
            len(states) + 1,
            "Scan",
            *states,
            products,
            goes_on,
            body=self._steps(len(states)),
            num_scan_inputs=2,
        )
        return [y if self.forward else self._reversed(y, lengths), *last]

    def _own(self, name: str) -> str:
        return self.body("Gather", name, self.body.constant(self.number), axis=0)

    def _biases(self) -> tuple[str, str]:
        """What is added to the product with W, and to that with R."""
        body = self.body
        both = body("Reshape", self._own("B"), body.constant([2, -1]))
        of_x, of_h = (body("Gather", both, body.constant(i), axis=0) for i in range(2))
        if not self.reset_after:
            return body("Add", of_x, of_h), ""
        return of_x, of_h

    def _lengths(self, products: str) -> tuple[str, str]:
        """Lengths of the sequences (batch,), and where they go on (seq, batch, 1)."""
        body = self.body
        shape = body("Shape", products)
        steps, batch = (body("Gather", shape, body.constant(i), axis=0) for i in range(2))
        given = body("Cast", "sequence_lens", to=INT64)
        self.batch = body("Unsqueeze", batch, body.constant([0]))
        lengths = body("Expand", body("Min", given, steps), self.batch)
        step = body("Range", body.constant(0), steps, body.constant(1))
        goes_on = body("Less", body("Unsqueeze", step, body.constant([1])), lengths)
        return lengths, body("Unsqueeze", goes_on, body.constant([2]))

    def _initial(self, name: str) -> str:
        """Each batch has its own, or one stands for all."""
        shape = self.body("Concat", self.batch, self.body.constant([1]), axis=0)
        return self.body("Expand", self._own(name), shape)

    def _reversed(self, values: str, lengths: str) -> str:
        return self.body("ReverseSequence", values, lengths, time_axis=0, batch_axis=1)

    def _steps(self, states: int) -> onnx.GraphProto:
        """The body of Scan: states, products of a step and who goes on; states and y."""
        step = Body(f"s{self.number}_")
        prefix = f"d{self.number}_"
        before = [f"{prefix}h", f"{prefix}c"][:states]
        products, goes_on = f"{prefix}products", f"{prefix}goes_on"
        after = (self._lstm if states == 2 else self._gru)(step, products, *before)
        outputs = []
        for new, old in zip(after, before, strict=True):
            outputs.append(step("Where", goes_on, new, old))
        outputs.append(step("Where", goes_on, after[0], step.constant(0, np.float32)))
        going = onnx.helper.make_tensor_value_info(goes_on, onnx.TensorProto.BOOL, None)
        return onnx.helper.make_graph(
            step.nodes,
            f"{prefix}step",
            [*map(_float, [*before, products]), going],
            [*map(_float, outputs)],
        )

    def _coded(self, step: Body, h: str) -> str:
        words = {"bits": self.form.bits, "cycles": self.form.cycles}
        return step(quantize_name(self.form), h, domain=DOMAIN, **words)

    def _gates(self, step: Body, sums: str) -> list[str]:
        """(batch, gates * hidden) as one value for each gate."""
        count = GATES[self.operation]
        apart = step("Reshape", sums, step.constant([0, count, -1]))
        return [step("Gather", apart, step.constant(i), axis=1) for i in range(count)]

    def _lstm(self, step: Body, products: str, h: str, c: str) -> list[str]:
        sums = step("Add", products, step("MatMul", self._coded(step, h), self.recurrence))
        i, o, f, g = self._gates(step, sums)
        i, o, f = (step("Sigmoid", gate) for gate in (i, o, f))
        kept, new = step("Mul", f, c), step("Mul", i, step("Tanh", g))
        cell = step("Add", kept, new)
        return [step("Mul", o, step("Tanh", cell)), cell]

    def _gru(self, step: Body, products: str, h: str) -> list[str]:
        own = step("MatMul", self._coded(step, h), self.recurrence)
        if self.reset_after:
            own = step("Add", own, self.state_bias)
        (x_z, x_r, x_h), (h_z, h_r, h_h) = self._gates(step, products), self._gates(step, own)
        z = step("Sigmoid", step("Add", x_z, h_z))
        r = step("Sigmoid", step("Add", x_r, h_r))
        if self.reset_after:
            inner = step("Mul", r, h_h)
        else:
            inner = self._gates(step, self._reset_product(step, r, h))[2]
        new = step("Tanh", step("Add", x_h, inner))
        kept = step("Mul", z, step("Sub", h, new))
        return [step("Add", new, kept)]

    def _reset_product(self, step: Body, r: str, h: str) -> str:
        return step("MatMul", self._coded(step, step("Mul", r, h)), self.recurrence)


def _float(name: str) -> onnx.ValueInfoProto:
    return onnx.helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, None)
