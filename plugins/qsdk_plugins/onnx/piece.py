"""A part of a graph as a model of its own."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray

from qsdk_plugins.onnx.graph import Graph
from qsdk_plugins.onnx.skeleton import copy_model, is_external, set_inside
from qsdk_plugins.onnx.writing import names_read

Arrays = Mapping[str, NDArray[Any]]


def piece(graph: Graph, nodes: list[int], feeds: Arrays, outputs: list[str]) -> onnx.ModelProto:
    """These nodes as a model of their own, with the constants that they read.

    feeds : its inputs, each of the type that the array has, also where it was a constant
    """
    every = graph.proto.graph.node
    fixed = [i for i, node in enumerate(every) if graph.constants.fixed.issuperset(node.output)]
    chosen = [every[i] for i in sorted({*nodes, *fixed})]
    used = {name for node in chosen for name in names_read(node)} | set(outputs)
    makes = {name for node in chosen for name in node.output} & (used | set(outputs))
    proto = onnx.ModelProto()
    copy_model(
        graph.proto,
        proto,
        lambda field, name: (
            (field == "node" and name in makes and name not in feeds)
            or (field == "initializer" and name in used and name not in feeds)
        ),
    )
    for tensor in proto.graph.initializer:
        if is_external(tensor):
            set_inside(tensor, graph.constants.reader.external_bytes(tensor))
    for name, array in feeds.items():
        kind = onnx.helper.np_dtype_to_tensor_dtype(np.asarray(array).dtype)
        proto.graph.input.append(onnx.helper.make_tensor_value_info(name, kind, None))
    proto.graph.output.extend(onnx.ValueInfoProto(name=name) for name in outputs)
    return proto
