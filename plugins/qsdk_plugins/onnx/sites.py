"""Which tensors of a graph must have fixed codes so that its layers run in integers."""

from __future__ import annotations

from collections.abc import Collection, Iterator

import onnx
import onnx.numpy_helper

from qsdk.errors import DataError, RecipeError, did_you_mean, some
from qsdk.interfaces import Site
from qsdk_plugins.onnx.coded_inputs import operation_of
from qsdk_plugins.onnx.constants import Constants, attributes
from qsdk_plugins.onnx.graph import Graph, Weight

# Values come out as they went in, so both sides have the same codes.
MOVING = frozenset(
    {"Concat", "DepthToSpace", "Flatten", "Identity", "MaxPool", "Pad", "Reshape", "Slice",
     "SpaceToDepth", "Squeeze", "Transpose", "Unsqueeze"}
)  # fmt: skip
# New values, which runtimes compute from codes to codes.
COMPUTING = frozenset(
    {"Add", "AveragePool", "Clip", "GlobalAveragePool", "LeakyRelu", "Mul", "Relu"}
)
SEVERAL = frozenset({"Add", "Concat", "Mul"})  # all inputs are data
RANGES = frozenset({"Clip", "Relu"})  # that codes can do by saturating
ALWAYS_CODED = frozenset({"Conv"})  # in integers only if the result has codes too
CODED_LAYERS = frozenset({"Conv", "ConvTranspose", "Gemm", "MatMul"})


class Flow:
    """Who computes and who reads each tensor of a main graph."""

    def __init__(self, proto: onnx.ModelProto, constants: Constants):
        self.constants = constants
        self.producers = constants.producers
        self.outputs = {info.name for info in proto.graph.output}
        self.readers: dict[str, list[onnx.NodeProto]] = {}
        self.inside: set[str] = set()  # read from inside a subgraph
        for node in proto.graph.node:
            for name in dict.fromkeys(filter(None, node.input)):
                self.readers.setdefault(name, []).append(node)
            for attribute in node.attribute:
                for inner in (attribute.g, *attribute.graphs):
                    self.inside.update(name for n in inner.node for name in n.input)

    def ranged(self, name: str) -> str:
        """The output of the Relu or Clip that alone reads ``name``, or ``name``."""
        readers = self.readers.get(name, [])
        if name in self.outputs or name in self.inside or len(readers) != 1:
            return name
        (reader,) = readers
        is_range = operation_of(reader) in RANGES and reader.input[0] == name
        return str(reader.output[0]) if is_range and self.bounds(reader) else name

    def bounds(self, node: onnx.NodeProto) -> tuple[float, float] | None:
        """What a Relu or Clip keeps its values within, if that is known beforehand."""
        if node.op_type == "Relu":
            return 0.0, float("inf")
        words = attributes(node)
        ends = [float(words.get("min", "-inf")), float(words.get("max", "inf"))]
        for place, name in enumerate(node.input[1:3]):
            if name and self.constants.slice(name) is None:
                return None
            if name:
                ends[place] = float(self.constants.read(name).item())
        return ends[0], ends[1]

    def source(self, name: str) -> onnx.NodeProto | None:
        """The operator whose values ``name`` has, looking through a Relu or Clip that codes do."""
        node: onnx.NodeProto | None = self.producers.get(name)
        if node is None or operation_of(node) not in RANGES:
            return node
        before: onnx.NodeProto | None = self.producers.get(node.input[0])
        if before is None or operation_of(before) in MOVING or self.ranged(node.input[0]) != name:
            return node
        return before

    def moves(self, node: onnx.NodeProto) -> bool:
        """Whether what goes in and what comes out of an operator are to share codes.

        A Concat of values with a Relu and without has codes for each: shared ones would reach
        below 0, and the Relu would have to stay.
        """
        if operation_of(node) not in MOVING:
            return False
        return len({self._bounds_of(name) for name in self.data(node)}) == 1

    def _bounds_of(self, name: str) -> tuple[float, float] | None:
        """What a Relu or Clip that codes do leaves of ``name``."""
        node = self.producers.get(name)
        return None if node is None or self.source(name) is node else self.bounds(node)

    def data(self, node: onnx.NodeProto) -> list[str]:
        """The inputs that codes may stand for; empty where the operator takes none."""
        operation = operation_of(node)
        if operation not in MOVING | COMPUTING or (operation == "Pad" and not self._zeros(node)):
            return []
        names = list(node.input if operation in SEVERAL else node.input[:1])
        return [] if self.constants.fixed.intersection(names) else names

    def _zeros(self, pad: onnx.NodeProto) -> bool:
        """Whether a Pad adds zeros, which every grid holds."""
        words = attributes(pad)
        value = words.get("value", 0.0)
        if len(pad.input) > 2 and pad.input[2]:
            if self.constants.slice(pad.input[2]) is None:
                return False
            value = float(self.constants.read(pad.input[2]))
        return bool(words.get("mode", "constant") == "constant" and value == 0)


class Search:
    """Tensors to be coded, found backwards from the inputs of layers."""

    def __init__(self, graph: Graph, layers: Collection[str], floats: Collection[str]):
        self._flow = Flow(graph.proto, graph.constants)
        self._weights = [_coded_layer(graph, name) for name in layers]
        self._in_floats = [w for w in self._weights if w.layer.name in floats]
        self._in_integers = [w for w in self._weights if w.layer.name not in floats]
        self._coded: dict[str, None] = {}
        self._same: dict[str, str] = {}  # of two tensors that share codes, one to the other
        places = [info.name for info in graph.proto.graph.input]
        places += [name for node in graph.proto.graph.node for name in node.output]
        self._place = {name: i for i, name in enumerate(places)}

    def sites(self) -> Iterator[Site]:
        for weight in self._in_integers:
            self._code(data_input(weight))
            if weight.layer.operation in ALWAYS_CODED:
                self._code(self._flow.ranged(weight.node.output[0]))
        while self._spread():
            pass
        for weight in self._in_floats:
            self._code(data_input(weight))
        groups: dict[str, list[str]] = {}
        for name in sorted(self._coded, key=self._place.__getitem__):
            groups.setdefault(self._root(name), []).append(name)
        for tensors in groups.values():
            yield self._site(tensors)

    def _code(self, name: str) -> None:
        self._coded.setdefault(name)

    def _spread(self) -> bool:
        """Code what coded tensors are computed from, where integers can; whether there was any."""
        before = len(self._coded), len(self._same)
        for name in list(self._coded):
            node = self._flow.source(name)
            data = self._flow.data(node) if node is not None else []
            if len(data) > 1 and not self._coded.keys() & set(data):
                continue  # an island of floats around it stays one
            for input_ in data:
                self._code(input_)
                if node is not None and self._flow.moves(node):
                    self._join(input_, name)
        return before != (len(self._coded), len(self._same))

    def _root(self, name: str) -> str:
        while name in self._same:
            name = self._same[name]
        return name

    def _join(self, one: str, other: str) -> None:
        a, b = self._root(one), self._root(other)
        if a != b:
            self._same[b] = a

    def _site(self, tensors: list[str]) -> Site:
        moved = {name for name in tensors if self._is_moved(name, tensors)}
        reading = [w.layer.name for w in self._weights if data_input(w) in tensors]
        computing = [
            w.layer.name for w in self._weights if self._flow.ranged(w.node.output[0]) in tensors
        ]
        return Site(
            tensors=tuple(tensors),
            watched=tuple(name for name in tensors if name not in moved),
            layers=tuple(reading or computing),
        )

    def _is_moved(self, name: str, tensors: list[str]) -> bool:
        """Whether all values of ``name`` come from others of these tensors."""
        node = self._flow.source(name)
        if node is None or not self._flow.moves(node):
            return False
        return set(self._flow.data(node)) <= set(tensors)


def _coded_layer(graph: Graph, name: str) -> Weight:
    if name not in graph.weights:
        raise DataError(f"the model has no layer {name!r}{did_you_mean(name, graph.weights)}")
    return graph.weights[name]


def data_input(weight: Weight) -> str:
    """The tensor that meets the weight."""
    return str(weight.node.input[1 if weight.slot == 0 else 0])


def find_sites(graph: Graph, layers: Collection[str], floats: Collection[str] = ()) -> list[Site]:
    """Sites for those of ``layers`` that take codes; raises RecipeError for half floats.

    floats : those that compute in floats behind them
    """
    coded = [n for n in layers if _coded_layer(graph, n).layer.operation in CODED_LAYERS]
    single = onnx.TensorProto.FLOAT
    other = [name for name in coded if graph.weights[name].data_type != single]
    if other:
        raise RecipeError(f"{some(other)}: fixed codes stand for float32, not for other floats")
    fixed = graph.constants.fixed
    given = [name for name in coded if data_input(graph.weights[name]) not in fixed]
    return list(Search(graph, given, floats).sites())
