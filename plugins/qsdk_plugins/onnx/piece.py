"""A part of a graph as a model of its own."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray

from qsdk_plugins.onnx.graph import Graph
from qsdk_plugins.onnx.skeleton import copy_head, is_external, set_inside
from qsdk_plugins.onnx.writing import names_read

Arrays = Mapping[str, NDArray[Any]]


def piece(graph: Graph, nodes: list[int], feeds: Arrays, outputs: list[str]) -> onnx.ModelProto:
    """These nodes as a model of their own, with the constants that they read.

    feeds : its inputs, each of the type that the array has, also where it was a constant
    """
    every = graph.proto.graph.node
    chosen = _with_constants(graph, (every[i] for i in nodes), feeds)
    used = {name for node in chosen for name in names_read(node)} | set(outputs)
    proto = onnx.ModelProto()
    copy_head(graph.proto, proto)
    proto.graph.node.extend(node for node in chosen if not used.isdisjoint(node.output))
    constants = graph.constants
    held = sorted((used & constants.initializers.keys()) - constants.producers.keys() - {*feeds})
    proto.graph.initializer.extend(constants.initializers[name] for name in held)
    for tensor in proto.graph.initializer:
        if is_external(tensor):
            set_inside(tensor, graph.constants.reader.external_bytes(tensor))
    for name, array in feeds.items():
        kind = onnx.helper.np_dtype_to_tensor_dtype(np.asarray(array).dtype)
        proto.graph.input.append(onnx.helper.make_tensor_value_info(name, kind, None))
    proto.graph.output.extend(onnx.ValueInfoProto(name=name) for name in outputs)
    return proto


def _with_constants(
    graph: Graph, nodes: Iterable[onnx.NodeProto], feeds: Arrays
) -> list[onnx.NodeProto]:
    """The nodes, each behind those that compute from constants what it reads; no feed is made."""
    found: dict[str, onnx.NodeProto] = {}

    def take(node: onnx.NodeProto) -> None:
        if node.output[0] in found or node.output[0] in feeds:
            return
        for name in names_read(node):
            if name in graph.constants.fixed and name in graph.constants.producers:
                take(graph.constants.producers[name])
        found[node.output[0]] = node

    for node in nodes:
        take(node)
    return list(found.values())
