"""A small network with what codes have to pass: batch norms, ReLU6, a residual, a concat, a pad."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import helper, numpy_helper

from qsdk_plugins.onnx.model import OnnxModel

CHANNELS = 4


def small_net(*, batch: int | str = "n", bare: bool = False) -> onnx.ModelProto:
    """Convs with batch norms, an Add, a Slice with a Pad beside it, a Concat, pooling, a Gemm.

    bare : without the norms
    """
    rng = np.random.default_rng(3)
    constants: list[onnx.TensorProto] = []
    nodes: list[onnx.NodeProto] = []

    def constant(name: str, values: Any) -> str:
        constants.append(numpy_helper.from_array(np.asarray(values), name))
        return name

    def normal(name: str, *shape: int) -> str:
        return constant(name, rng.normal(0, 0.4, shape).astype(np.float32))

    def add(operation: str, inputs: list[str], output: str, **words: Any) -> str:
        nodes.append(helper.make_node(operation, inputs, [output], name=f"{output}_node", **words))
        return output

    def conv(x: str, name: str, stride: int = 1) -> str:
        weight, bias = normal(f"{name}.weight", CHANNELS, CHANNELS, 3, 3), normal(f"{name}.bias", 4)
        out = f"{name}.conv" if not bare else name
        words = {"pads": [1, 1, 1, 1], "strides": [stride, stride]}
        nodes.append(helper.make_node("Conv", [x, weight, bias], [out], name=name, **words))
        if bare:
            return out
        scale = constant(f"{name}.gamma", rng.uniform(0.5, 2, CHANNELS).astype(np.float32))
        rest = [normal(f"{name}.beta", CHANNELS), normal(f"{name}.mean", CHANNELS)]
        spread = constant(f"{name}.var", rng.uniform(0.5, 2, CHANNELS).astype(np.float32))
        return add("BatchNormalization", [out, scale, *rest, spread], name, epsilon=1e-3)

    low, high = constant("low", np.float32(0)), constant("high", np.float32(6))
    stem = add("Clip", [conv("x", "stem"), low, high], "stem_relu6")
    down = conv(add("Relu", [conv(stem, "a")], "a_relu"), "b", stride=2)
    cut = [constant("starts", [0, 0]), constant("ends", [99, 99])]
    cut += [constant("axes", [2, 3]), constant("steps", [2, 2])]
    short = add("Pad", [add("Slice", [stem, *cut], "cut"), constant("pads", [0] * 8)], "short")
    sum_ = add("Relu", [add("Add", [down, short], "sum")], "sum_relu")
    both = add("Concat", [sum_, conv(sum_, "c")], "both", axis=1)
    flat = add("Flatten", [add("GlobalAveragePool", [both], "pooled")], "flat")
    fc = [normal("fc.weight", 5, 2 * CHANNELS), normal("fc.bias", 5)]
    nodes.append(helper.make_node("Gemm", [flat, *fc], ["y"], name="fc", transB=1))
    graph = helper.make_graph(
        nodes,
        "small",
        [helper.make_tensor_value_info("x", onnx.TensorProto.FLOAT, [batch, CHANNELS, 8, 8])],
        [helper.make_tensor_value_info("y", onnx.TensorProto.FLOAT, [batch, 5])],
        constants,
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


def saved(folder: Path, **words: Any) -> Path:
    path = folder / "small.onnx"
    path.write_bytes(small_net(**words).SerializeToString())
    return path


def fitted(proto: onnx.ModelProto, x: np.ndarray) -> onnx.ModelProto:
    """The network with batch norms that tell what its layers make of x, as after training."""
    held = {tensor.name: tensor for tensor in proto.graph.initializer}
    for name in ("stem", "a", "b", "c"):
        (y,) = OnnxModel(proto).run({"x": x}, [f"{name}.conv"]).values()
        for word, values in (("mean", y.mean(axis=(0, 2, 3))), ("var", y.var(axis=(0, 2, 3)))):
            tensor = held[f"{name}.{word}"]
            tensor.CopyFrom(numpy_helper.from_array(values, tensor.name))
    return proto


def images(count: int, seed: int = 0) -> np.ndarray:
    shape = (count, CHANNELS, 8, 8)
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)
