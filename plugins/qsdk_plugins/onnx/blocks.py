"""A model cut where all that goes on is one tensor, each block with slopes of its weights."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray

from qsdk.errors import DataError
from qsdk.interfaces import Block
from qsdk_plugins.onnx.graph import Graph, Weight
from qsdk_plugins.onnx.piece import piece
from qsdk_plugins.onnx.runtime import one_line, open_session
from qsdk_plugins.onnx.slopes import RULES, Slopes
from qsdk_plugins.onnx.writing import names_read

Arrays = Mapping[str, NDArray[Any]]
FACTOR, OFFSET = "slope_factor", "slope_offset"  # inputs: the outcome's slope by the output


def blocks(graph: Graph, inputs: Sequence[str]) -> list[Block]:
    """All of the model up to the last tensor that everything goes through."""
    found = []
    for given, output, nodes in _cut(graph, inputs):
        weights = {
            name: weight
            for name, weight in graph.weights.items()
            if any(weight.node is node for node in nodes)
        }
        work = _Work(graph, nodes, given, output, weights)
        found.append(
            Block(
                layers=tuple(weights),
                input=given,
                output=output,
                obstacle=_obstacle(nodes, [weight.tensor for weight in weights.values()]),
                run=work.run,
                slopes=work.slopes,
            )
        )
    return found


def _cut(graph: Graph, inputs: Sequence[str]) -> Iterator[tuple[str, str, list[onnx.NodeProto]]]:
    """Input, output and nodes of each block: a layer, and what follows until the next."""
    if len(inputs) != 1:
        raise DataError(f"a model with the inputs {list(inputs)} has no blocks; one is needed")
    before, after, mine = inputs[0], inputs[0], list[onnx.NodeProto]()
    for output, nodes in _pieces(graph, inputs):
        if mine and not _joins(graph, mine, nodes):
            yield before, after, mine
            before, mine = after, []
        after, mine = output, mine + nodes
    if mine:
        yield before, after, mine


def _joins(graph: Graph, mine: Sequence[onnx.NodeProto], nodes: Sequence[onnx.NodeProto]) -> bool:
    """Whether a piece goes on with what is there: it has no layer, or is the first to have one."""
    new, old = (
        any(weight.node is node for weight in graph.weights.values() for node in held)
        for held in (nodes, mine)
    )
    return not (old and new) and all(node.op_type in RULES for node in nodes)


def _pieces(graph: Graph, inputs: Sequence[str]) -> Iterator[tuple[str, list[onnx.NodeProto]]]:
    """Nodes up to where one tensor is all that is used later; that tensor first."""
    fixed = graph.constants.fixed
    nodes = [n for n in graph.proto.graph.node if not fixed.issuperset(n.output)]
    last = {name: i for i, node in enumerate(nodes) for name in names_read(node)}
    live, mine = set(inputs), list[onnx.NodeProto]()
    for i, node in enumerate(nodes):
        mine.append(node)
        live = {name for name in {*live, *node.output} if last.get(name, -1) > i}
        if len(live) == 1 or (not live and len(node.output) == 1):
            (after,) = live or node.output
            yield after, mine
            mine = []


class _Work:
    """What one block computes. Sessions are opened when the shape of its input is known."""

    def __init__(
        self,
        graph: Graph,
        nodes: list[onnx.NodeProto],
        given: str,
        output: str,
        weights: Mapping[str, Weight],
    ):
        self._graph, self._nodes, self._weights = graph, nodes, weights
        self._input, self._output = given, output
        order = {id(node): i for i, node in enumerate(graph.proto.graph.node)}
        self._places = [order[id(node)] for node in nodes]
        self._sessions: dict[Any, _Session] = {}

    def run(self, value: NDArray[Any], weights: Arrays) -> NDArray[Any]:
        feeds = {self._input: value, **self._in_file(weights)}
        session = self._session(tuple(feeds), self._running)
        output: NDArray[Any] = session(feeds)[0]
        return output

    def slopes(
        self, value: NDArray[Any], weights: Arrays, factor: NDArray[Any], offset: NDArray[Any]
    ) -> tuple[NDArray[Any], dict[str, NDArray[Any]]]:
        feeds = {self._input: value, **self._in_file(weights), FACTOR: factor, OFFSET: offset}
        session = self._session((tuple(weights), value.shape[1:]), self._learning)
        output, *found = session(feeds)
        named = zip(weights, found, strict=True)
        return output, {
            name: self._weights[name].layout.to_canonical(slope) for name, slope in named
        }

    def _in_file(self, weights: Arrays) -> dict[str, NDArray[np.float32]]:
        """As the nodes read them."""
        held = {self._weights[name]: array for name, array in weights.items()}
        return {
            weight.tensor: np.ascontiguousarray(weight.layout.to_file(array), np.float32)
            for weight, array in held.items()
        }

    def _session(self, key: tuple[Any, ...], new: Callable[..., _Session]) -> _Session:
        if key not in self._sessions:
            self._sessions[key] = new(*key)
        return self._sessions[key]

    def _running(self, *inputs: str) -> _Session:
        return _Session(self._piece(inputs), [self._output])

    def _piece(self, inputs: Sequence[str]) -> onnx.ModelProto:
        floats = {name: np.zeros(0, np.float32) for name in inputs}
        return piece(self._graph, self._places, floats, [self._output])

    def _learning(self, layers: tuple[str, ...], shape: tuple[int, ...]) -> _Session:
        """A session of the output and the slopes of these layers' weights."""
        tensors = [self._weights[name].tensor for name in layers]
        proto = self._piece((self._input, *tensors))
        slopes = Slopes(self._shapes(shape), _reached(self._nodes, tensors))
        scaled = slopes.emit("Mul", self._output, FACTOR)
        slopes.found[self._output] = slopes.emit("Add", scaled, OFFSET)
        slopes.back(self._nodes)
        results = [self._output, *(slopes.found[name] for name in tensors)]
        proto.graph.node.extend(slopes.nodes)
        proto.graph.initializer.extend(slopes.constants)
        for name in (FACTOR, OFFSET):
            proto.graph.input.append(onnx.helper.make_tensor_value_info(name, 1, None))
        del proto.graph.output[:]
        proto.graph.output.extend(onnx.ValueInfoProto(name=name) for name in results)
        return _Session(proto, results)

    def _shapes(self, shape: tuple[int, ...]) -> dict[str, tuple[int, ...]]:
        """Of all tensors of the block, on one sample."""
        names = [name for node in self._nodes for name in node.output if name]
        feeds = {self._input: np.zeros((1, *shape), np.float32)}
        proto = piece(self._graph, self._places, feeds, names)
        found = dict(zip(names, _Session(proto, names)(feeds), strict=True)) | feeds
        constants = self._graph.constants
        for name in {name for node in self._nodes for name in node.input if name}:
            if name not in found:
                found[name] = constants.read(name)
        return {name: array.shape for name, array in found.items()}


class _Session:
    def __init__(self, proto: onnx.ModelProto, outputs: list[str]):
        self._outputs = outputs
        self._session = open_session(proto.SerializeToString(), alone=False)

    def __call__(self, feeds: Arrays) -> list[Any]:
        try:
            given = {name: np.asarray(array) for name, array in feeds.items()}
            return list(self._session.run(self._outputs, given))
        except Exception as error:  # onnxruntime has a type of its own for each fault
            raise DataError(f"the model cannot run on this: {one_line(error)}") from None


def _obstacle(nodes: Sequence[onnx.NodeProto], tensors: Sequence[str]) -> str:
    """Why slopes cannot pass from the end to these tensors."""
    moving = _reached(nodes, tensors)
    met = [node for node in nodes if not moving.isdisjoint(node.output)]
    kinds = sorted({node.op_type for node in met if node.op_type not in RULES or node.domain})
    return f"no slope is known of {', '.join(kinds)}" if kinds else ""


def _reached(nodes: Sequence[onnx.NodeProto], tensors: Sequence[str]) -> set[str]:
    """What depends on these tensors, they among it."""
    found = set(tensors)
    for node in nodes:
        if not found.isdisjoint(node.input):
            found.update(node.output)
    return found
