"""A new ONNX model with some weights replaced by encodings."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any

import onnx
import onnx.checker
import onnx.version_converter

from qsdk.encodings import Encoding
from qsdk.errors import DataError, FileRefusedError, did_you_mean, grouped, some
from qsdk.interfaces import Activations, FixedCodes
from qsdk_plugins.onnx.coded_inputs import refusal
from qsdk_plugins.onnx.constants import DOMAIN
from qsdk_plugins.onnx.decoding import Decoder, Parts, needed_opset
from qsdk_plugins.onnx.fixed_codes import CodeWriter, code_notes, with_room_for_bias
from qsdk_plugins.onnx.graph import Graph, Weight
from qsdk_plugins.onnx.input_coder import InputCoder
from qsdk_plugins.onnx.noted import set_metadata
from qsdk_plugins.onnx.sites import data_input
from qsdk_plugins.onnx.skeleton import copy_model, without_data

DECODED_EACH_RUN = frozenset({"Conv", "ConvTranspose", "Gemm"})  # MatMul is MatMulNBits
OLDEST = 13  # the first opset in which channels have scales of their own


def rewrite(
    graph: Graph,
    encodings: Iterable[tuple[str, Encoding]],
    metadata: Callable[[], Mapping[str, Any]],
    activations: Mapping[str, Activations],
    codes: Mapping[str, FixedCodes] | None = None,
) -> tuple[onnx.ModelProto, list[str]]:
    """The new model and notes on it. Everything that is not replaced stays as it was."""
    codes = codes or {}
    named = ((_weight(graph, name), encoding) for name, encoding in encodings)
    new = [(w, with_room_for_bias(graph, w, encoding, codes)) for w, encoding in named]
    replaced = [weight for weight, _ in new]
    needed = max((needed_opset(encoding) for _, encoding in new), default=0)
    proto, notes = with_opset(skeleton(graph, replaced), needed, replaced)
    opset = default_opset(proto)
    if new and opset < OLDEST:
        raise FileRefusedError(_too_old(notes))
    fresh = fresh_names(proto)
    parts = [
        Decoder(
            w.tensor, w.layout, w.data_type, opset, fresh, for_integers=data_input(w) in codes
        ).build(encoding)
        for w, encoding in new
    ]
    _insert(proto, parts)
    coded = [(w, activations[w.layer.name]) for w in replaced if w.layer.name in activations]
    coder = InputCoder(proto, coded, opset, fresh)
    coder.apply()
    notes += grouped(
        (w.layer.name, f"{form} codes of the input, made in the run")
        for w, form in coded
        if w.tensor in coder.changed
    )
    proto.graph.initializer.extend(coder.constants)
    if codes:
        writer = CodeWriter(graph, proto, codes, fresh)
        writer.apply(new)
        proto.graph.initializer.extend(writer.constants)
        drop_unused(graph.proto, proto)
        notes += code_notes(new, codes)
    _define(proto, [part.functions for part in parts] + [coder.functions])
    said_of = list(zip(replaced, parts, strict=True))
    notes += grouped((weight.layer.name, note) for weight, part in said_of for note in part.notes)
    notes += _slow(
        [
            weight.layer.name
            for weight, part in said_of
            if weight.layer.operation in DECODED_EACH_RUN
            and data_input(weight) not in codes
            and any(node.op_type == "DequantizeLinear" for node in part.nodes)
        ]
    )
    set_metadata(proto, metadata())
    return proto, notes


def _slow(names: list[str]) -> list[str]:
    """A warning where weights alone are coded, in a form that onnxruntime decodes on every run."""
    if not names:
        return []
    return [
        f"warning: {some(names)}: of weights alone in codes onnxruntime makes floats on every run, "
        "which can double the time of a float network; with the session entry "
        "session.disable_quant_qdq=1 it does so once, at load"
    ]


def drop_unused(old: onnx.ModelProto, proto: onnx.ModelProto) -> None:
    """Leave out constants that ``old`` reads and ``proto`` does not."""
    read, now = ({n for x in p.graph.node for n in names_read(x)} for p in (old, proto))
    dead = read - now - {info.name for info in proto.graph.output}
    held = {tensor.name for tensor in proto.graph.initializer}
    for field in (proto.graph.initializer, proto.graph.input):
        kept = [item for item in field if item.name not in dead & held]
        del field[:]
        field.extend(kept)


def opset_obstacles(graph: Graph, layers: Iterable[str]) -> list[str]:
    """Why a model of an old opset cannot be brought to where its weights can be quantized."""
    if default_opset(graph.proto) >= OLDEST:
        return []
    replaced = [_weight(graph, name) for name in layers]
    proto, notes = with_opset(skeleton(graph, replaced), OLDEST, replaced)
    return [_too_old(notes)] if default_opset(proto) < OLDEST else []


def _too_old(notes: Sequence[str]) -> str:
    return f"quantized weights need opset {OLDEST}, and {notes[-1]}"


def activation_obstacles(graph: Graph, activations: Mapping[str, Activations]) -> list[str]:
    """Why the inputs of these layers cannot be coded."""
    weights = [(_weight(graph, name), form) for name, form in activations.items()]
    reasons = ((w.layer.name, refusal(w.node, w.slot, w.data_type, form)) for w, form in weights)
    return grouped((name, reason) for name, reason in reasons if reason)


def _weight(graph: Graph, name: str) -> Weight:
    if name not in graph.weights:
        raise DataError(f"the model has no layer {name!r}{did_you_mean(name, graph.weights)}")
    return graph.weights[name]


def skeleton(graph: Graph, replaced: list[Weight]) -> onnx.ModelProto:
    """A copy of the model without the replaced weights, and what only they were computed from."""
    dead = _only_for(graph, {weight.tensor for weight in replaced})
    places = ("node", "initializer", "input")
    proto = onnx.ModelProto()
    copy_model(graph.proto, proto, lambda field, name: field not in places or name not in dead)
    return proto


def _only_for(graph: Graph, tensors: set[str]) -> set[str]:
    """Names of constants, and of what is computed from them, that only these weights need."""
    nodes = graph.proto.graph.node
    uses = Counter(name for node in nodes for name in names_read(node))
    uses.update(info.name for info in graph.proto.graph.output)
    slices = (node for name in tensors for node in graph.constants.slice(name) or ())
    candidates = {id(node): node for node in slices}
    names = {name for node in candidates.values() for name in node.input} | tensors
    dead = set()
    for node in reversed(nodes):
        if id(node) in candidates and all(o in tensors or not uses[o] for o in node.output):
            dead.update(node.output)
            uses.subtract(node.input)
    return dead | {name for name in names if name in tensors or not uses[name]}


def names_read(node: onnx.NodeProto) -> Iterator[str]:
    """Names that a node reads, also from inside its subgraphs."""
    yield from node.input
    for attribute in node.attribute:
        for inner in (attribute.g, *attribute.graphs):
            for info in inner.output:
                yield info.name
            for deeper in inner.node:
                yield from names_read(deeper)


def with_opset(
    proto: onnx.ModelProto, needed: int, replaced: list[Weight]
) -> tuple[onnx.ModelProto, list[str]]:
    """The model at opset ``needed`` or above; as it was, with a note, if that cannot be done.

    Large constants, and the replaced ones, are typed inputs meanwhile: the converter copies what
    it is given several times over, and does not find data that lies outside.
    """
    if default_opset(proto) >= needed:
        return proto, []
    if proto.functions:
        return proto, [f"not converted to opset {needed}: it has functions of its own"]
    missing = {w.tensor: (w.data_type, w.layout.file_shape) for w in replaced}
    light, held = without_data(proto, missing)
    try:
        converted: onnx.ModelProto = onnx.version_converter.convert_version(light, needed)
        onnx.checker.check_model(converted)
    except Exception as error:  # the converter raises RuntimeError and types of its own
        reason = " ".join(str(error).split())[:120]
        return proto, [f"the model could not be converted to opset {needed}: {reason}"]
    own = {info.name for info in proto.graph.input}
    stand_ins = {*missing, *(tensor.name for tensor in held)} - own
    inputs = [info for info in converted.graph.input if info.name not in stand_ins]
    del converted.graph.input[:]
    converted.graph.input.extend(inputs)
    converted.graph.initializer.extend(held)
    converted.graph.metadata_props.extend(proto.graph.metadata_props)
    return converted, [f"converted from opset {default_opset(proto)} to {needed}"]


def default_opset(proto: onnx.ModelProto) -> int:
    return max((o.version for o in proto.opset_import if o.domain in ("", "ai.onnx")), default=1)


def fresh_names(proto: onnx.ModelProto) -> Callable[[str], str]:
    """Names that nothing in the graph has yet; each given out once."""
    taken = {tensor.name for tensor in proto.graph.initializer}
    taken |= {info.name for info in (*proto.graph.input, *proto.graph.value_info)}
    for node in proto.graph.node:
        taken |= {node.name, *node.output, *names_read(node)}

    def fresh(wanted: str) -> str:
        name, number = wanted, 1
        while name in taken:
            name, number = f"{wanted}_{number}", number + 1
        taken.add(name)
        return name

    return fresh


def _insert(proto: onnx.ModelProto, parts: list[Parts]) -> None:
    before = list(proto.graph.node)
    del proto.graph.node[:]
    proto.graph.node.extend(node for part in parts for node in part.nodes)
    proto.graph.node.extend(before)
    for part in parts:
        proto.graph.initializer.extend(part.constants)


def _define(proto: onnx.ModelProto, functions: list[dict[str, onnx.FunctionProto]]) -> None:
    """Add functions that the model has not yet; say which versions of ONNX all that needs."""
    known = {(function.domain, function.name) for function in proto.functions}
    new = {name: f for group in functions for name, f in group.items()}
    proto.functions.extend(f for name, f in new.items() if (DOMAIN, name) not in known)
    if proto.functions and not any(o.domain == DOMAIN for o in proto.opset_import):
        proto.opset_import.append(onnx.helper.make_opsetid(DOMAIN, 1))
    lowest = onnx.helper.find_min_ir_version_for(
        [o for o in proto.opset_import if o.domain != DOMAIN], ignore_unknown=True
    )
    proto.ir_version = max(proto.ir_version, lowest, 8 if proto.functions else 0)
