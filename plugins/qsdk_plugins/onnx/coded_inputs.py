"""Layers that code their input while the model runs: which there are, and which there can be."""

from __future__ import annotations

from collections.abc import Mapping

import onnx

from qsdk.errors import FileRefusedError, QsdkError
from qsdk.interfaces import Activations, InputForm
from qsdk_plugins.onnx.coding import QUANTIZE
from qsdk_plugins.onnx.constants import DOMAIN, attributes
from qsdk_plugins.onnx.recurrent import FORWARD, GATES, INPUTS

INPUT, STATE = 1, 2  # where LSTM and GRU have W and R


def operation_of(node: onnx.NodeProto) -> str:
    """The standard operator that a node is, or that a function of qsdk computes with codes."""
    if node.domain == DOMAIN:
        return next((op for op in GATES if node.op_type.startswith(f"{op}_")), "")
    return str(node.op_type) if node.domain in ("", "ai.onnx") else ""


def form_of(node: onnx.NodeProto) -> Activations:
    """The codes that a node of qsdk's makes; a QsdkError where it claims what cannot be."""
    words = attributes(node)
    bits, cycles = words.get("bits"), words.get("cycles")
    if not (isinstance(bits, int) and isinstance(cycles, int)):
        raise FileRefusedError(f"{node.op_type} has {bits!r} bits and {cycles!r} cycles")
    return Activations(form=InputForm.BINARY, bits=bits, cycles=cycles)


def input_form(
    node: onnx.NodeProto, slot: int, producers: Mapping[str, onnx.NodeProto]
) -> Activations:
    """How the input is coded that meets the weight at ``slot`` of ``node``."""
    try:
        if slot == STATE and operation_of(node) in GATES:
            return form_of(node) if node.domain == DOMAIN else Activations()
        before = producers.get(node.input[0])
        if slot and before is not None and is_quantize(before):
            return form_of(before)
    except QsdkError:  # it is for a session to refuse such a file
        pass
    return Activations()


def is_quantize(node: onnx.NodeProto) -> bool:
    return bool(node.domain == DOMAIN and node.op_type.startswith(f"{QUANTIZE}_"))


def refusal(node: onnx.NodeProto, slot: int, data_type: int, form: Activations) -> str:
    """Why the input of this layer cannot be coded in the file; empty when it can."""
    operation, words = operation_of(node), attributes(node)
    if form.form not in (InputForm.FLOAT32, InputForm.BINARY):
        return f"ONNX files are written with float32 or binary activations, not {form}"
    if operation == "Gather" or form.form is InputForm.FLOAT32:
        return ""
    if data_type != onnx.TensorProto.FLOAT:
        kind = onnx.TensorProto.DataType.Name(data_type).lower()
        return f"{form} activations code float32, and the model computes in {kind}"
    if operation == "Gemm" and words.get("transA", 0):
        return f"{form} activations code rows, and this Gemm has transA"
    if operation in ("MatMul", "Gemm") and slot == 1:
        return ""
    if operation in GATES:
        return _recurrent_refusal(node, slot, form)
    return f"{form} activations cannot be written for {operation} with a weight at input {slot}"


def _recurrent_refusal(node: onnx.NodeProto, slot: int, form: Activations) -> str:
    """The function for coded states has no options beyond the common ones."""
    given = unusual(node) if slot == STATE else []
    if not given:
        return ""
    return f"{form} activations cannot be written for {node.op_type} with {', '.join(given)}"


def unusual(node: onnx.NodeProto) -> list[str]:
    """What an LSTM or a GRU has that neither the functions nor the layers of qsdk know."""
    words = attributes(node)
    direction = words.get("direction", "forward")
    functions = ["Sigmoid", "Tanh", "Tanh"] if operation_of(node) == "LSTM" else ["Sigmoid", "Tanh"]
    usual = functions * len(FORWARD.get(direction, ()))
    given = [word for word in ("clip", "layout", "input_forget") if words.get(word)]
    if words.get("activations", usual) != usual:
        given.append("activations")
    if any(node.input[len(INPUTS["LSTM"]) :]):
        given.append("peepholes")
    return given
