"""Batch norms folded into the layers before them.

With sigma = sqrt(var + eps): ``W' = (gamma / sigma) W`` per output channel and
``b' = beta + (gamma / sigma) (b - mean)``. Source: Jacob et al. 2018, arXiv:1712.05877, sec. 3.2.
"""

from __future__ import annotations

import attrs
import numpy as np
import onnx
import onnx.helper
import onnx.numpy_helper
from numpy.typing import NDArray

from qsdk_plugins.onnx.coded_inputs import operation_of
from qsdk_plugins.onnx.constants import attributes
from qsdk_plugins.onnx.graph import Graph, Weight
from qsdk_plugins.onnx.sites import Flow
from qsdk_plugins.onnx.skeleton import copy_model
from qsdk_plugins.onnx.writing import drop_unused, fresh_names

INTO = frozenset({"Conv", "ConvTranspose", "Gemm"})
EPSILON = 1e-5  # that BatchNormalization has where it says nothing


@attrs.frozen(eq=False)
class Fold:
    """A layer with the batch norm that alone reads its result.

    factor, shift : of the norm, ``y = factor * x + shift`` per channel, doubles
    """

    weight: Weight
    norm: onnx.NodeProto
    factor: NDArray[np.float64]
    shift: NDArray[np.float64]


def folds(graph: Graph) -> list[Fold]:
    """What can be folded: all is known beforehand, and nobody else reads what lies between."""
    flow = Flow(graph.proto, graph.constants)
    by_output = {w.node.output[0]: w for w in graph.weights.values() if _is_foldable(graph, w)}
    found = []
    for norm in graph.proto.graph.node:
        weight = by_output.get(norm.input[0]) if norm.input else None
        if operation_of(norm) != "BatchNormalization" or weight is None:
            continue
        between = norm.input[0]
        alone = len(flow.readers[between]) == 1 and between not in flow.outputs | flow.inside
        known = all(graph.constants.slice(name) is not None for name in norm.input[1:5])
        training = attributes(norm).get("training_mode", 0)
        if alone and known and not training and not any(norm.output[1:]):
            found.append(Fold(weight, norm, *_affine(graph, norm)))
    return found


def _is_foldable(graph: Graph, weight: Weight) -> bool:
    words, node = attributes(weight.node), weight.node
    plain = words.get("alpha", 1.0) == 1 and words.get("beta", 1.0) == 1
    bias = node.input[2] if len(node.input) > 2 else ""
    return (
        weight.layer.operation in INTO
        and weight.slot == 1
        and weight.layer.stored == "float32"
        and plain
        and graph.constants.slice(bias) is not None
    )


def _affine(graph: Graph, norm: onnx.NodeProto) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    gamma, beta, mean, variance = (
        graph.constants.read(name).astype(np.float64) for name in norm.input[1:5]
    )
    factor = gamma / np.sqrt(variance + attributes(norm).get("epsilon", EPSILON))
    return factor, beta - factor * mean


def folded(graph: Graph) -> onnx.ModelProto | None:
    """The model without the norms that fold; None where there are none."""
    found = folds(graph)
    if not found:
        return None
    norms = {fold.norm.output[0] for fold in found}
    proto = onnx.ModelProto()
    copy_model(graph.proto, proto, lambda field, name: field != "node" or name not in norms)
    nodes = {node.output[0]: node for node in proto.graph.node if node.output}
    fresh = fresh_names(proto)
    for fold in found:
        node = nodes[fold.weight.node.output[0]]
        weight, bias = _new_values(graph, fold)
        names = [fresh(f"{fold.weight.tensor}_folded"), fresh(f"{node.output[0]}_bias")]
        inputs = [node.input[0], *names]
        del node.input[:]
        node.input.extend(inputs)
        node.output[0] = fold.norm.output[0]
        for name, values in zip(names, (weight, bias), strict=True):
            proto.graph.initializer.append(onnx.numpy_helper.from_array(values, name))
    drop_unused(graph.proto, proto)
    return proto


def _new_values(graph: Graph, fold: Fold) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    weight, node = fold.weight, fold.weight.node
    old = weight.layer.weight.astype(np.float64)
    per_channel = fold.factor.reshape(-1, *[1] * (old.ndim - 1))
    scaled = weight.layout.to_file((old * per_channel).astype(np.float32))
    has_bias = len(node.input) > 2 and node.input[2]
    bias = graph.constants.read(node.input[2]).astype(np.float64) if has_bias else 0.0
    shifted = (np.broadcast_to(bias, fold.shift.shape) * fold.factor + fold.shift).astype("f4")
    return np.ascontiguousarray(scaled), shifted
