"""Small ONNX networks, one per kind of layer, each with its weight in (out, in, ...) order."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import attrs
import numpy as np
import onnx
from onnx import helper, numpy_helper

RNG = np.random.default_rng(7)


@attrs.frozen
class Case:
    """A network of one layer: how to build it, what to feed it, how its weight lies in the file.

    to_file : from (out, in, ...) to the file's layout, written out by hand for each operator
    """

    name: str
    operation: str
    inputs: dict[str, tuple[int, ...]]
    weight_shape: tuple[int, ...]  # in the file
    canonical_shape: tuple[int, ...]
    to_file: Callable[[np.ndarray], np.ndarray]
    attributes: dict[str, Any] = attrs.field(factory=dict)
    weight_index: int = 1
    more: dict[int, tuple[int, ...]] = attrs.field(factory=dict)
    indices: bool = False

    def feeds(self) -> dict[str, np.ndarray]:
        if self.indices:
            return {n: RNG.integers(0, self.weight_shape[0], s) for n, s in self.inputs.items()}
        return {n: RNG.standard_normal(s).astype(np.float32) for n, s in self.inputs.items()}


def same(weight: np.ndarray) -> np.ndarray:
    return weight


def grouped_transpose(weight: np.ndarray) -> np.ndarray:
    """(2 groups * 3 out, 2 in, 3, 3) to (2 * 2 in, 3 out, 3, 3)."""
    return np.concatenate([weight[:3].transpose(1, 0, 2, 3), weight[3:].transpose(1, 0, 2, 3)])


CASES = [
    Case("conv", "Conv", {"x": (2, 5, 6, 6)}, (7, 5, 3, 3), (7, 5, 3, 3), same),
    Case(
        "conv-grouped", "Conv", {"x": (2, 6, 6, 6)}, (4, 3, 3, 3), (4, 3, 3, 3), same, {"group": 2}
    ),
    Case(
        "conv-depthwise",
        "Conv",
        {"x": (1, 6, 5, 5)},
        (6, 1, 3, 3),
        (6, 1, 3, 3),
        same,
        {"group": 6},
    ),
    Case("conv-1d", "Conv", {"x": (2, 4, 9)}, (5, 4, 3), (5, 4, 3), same),
    Case("conv-3d", "Conv", {"x": (1, 2, 4, 4, 4)}, (3, 2, 2, 2, 2), (3, 2, 2, 2, 2), same),
    Case(
        "conv-transpose",
        "ConvTranspose",
        {"x": (1, 4, 5, 5)},
        (4, 3, 3, 3),
        (3, 4, 3, 3),
        lambda w: w.transpose(1, 0, 2, 3),
    ),
    Case(
        "conv-transpose-grouped",
        "ConvTranspose",
        {"x": (1, 4, 5, 5)},
        (4, 3, 3, 3),
        (6, 2, 3, 3),
        grouped_transpose,
        {"group": 2},
    ),
    Case("gemm", "Gemm", {"x": (3, 10)}, (10, 6), (6, 10), np.transpose),
    Case("gemm-transposed", "Gemm", {"x": (3, 10)}, (6, 10), (6, 10), same, {"transB": 1}),
    Case("matmul", "MatMul", {"x": (2, 3, 10)}, (10, 6), (6, 10), np.transpose),
    Case("matmul-left", "MatMul", {"x": (10, 3)}, (6, 10), (6, 10), same, {}, 0),
    Case("gather", "Gather", {"x": (2, 3)}, (11, 6), (11, 6), same, {}, 0, indices=True),
    Case(
        "lstm-both-directions",
        "LSTM",
        {"x": (4, 2, 5)},
        (2, 12, 5),
        (24, 5),
        lambda w: w.reshape(2, 12, 5),
        {"hidden_size": 3, "direction": "bidirectional"},
        more={2: (2, 12, 3)},
    ),
    Case(
        "gru",
        "GRU",
        {"x": (4, 2, 5)},
        (1, 9, 5),
        (9, 5),
        lambda w: w.reshape(1, 9, 5),
        {"hidden_size": 3},
        more={2: (1, 9, 3)},
    ),
]


def normal(shape: tuple[int, ...], seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


def model_of(
    case: Case, *, opset: int = 21, weight: np.ndarray | None = None, dtype: Any = np.float32
) -> onnx.ModelProto:
    """The network of a case, with ``weight`` (in the file's layout) or a random one."""
    weight = normal(case.weight_shape) if weight is None else weight
    names = ["x"]
    names.insert(case.weight_index, "w")
    tensors = [numpy_helper.from_array(np.ascontiguousarray(weight, dtype), "w")]
    for index, shape in case.more.items():
        names.insert(index, f"w{index}")
        tensors.append(numpy_helper.from_array(normal(shape, index).astype(dtype), f"w{index}"))
    node = helper.make_node(case.operation, names, ["y"], name="layer", **case.attributes)
    element = helper.np_dtype_to_tensor_dtype(np.dtype(np.int64 if case.indices else dtype))
    return build([node], tensors, case.inputs, opset, element=element)


def build(
    nodes: list[onnx.NodeProto],
    tensors: list[onnx.TensorProto],
    inputs: dict[str, tuple[int, ...]],
    opset: int = 21,
    *,
    outputs: tuple[str, ...] = ("y",),
    element: int = onnx.TensorProto.FLOAT,
) -> onnx.ModelProto:
    graph = helper.make_graph(
        nodes,
        "zoo",
        [helper.make_tensor_value_info(name, element, shape) for name, shape in inputs.items()],
        [onnx.ValueInfoProto(name=name) for name in outputs],
        tensors,
    )
    imports = [helper.make_opsetid("", opset)]
    ir_version = helper.find_min_ir_version_for(imports)
    model = helper.make_model(graph, opset_imports=imports, ir_version=max(ir_version, 8))
    inferred = onnx.shape_inference.infer_shapes(model, strict_mode=True)
    del model.graph.output[:]
    model.graph.output.extend(inferred.graph.output)
    onnx.checker.check_model(model, full_check=True)
    return model


def unseen(opset: int = 17) -> onnx.ModelProto:
    """What no other network has: Concat, MaxPool, no batch norm, asymmetric pads, two heads."""
    tensors = {
        "stem.w": normal((8, 3, 3, 3), 1),
        "stem.b": normal((8,), 2),
        "left.w": normal((6, 8, 1, 1), 3),
        "right.w": normal((6, 8, 5, 5), 4),
        "head.w": normal((12, 10), 5),
        "scores.w": normal((12, 4), 6),
    }
    make = helper.make_node
    asymmetric = {"pads": [0, 0, 1, 1], "strides": [2, 2]}
    nodes = [
        make("Conv", ["x", "stem.w", "stem.b"], ["s"], name="stem", **asymmetric),
        make("LeakyRelu", ["s"], ["sr"], alpha=0.1),
        make("MaxPool", ["sr"], ["p"], kernel_shape=[2, 2], strides=[1, 1], pads=[1, 0, 0, 1]),
        make("Conv", ["p", "left.w"], ["l"], name="left"),
        make("Conv", ["p", "right.w"], ["r"], name="right", pads=[2, 2, 2, 2]),
        make("Concat", ["l", "r"], ["c"], axis=1),
        make("GlobalAveragePool", ["c"], ["g"]),
        make("Flatten", ["g"], ["f"]),
        make("Gemm", ["f", "head.w"], ["y"], name="head"),
        make("MatMul", ["f", "scores.w"], ["z"], name="scores"),
    ]
    constants = [numpy_helper.from_array(array, name) for name, array in tensors.items()]
    return build(nodes, constants, {"x": (1, 3, 16, 16)}, opset, outputs=("y", "z"))
