"""Puts the coding of inputs into a graph whose weights are in place."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import onnx
import onnx.helper
from numpy.typing import NDArray

from qsdk.interfaces import Activations, InputForm
from qsdk_plugins.onnx.coded_inputs import INPUT, STATE, operation_of
from qsdk_plugins.onnx.coding import quantize_function, quantize_name
from qsdk_plugins.onnx.constants import DOMAIN, PREFIX, attributes
from qsdk_plugins.onnx.graph import Weight
from qsdk_plugins.onnx.recurrent import (
    ATTRIBUTES,
    GATES,
    INPUTS,
    OUTPUTS,
    recurrent_function,
    recurrent_name,
)

SLOTS = {"MatMul": (1,), "Gemm": (1,), "LSTM": (INPUT, STATE), "GRU": (INPUT, STATE)}
PASSING = frozenset({"Identity", "Transpose"})  # between an embedding and what reads its rows
PLANES = 4  # more are no codes that a layer takes
ENDLESS = np.iinfo(np.int32).max  # longer than any sequence


class InputCoder:
    """Changes the nodes of a main graph that use some weights.

    weights : each with how the input that meets it is coded
    functions : what the new nodes call, by name, those that others call first
    constants : what they read
    changed : the weights, by name of the tensor, whose inputs are coded now
    """

    def __init__(
        self,
        proto: onnx.ModelProto,
        weights: Iterable[tuple[Weight, Activations]],
        opset: int,
        fresh: Callable[[str], str],
    ):
        self.proto, self.opset, self._fresh = proto, opset, fresh
        coded = [(w, form) for w, form in weights if form.form is InputForm.BINARY]
        self._forms = {weight.tensor: form for weight, form in coded}
        self._shapes = {weight.tensor: weight.layout.file_shape for weight, _ in coded}
        self.functions: dict[str, onnx.FunctionProto] = {}
        self.constants: list[onnx.TensorProto] = []
        self.changed: set[str] = set()
        self._producers = {name: node for node in proto.graph.node for name in node.output}
        self._coded: dict[tuple[str, Activations], str] = {}

    def apply(self) -> None:
        """Change the nodes in place."""
        nodes = [new for node in self.proto.graph.node for new in self._changed(node)]
        del self.proto.graph.node[:]
        self.proto.graph.node.extend(nodes)

    def _changed(self, node: onnx.NodeProto) -> Iterator[onnx.NodeProto]:
        operation = operation_of(node)
        new = onnx.NodeProto()
        new.CopyFrom(node)
        for slot in SLOTS.get(operation, ()):
            form = self._forms.get(node.input[slot])
            if form is None:
                continue
            if operation in GATES and slot == STATE:
                self._recurrent(new, form)
            elif self._is_coded(node.input[0]):
                continue
            else:
                yield from self._quantize(new, form)
            self.changed.add(node.input[slot])
        yield new

    def _is_coded(self, name: str) -> bool:
        """Whether ``name`` has rows of a table of binary codes: coding them again is a loss."""
        node = self._producers.get(name)
        while node is not None and node.op_type in PASSING and not node.domain:
            perm = attributes(node).get("perm")
            if node.op_type == "Transpose" and (not perm or perm[-1] != len(perm) - 1):
                return False
            node = self._producers.get(node.input[0])
        if node is None or operation_of(node) != "Gather" or attributes(node).get("axis", 0):
            return False
        table = self._producers.get(node.input[0])
        if table is None or (table.domain, table.op_type) != (DOMAIN, f"{PREFIX}binary_coded"):
            return False
        words = attributes(table)
        return words.get("granularity") != "per_group" and words.get("bits", 0) <= PLANES

    def _quantize(self, node: onnx.NodeProto, form: Activations) -> Iterator[onnx.NodeProto]:
        """Let ``node`` read codes; the node that makes them, unless there is one already."""
        key = (node.input[0], form)
        known = key in self._coded
        if not known:
            self._coded[key] = self._fresh(f"{node.input[0]}_coded")
        node.input[0] = self._coded[key]
        if known:
            return
        self._define(quantize_function(form, self.opset))
        yield onnx.helper.make_node(
            quantize_name(form),
            [key[0]],
            [self._coded[key]],
            name=self._fresh(f"{key[0]}_Quantize"),
            domain=DOMAIN,
            bits=form.bits,
            cycles=form.cycles,
        )

    def _recurrent(self, node: onnx.NodeProto, form: Activations) -> None:
        """Turn an LSTM or a GRU into a call of the function that codes its state."""
        operation, given = str(node.op_type), attributes(node)
        directions, _, hidden = self._shapes[node.input[STATE]]
        words: dict[str, Any] = {
            "direction": given.get("direction", "forward"),
            "linear_before_reset": given.get("linear_before_reset", 0),
            "hidden_size": hidden,
            "bits": form.bits,
            "cycles": form.cycles,
        }
        self._define(quantize_function(form, self.opset))
        self._define(recurrent_function(operation, words, form, self.opset))
        defaults = _defaults(operation, directions, hidden)
        names = [*node.input, *[""] * len(INPUTS[operation])]
        inputs = [
            name or self._constant(f"{node.output[0]}_{part}", defaults[part])
            for part, name in zip(INPUTS[operation], names, strict=False)
        ]
        new = onnx.helper.make_node(
            recurrent_name(operation, words, form),
            inputs,
            self._all_outputs(node, OUTPUTS[operation]),
            name=node.name,
            domain=DOMAIN,
            **{word: words[word] for word in ATTRIBUTES[operation]},
        )
        node.CopyFrom(new)

    def _all_outputs(self, node: onnx.NodeProto, names: Sequence[str]) -> list[str]:
        """Names for all: onnxruntime infers types of each, whoever reads it."""
        given = [*node.output, *[""] * len(names)][: len(names)]
        first = next(filter(None, given))
        new = (self._fresh(f"{first}_{name}") for name in names)
        return [output or next(new) for output in given]

    def _define(self, function: onnx.FunctionProto) -> None:
        self.functions.setdefault(function.name, function)

    def _constant(self, name: str, value: NDArray[Any]) -> str:
        tensor = onnx.numpy_helper.from_array(value, self._fresh(name))
        self.constants.append(tensor)
        return str(tensor.name)


def _defaults(operation: str, directions: int, hidden: int) -> Mapping[str, NDArray[Any]]:
    """What stands for inputs that a node leaves out; one state for the whole batch."""
    zeros = np.zeros((directions, 1, hidden), np.float32)
    return {
        "B": np.zeros((directions, 2 * GATES[operation] * hidden), np.float32),
        "sequence_lens": np.array([ENDLESS], np.int32),
        "initial_h": zeros,
        "initial_c": zeros,
    }
