"""A small network of two layers, for the contract kit."""

from __future__ import annotations

import numpy as np
import onnx
from onnx import helper, numpy_helper


def two_layers() -> onnx.ModelProto:
    """Conv with a batch norm and a clip behind it, Flatten, Gemm."""
    weight = np.linspace(-1, 1, 60, dtype=np.float32)
    constants = [
        numpy_helper.from_array(weight.reshape(5, 3, 2, 2), "conv.weight"),
        numpy_helper.from_array(weight[15:30].reshape(5, 3), "fc.weight"),
        numpy_helper.from_array(weight[:3], "fc.bias"),
    ]
    of_channels = {"gamma": 20, "beta": 30, "mean": 25, "var": 40}
    constants += [
        numpy_helper.from_array(weight[i : i + 5], name) for name, i in of_channels.items()
    ]
    constants += [
        numpy_helper.from_array(np.array(i, np.float32), name)
        for name, i in (("low", 0), ("high", 6))
    ]
    nodes = [
        helper.make_node("Conv", ["x", "conv.weight"], ["a"], name="conv"),
        helper.make_node("BatchNormalization", ["a", "gamma", "beta", "mean", "var"], ["n"]),
        helper.make_node("Clip", ["n", "low", "high"], ["r"]),
        helper.make_node("Flatten", ["r"], ["b"]),
        helper.make_node("Gemm", ["b", "fc.weight", "fc.bias"], ["y"], name="fc"),
    ]
    x = helper.make_tensor_value_info("x", onnx.TensorProto.FLOAT, ["n", 3, 2, 2])
    y = helper.make_tensor_value_info("y", onnx.TensorProto.FLOAT, ["n", 3])
    graph = helper.make_graph(nodes, "example", [x], [y], constants)
    opsets = [helper.make_opsetid("", 21)]
    return helper.make_model(graph, opset_imports=opsets, ir_version=10)
