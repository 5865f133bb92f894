"""Which tensors of a graph are weights, and how each is computed from constants."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import attrs
import numpy as np
import onnx
from numpy.typing import NDArray

import qsdk
from qsdk.encodings import Encoding
from qsdk.errors import FileRefusedError, QsdkError
from qsdk.interfaces import Layer
from qsdk_plugins.onnx.layout import SLOTS, Layout, Slot
from qsdk_plugins.onnx.reading import TensorReader, nbytes

DOMAIN = "qsdk"
PREFIX = "Dequantize_"

# What may stand between a constant and the operator that uses it as a weight.
FORMAL = frozenset(
    {"Constant", "Identity", "Transpose", "Reshape", "Squeeze", "Unsqueeze", "Cast", "Flatten"}
)
DEPTH = 32  # such operators in a row; more is no weight of this world


@attrs.frozen(eq=False)
class Weight:
    """A layer with where its weight lies in the graph."""

    layer: Layer
    node: onnx.NodeProto
    tensor: str
    layout: Layout


class Graph:
    """An index over the main graph of a model; subgraphs are left as they are."""

    def __init__(self, proto: onnx.ModelProto, reader: TensorReader):
        self.proto = proto
        self.reader = reader
        self.initializers = {tensor.name: tensor for tensor in proto.graph.initializer}
        self.producers = {name: node for node in proto.graph.node for name in node.output if name}
        self.skipped: dict[str, str] = {}
        self.weights: dict[str, Weight] = {}
        for weight in self._find():
            self.weights[weight.layer.name] = weight
        order = {id(node): i for i, node in enumerate(proto.graph.node)}
        found = sorted(self.weights.items(), key=lambda item: order[id(item[1].node)])
        self.weights = dict(found)

    def slice(self, name: str) -> list[onnx.NodeProto] | None:
        """Nodes that compute ``name`` from constants alone, in order; None when others do."""
        nodes: list[onnx.NodeProto] = []
        return nodes if self._slice(name, nodes, DEPTH) else None

    def _slice(self, name: str, nodes: list[onnx.NodeProto], depth: int) -> bool:
        if name in self.initializers or not name:
            return True
        node = self.producers.get(name)
        if node is None or depth == 0 or not (_is_formal(node) or is_dequantize(node)):
            return False
        if not all(self._slice(input_, nodes, depth - 1) for input_ in node.input):
            return False
        if not any(node is known for known in nodes):
            nodes.append(node)
        return True

    def constants(self, name: str) -> list[onnx.TensorProto]:
        """The constants that ``name`` is computed from."""
        nodes = self.slice(name) or []
        names = dict.fromkeys([name, *(input_ for node in nodes for input_ in node.input)])
        tensors = [self.initializers[n] for n in names if n in self.initializers]
        tensors += [a.t for node in nodes for a in node.attribute if a.HasField("t")]
        return tensors

    def read(self, name: str) -> NDArray[Any]:
        """The value of a tensor that is computed from constants."""
        nodes = self.slice(name)
        if not nodes:
            return self.reader.read(self.initializers[name])
        from onnx.reference import ReferenceEvaluator  # half a second; only needed here

        needed = {input_ for node in nodes for input_ in node.input}
        feeds = {n: self.reader.read(self.initializers[n]) for n in needed & set(self.initializers)}
        graph = onnx.helper.make_graph(
            nodes,
            "weight",
            [onnx.ValueInfoProto(name=n) for n in feeds],
            [onnx.ValueInfoProto(name=name)],
        )
        # The evaluator decodes from opset 19 on; these operators mean the same since 13.
        imports = [onnx.helper.make_opsetid(DOMAIN, 1), onnx.helper.make_opsetid("", 21)]
        model = onnx.helper.make_model(graph, opset_imports=imports, functions=self.proto.functions)
        try:
            (value,) = ReferenceEvaluator(model).run(None, feeds)
        except Exception as error:  # the evaluator raises whatever its numpy code does
            raise FileRefusedError(f"weight {name!r} cannot be computed: {error}") from None
        return np.asarray(value)

    def encoding(self, name: str) -> Encoding | None:
        """The encoding behind ``name``, when one of qsdk's functions decodes it."""
        for node in self.slice(name) or ():
            if node.domain != DOMAIN:
                continue
            function = next(f for f in self.proto.functions if f.name == node.op_type)
            arrays = {
                part: self.reader.read(self.initializers[input_])
                for part, input_ in zip(function.input, node.input, strict=True)
            }
            values = {a.name: _plain(onnx.helper.get_attribute_value(a)) for a in node.attribute}
            kind = node.op_type.removeprefix(PREFIX)
            try:
                target: type[Encoding] = qsdk.registry.get(f"encoding:{kind}")
                return target.from_arrays(arrays, values)
            except QsdkError as error:
                raise FileRefusedError(f"weight {name!r} is refused: {error}") from error
        return None

    def _find(self) -> Iterator[Weight]:
        """Each constant once: what other layers compute from it follows its new value.

        Constants that a layer uses as they are come first, so that a tied weight is replaced
        where it lies and not behind somebody's Transpose.
        """
        candidates = [
            (node, slot, node.input[slot.index])
            for node in self.proto.graph.node
            if node.domain in ("", "ai.onnx")
            for slot in SLOTS.get(node.op_type, ())
            if slot.index < len(node.input) and node.input[slot.index]
        ]
        seen: set[str] = set()
        for node, slot, name in sorted(candidates, key=lambda c: c[2] not in self.initializers):
            root = self._root(name)
            weight = self._weight(node, slot, name) if root not in seen else None
            if weight is not None:
                seen.add(root)
                yield weight

    def _root(self, name: str) -> str:
        """The constant that ``name`` is a view of, along the first inputs."""
        for _ in range(DEPTH):
            node = self.producers.get(name)
            if node is None or not node.input or not (_is_formal(node) or is_dequantize(node)):
                break
            name = node.input[0]
        return name

    def _weight(self, node: onnx.NodeProto, slot: Slot, name: str) -> Weight | None:
        if self.slice(name) is None:
            if node.op_type in ("Conv", "ConvTranspose", "LSTM", "GRU", "RNN"):
                self.skipped[name] = f"{node.op_type} computes it at run time"
            return None
        stored, shape = self._stored(name)
        if "float" not in stored and " " not in stored:
            return None  # indices, shapes, texts
        wrong_dims = len(shape) < 3 if slot.dims is None else len(shape) != slot.dims
        if wrong_dims or (node.op_type == "Gather" and _attributes(node).get("axis", 0) != 0):
            if len(shape) >= 2:
                self.skipped[name] = f"{node.op_type} with a constant of shape {shape}"
            return None
        layout: Layout = slot.layout(shape, _attributes(node))
        layer = Layer(
            name=self._name(node, slot, name),
            operation=node.op_type,
            weight_name=name,
            shape=layout.shape,
            stored=stored,
            nbytes=sum(nbytes(tensor) for tensor in self.constants(name)),
            attributes={**_attributes(node), "output": node.output[0]},
            read=lambda: layout.to_canonical(self.read(name)),
        )
        return Weight(layer, node, name, layout)

    def _name(self, node: onnx.NodeProto, slot: Slot, tensor: str) -> str:
        name = f"{node.name}.{slot.part}" if node.name and slot.part else node.name
        return tensor if not name or name in self.weights else name

    def _stored(self, name: str) -> tuple[str, tuple[int, ...]]:
        """Number format and shape of a constant, without reading large ones."""
        nodes = self.slice(name)
        if not nodes:
            tensor = self.initializers[name]
            kind = onnx.TensorProto.DataType.Name(tensor.data_type).lower()
            return {"float": "float32", "double": "float64"}.get(kind, kind), tuple(tensor.dims)
        encoding = self.encoding(name)
        value = self.read(name)
        if encoding is not None:
            return encoding.describe(), value.shape
        for node in nodes:
            if node.op_type == "DequantizeLinear":
                return self._describe_dequantize(node), value.shape
        return value.dtype.name, value.shape

    def _describe_dequantize(self, node: onnx.NodeProto) -> str:
        """Such as ``int4 per_channel``: what any tool's DequantizeLinear holds."""
        codes, scale = (self.initializers.get(name) for name in node.input[:2])
        if codes is None or scale is None:
            return "quantized"
        kind = onnx.TensorProto.DataType.Name(codes.data_type).lower()
        group = _attributes(node).get("block_size", 0)
        if group:
            return f"{kind} per_group of {group}"
        return f"{kind} {'per_channel' if scale.dims else 'per_tensor'}"


def is_dequantize(node: onnx.NodeProto) -> bool:
    """Whether a node decodes a quantized weight."""
    if node.domain == DOMAIN:
        return bool(node.op_type.startswith(PREFIX))
    return bool(node.op_type == "DequantizeLinear")


def _is_formal(node: onnx.NodeProto) -> bool:
    return node.domain in ("", "ai.onnx") and node.op_type in FORMAL


def _attributes(node: onnx.NodeProto) -> dict[str, Any]:
    return {
        a.name: _plain(onnx.helper.get_attribute_value(a))
        for a in node.attribute
        if a.type in (a.INT, a.INTS, a.FLOAT, a.FLOATS, a.STRING)
    }


def _plain(value: Any) -> Any:
    if isinstance(value, bytes):
        return value.decode(errors="replace")
    return list(value) if isinstance(value, (list, tuple)) else value
