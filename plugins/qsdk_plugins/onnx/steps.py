"""Nodes that a layer of qsdk takes over, with what it takes and gives."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import attrs
import numpy as np
import onnx
from numpy.typing import NDArray

import qsdk
from qsdk.errors import KernelError
from qsdk.interfaces import Activations, InputForm
from qsdk_plugins.onnx.coded_inputs import form_of, operation_of, unusual
from qsdk_plugins.onnx.constants import DOMAIN, attributes
from qsdk_plugins.onnx.input_coder import ENDLESS
from qsdk_plugins.onnx.operands import Array, Operands, Source

SLOW = "reference"  # the backend of kernels that are there to be compared with


@attrs.frozen(eq=False)
class Step:
    """What one layer computes, from values of the graph by name.

    inputs : in the order of the arguments of ``call``; "" gives None
    outputs : in the order of its results; "" is asked for by nobody
    """

    nodes: tuple[str, ...]
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    kernel: str
    note: str
    call: Callable[..., Sequence[Array]] = attrs.field(repr=False)


def find_steps(
    graph: onnx.GraphProto, operands: Operands, readers: Mapping[str, int], threads: int
) -> Iterator[Step]:
    """The nodes of a main graph that layers of qsdk compute faster than they would decoded.

    readers : how often each value is read, being an output of the graph included
    """
    adds = {name: node for node in graph.node if node.op_type == "Add" for name in node.input}
    for node in graph.node:
        operation = operation_of(node)
        step = None
        if operation in ("MatMul", "Gemm"):
            alone = readers[node.output[0]] == 1
            add = adds.get(node.output[0]) if alone and operation == "MatMul" else None
            step = _linear(node, add, operands, threads)
        elif operation in ("LSTM", "GRU"):
            step = _recurrent(node, operation, operands, threads)
        if step is not None:
            yield step


def _linear(
    node: onnx.NodeProto, add: onnx.NodeProto | None, operands: Operands, threads: int
) -> Step | None:
    """``add`` : what alone reads the product, and may add a bias."""
    weight, words = operands.encoding(node, 1), attributes(node)
    if weight is None or words.get("transA") or words.get("alpha", 1) != 1:
        return None
    given = node.input[2] if len(node.input) > 2 else ""
    bias = _bias(operands, given, weight.shape[0])
    if given and (bias is None or words.get("beta", 1) != 1):
        return None
    nodes = [node]
    if add is not None:
        other = next((name for name in add.input if name != node.output[0]), "")
        bias = _bias(operands, other, weight.shape[0], most_axes=1)
        nodes += [add] if bias is not None else []

    def layer_for(source: Source) -> Any:
        return qsdk.linear(weight, bias=bias, activations=source.form, threads=threads)

    found = _fitting(operands, node, layer_for, lambda layer: [layer])
    if found is None:
        return None
    source, layer = found
    return Step(
        nodes=tuple(map(_name, nodes)),
        inputs=(source.name,),
        outputs=(nodes[-1].output[0],),
        kernel=layer.kernel.name,
        note=_note(source),
        call=lambda x: (layer(source.of(x)),),
    )


def _bias(
    operands: Operands, name: str, count: int, most_axes: int = 2
) -> NDArray[np.float32] | None:
    """A constant that is added to each row of so many results; None if it is something else."""
    value = operands.constant(name) if name else None
    if value is None or value.ndim > most_axes or value.dtype != np.float32:
        return None
    row = (1, *value.shape)[-2] == 1 and value.shape[-1:] in ((), (1,), (count,))
    return np.broadcast_to(value.reshape(-1), (count,)) if row else None


def _fitting(
    operands: Operands,
    node: onnx.NodeProto,
    layer_for: Callable[[Source], Any],
    of_x: Callable[[Any], list[Any]],
) -> tuple[Source, Any] | None:
    """A layer and its source: of codes where it takes them, else of floats; None for a slow one.

    of_x : all products of a layer, that with x first
    """
    floats = Source(node.input[0], Activations())
    source = operands.source(node.input[0])
    for candidate in [source] if source.rows is None else [source, floats]:
        try:
            layer = layer_for(candidate)
        except KernelError:
            continue
        products = of_x(layer)
        coded = candidate.rows is None or products[0].codes == candidate.rows.dtype
        if coded and all(product.kernel.backend != SLOW for product in products):
            return candidate, layer
    return None


def _recurrent(
    node: onnx.NodeProto, operation: str, operands: Operands, threads: int
) -> Step | None:
    words, names = attributes(node), [*node.input, *[""] * 8]
    w, r = operands.encoding(node, 1), operands.encoding(node, 2)
    bias = operands.constant(names[3]) if names[3] else None
    if w is None or r is None or unusual(node) or (names[3] and bias is None):
        return None
    state = form_of(node) if node.domain == DOMAIN else Activations()
    more = {"linear_before_reset": bool(words.get("linear_before_reset", 0))}
    build: Any = qsdk.gru if operation == "GRU" else qsdk.lstm

    def layer_for(source: Source) -> Any:
        return build(
            w,
            r,
            bias=bias,
            direction=words.get("direction", "forward"),
            activations=(source.form, state),
            threads=threads,
            **(more if operation == "GRU" else {}),
        )

    found = _fitting(operands, node, layer_for, _products)
    if found is None:
        return None
    source, layer = found
    lengths = operands.constant(names[4]) if names[4] else None
    endless = lengths is not None and (lengths == ENDLESS).all()

    def call(x: Array, lengths: Array | None, h: Array | None, c: Array | None) -> Any:
        batch = x.shape[1]
        states = {"initial_h": _for_batch(h, batch), "initial_c": _for_batch(c, batch)}
        if operation == "GRU":
            del states["initial_c"]
        return layer(source.of(x), sequence_lens=lengths, **states)

    return Step(
        nodes=(_name(node),),
        inputs=(source.name, "" if endless else names[4], names[5], names[6]),
        outputs=tuple(node.output),
        kernel=", ".join(layer.kernels),
        note=", ".join(filter(None, [_note(source), f"state {state}" if _coded(state) else ""])),
        call=call,
    )


def _products(layer: Any) -> list[Any]:
    return [
        product.layer
        for direction in layer.directions
        for product in (direction.inputs, *direction.states)
    ]


def _for_batch(state: Array | None, batch: int) -> Array | None:
    """One state may stand for the whole batch: so are the defaults of functions."""
    if state is None or state.shape[1] == batch:
        return state
    return np.broadcast_to(state, (len(state), batch, state.shape[2]))


def _name(node: onnx.NodeProto) -> str:
    return str(node.name or node.output[0])


def _coded(form: Activations) -> bool:
    return form.form is InputForm.BINARY


def _note(source: Source) -> str:
    if source.rows is not None:
        return "input in codes of the embedding"
    return f"input {source.form}" if _coded(source.form) else ""
