"""Which constants of a graph are weights of layers."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import attrs
import numpy as np
import onnx
from numpy.typing import NDArray

from qsdk.interfaces import Layer
from qsdk_plugins.onnx.coded_inputs import input_form, operation_of
from qsdk_plugins.onnx.constants import DOMAIN, Constants, attributes
from qsdk_plugins.onnx.layout import SLOTS, Layout, Slot
from qsdk_plugins.onnx.reading import TensorReader
from qsdk_plugins.onnx.skeleton import all_tensors, nbytes
from qsdk_plugins.onnx.stored_codes import stored_encoding


@attrs.frozen(eq=False)
class Weight:
    """A layer with where its weight lies in the graph.

    slot : which input of the node it is
    data_type : the ONNX element type that the users of ``tensor`` expect
    """

    layer: Layer
    node: onnx.NodeProto
    slot: int
    tensor: str
    layout: Layout
    data_type: int


class Graph:
    """The weights of a model's main graph; its subgraphs are left as they are.

    weights : by name of the layer, in order of the nodes
    skipped : constants that look like weights and are not handled, with the reason
    """

    def __init__(self, proto: onnx.ModelProto, reader: TensorReader):
        self.proto = proto
        self.constants = Constants(proto, reader)
        self.skipped: dict[str, str] = {}
        self.weights: dict[str, Weight] = {}
        for weight in self._find():
            self.weights[weight.layer.name] = weight
        self.skipped |= _inside(proto)
        order = {id(node): i for i, node in enumerate(proto.graph.node)}
        found = sorted(self.weights.items(), key=lambda item: order[id(item[1].node)])
        self.weights = dict(found)

    def _find(self) -> Iterator[Weight]:
        """Each constant once: what other layers compute from it follows its new value.

        Constants that a layer uses as they are come first, so that a tied weight is replaced
        where it lies and not behind somebody's Transpose.
        """
        initializers = self.constants.initializers
        candidates = [
            (node, slot, node.input[slot.index])
            for node in self.proto.graph.node
            for slot in SLOTS.get(operation_of(node), ())
            if slot.index < len(node.input) and node.input[slot.index]
        ]
        replaced: set[str] = set()
        for node, slot, name in sorted(candidates, key=lambda c: c[2] not in initializers):
            if name in replaced or self.constants.root(name) in replaced:
                continue
            weight = self._weight(node, slot, name)
            if weight is not None:
                replaced.add(name)
                self.skipped.pop(name, None)
                yield weight

    def _weight(self, node: onnx.NodeProto, slot: Slot, name: str) -> Weight | None:
        if self.constants.slice(name) is None:
            if name in self.constants.fixed:
                self.skipped[name] = f"{node.op_type} has it computed from constants"
            elif slot.always_weight:
                self.skipped[name] = f"{node.op_type} computes it at run time"
            return None
        stored = self.constants.describe(name)
        if "float" not in stored and "per_" not in stored:
            return None  # indices, shapes, texts
        data_type, shape = self.constants.type_of(name)
        words = attributes(node)
        if not slot.fits(shape) or (node.op_type == "Gather" and words.get("axis", 0) != 0):
            if len(shape) >= 2:
                self.skipped[name] = f"{node.op_type} with a constant of shape {shape}"
            return None
        if 0 in shape:
            self.skipped[name] = "it is empty"
            return None
        layout = slot.layout(shape, words)
        layer_name = self._name(node, slot, name)
        layer = Layer(
            name=layer_name,
            operation=operation_of(node),
            weight_name=name,
            shape=layout.shape,
            stored=stored,
            nbytes=sum(nbytes(tensor) for tensor in self.constants.tensors(name)),
            attributes={**words, "output": node.output[0]},
            input_name=node.input[1 if slot.index == 0 else 0] if slot.index < 2 else "",
            activations=input_form(node, slot.index, self.constants.producers),
            read=lambda: layout.to_canonical(self.constants.read(name)),
            read_encoding=lambda: stored_encoding(
                self.constants, node, slot.index, layout, layer_name
            ),
            read_bias=self._bias(node, slot, layout.shape[0]),
        )
        return Weight(layer, node, slot.index, name, layout, data_type)

    def _bias(
        self, node: onnx.NodeProto, slot: Slot, channels: int
    ) -> Callable[[], NDArray[np.float32]] | None:
        """What reads the bias of a layer that can have one."""
        if slot.index != 1 or node.op_type not in ("Conv", "ConvTranspose", "Gemm", "MatMul"):
            return None
        name = node.input[2] if len(node.input) > 2 else ""
        if name and self.constants.slice(name) is None:
            return None  # computed when the model runs
        beta = attributes(node).get("beta", 1.0) if node.op_type == "Gemm" else 1.0

        def read() -> NDArray[np.float32]:
            held = self.constants.read(name) * beta if name else np.zeros(channels)
            return np.broadcast_to(held, (1, channels)).reshape(channels).astype(np.float32)

        return read

    def _name(self, node: onnx.NodeProto, slot: Slot, tensor: str) -> str:
        """The node's name, else the weight's; numbered if another layer has it already."""
        name = f"{node.name}.{slot.part}" if node.name and slot.part else node.name
        if not name or name in self.weights:
            name = tensor
        number = 2
        while name in self.weights:
            name, number = f"{tensor}_{number}", number + 1
        return name


def _inside(proto: onnx.ModelProto) -> dict[str, str]:
    """Layers in subgraphs and in functions, which are left as they are."""
    found = {}
    for function in proto.functions:
        if function.domain != DOMAIN and any(n.op_type in SLOTS for n in function.node):
            found[function.name] = "a function of the model's own"
    for node in proto.graph.node:
        for attribute in node.attribute:
            for inner in (attribute.g, *attribute.graphs):
                weights = {tensor.name for _, tensor in all_tensors(inner)}
                found |= dict.fromkeys(_used(inner) & weights, f"inside a {node.op_type}")
    return found


def _used(graph: onnx.GraphProto) -> set[str]:
    """Names in the places of weights, in a subgraph and those inside it."""
    names = set()
    for node in graph.node:
        for slot in SLOTS.get(node.op_type, ()):
            names.add(node.input[slot.index] if slot.index < len(node.input) else "")
        for attribute in node.attribute:
            for inner in (attribute.g, *attribute.graphs):
                names |= _used(inner)
    return names
