"""The operators between two layers of a graph, where each channel goes its own way."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

import numpy as np
import onnx
from numpy.typing import NDArray

from qsdk.interfaces import Expected, Link, Step
from qsdk_plugins.onnx.constants import attributes
from qsdk_plugins.onnx.graph import Graph, Weight
from qsdk_plugins.onnx.writing import names_read

# f(c x) = c f(x) for each channel and c > 0. Of the pools, zeros at the border change nothing.
HOMOGENEOUS = frozenset(
    {"Relu", "LeakyRelu", "Identity", "Dropout", "MaxPool", "AveragePool", "GlobalAveragePool",
     "GlobalMaxPool"}
)  # fmt: skip
BY_CHANNEL = frozenset({"Conv", "ConvTranspose", "Gemm"})  # channels are on axis 1 of their inputs


class Chains:
    """Follows each layer's output as long as there is one way only."""

    def __init__(self, graph: Graph):
        self.graph = graph
        outputs = {info.name for info in graph.proto.graph.output}
        self.users: dict[str, list[onnx.NodeProto]] = {name: [] for name in outputs}
        self.uses = Counter(outputs)
        for node in graph.proto.graph.node:
            for name in set(names_read(node)):
                self.users.setdefault(name, []).append(node)
                self.uses[name] += 1
        self.layers = {id(weight.node): weight for weight in graph.weights.values()}

    def links(self) -> list[Link]:
        return [
            self._link(weight)
            for weight in self.graph.weights.values()
            if weight.node.op_type in BY_CHANNEL and self._own(weight)
        ]

    def _own(self, weight: Weight) -> bool:
        """Whether nothing else uses the weight, nor what it is computed from."""
        root = self.graph.constants.root(weight.tensor)
        return self.uses[weight.tensor] == 1 and self.uses[root] == 1 and weight.slot == 1

    def _link(self, first: Weight) -> Link:
        name, steps = first.node.output[0], []
        channels, axes = first.layer.shape[0], len(first.layer.shape)
        while True:
            node = self._only_user(name)
            if node is None:
                second = None
                break
            second = self.layers.get(id(node))
            if second is not None:
                second = second if self._takes(second, name, channels) else None
                break
            step = self._step(node, name, channels, axes)
            if step is None:
                break
            steps.append(step)
            name, axes = step.output, step.axes
        return Link(
            first=first.layer.name,
            second=second.layer.name if second else None,
            steps=tuple(steps),
        )

    def _only_user(self, name: str) -> onnx.NodeProto | None:
        users = self.users.get(name, [])
        return users[0] if len(users) == 1 and self.uses[name] == 1 else None

    def _takes(self, second: Weight, name: str, channels: int) -> bool:
        """Whether each input channel of the layer is one channel of the tensor."""
        node, layer = second.node, second.layer
        groups = attributes(node).get("group", 1)
        return (
            node.op_type in BY_CHANNEL
            and node.input[0] == name
            and layer.shape[1] * groups == channels
            and not attributes(node).get("transA", 0)
            and self._own(second)
        )

    def _step(self, node: onnx.NodeProto, name: str, channels: int, axes: int) -> Step | None:
        """The step that a node is; None for others."""
        if node.domain not in ("", "ai.onnx") or not node.output:
            return None
        kind, output = node.op_type, node.output[0]
        words = attributes(node)
        if kind == "Flatten" and words.get("axis", 1) == 1:
            return Step(operation=kind, output=output, axes=2)
        if kind in HOMOGENEOUS and node.input[0] == name:
            return Step(operation=kind, output=output, axes=axes)
        constants = list(self._constants(node, name))
        if kind == "BatchNormalization" and _is_fixed(node, name) and len(constants) == 4:
            gamma, beta, mean, variance = (c for c in constants if c is not None)
            scale = gamma / np.sqrt(variance + words.get("epsilon", 1e-5))
            shift = beta - mean * scale
            told = Expected(mean=beta, deviation=np.abs(scale) * np.sqrt(variance))
            return Step(
                operation=kind, output=output, axes=axes, scale=scale, shift=shift, expected=told
            )
        if kind == "Clip" and node.input[0] == name and not node.attribute:
            low, high = [*constants, None, None][:2]
            if len(node.input) == 1 + len(constants):
                return Step(operation=kind, output=output, axes=axes, low=low, high=high)
        if kind in ("Min", "Max") and len(constants) == 1 and constants[0] is not None:
            bound = by_channel(constants[0], channels, axes)
            if bound is not None:
                low, high = (bound, None) if kind == "Max" else (None, bound)
                return Step(operation=kind, output=output, axes=axes, low=low, high=high)
        return None

    def _constants(self, node: onnx.NodeProto, name: str) -> Iterator[NDArray[np.float64] | None]:
        """The constant inputs beside ``name``, None for those left out; the others are missing."""
        for other in node.input:
            if not other:
                yield None
            elif other != name and self.graph.constants.slice(other) is not None:
                yield self.graph.constants.read(other).astype(np.float64)


def _is_fixed(norm: onnx.NodeProto, name: str) -> bool:
    """Whether a norm of ``name`` has the statistics that it is given, and tells of no others."""
    trains = attributes(norm).get("training_mode", 0) or any(norm.output[1:])
    return norm.input[0] == name and not trains


def by_channel(bound: NDArray[np.float64], channels: int, axes: int) -> NDArray[np.float64] | None:
    """A constant that is broadcast along all axes but the second, as () or (channels,)."""
    if bound.size == 1:
        return bound.reshape(())
    along = (channels, *(1,) * (axes - 2))
    return bound.reshape(channels) if bound.shape in (along, (1, *along)) else None
