"""Blocks of an ONNX model: where they are cut, what they compute, slopes against differences."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from onnx import helper, numpy_helper
from small_net import small_net

from qsdk.errors import DataError
from qsdk_plugins.onnx.model import OnnxModel

pytest.importorskip("onnxruntime")
rng = np.random.default_rng(0)


def normal(*shape):
    return rng.standard_normal(shape).astype(np.float32)


def network(nodes, constants, shape, opset=17):
    """One input ``x``, the last node's output."""
    x = helper.make_tensor_value_info("x", 1, ["n", *shape])
    y = onnx.ValueInfoProto(name=nodes[-1].output[0])
    held = [numpy_helper.from_array(np.asarray(a), name) for name, a in constants.items()]
    graph = helper.make_graph(nodes, "g", [x], [y], held)
    proto = helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=8)
    return OnnxModel(onnx.shape_inference.infer_shapes(proto))


def node(operation, inputs, output, **words):
    return helper.make_node(operation, inputs.split(), [output], name=f"{output}_node", **words)


# What follows a first convolution "c" of 4 channels and 6 x 6 places, with its constants.
BEHIND = {
    "nothing": ([], {}),
    "relu": ([node("Relu", "c", "y")], {}),
    "clip": ([node("Clip", "c low high", "y")], {"low": np.float32(-1), "high": np.float32(0.5)}),
    "leaky": ([node("LeakyRelu", "c", "y", alpha=0.3)], {}),
    "sigmoid": ([node("Sigmoid", "c", "y")], {}),
    "norm": (
        [node("BatchNormalization", "c g b m v", "y", epsilon=0.1)],
        {"g": normal(4), "b": normal(4), "m": normal(4), "v": np.float32([1, 2, 3, 0.5])},
    ),
    "add": ([node("Relu", "c", "r"), node("Add", "r c", "y")], {}),
    "sub": ([node("Relu", "c", "r"), node("Sub", "r c", "y")], {}),
    "mul": ([node("Sigmoid", "c", "s"), node("Mul", "s c", "y")], {}),
    "div": ([node("Div", "c half", "y")], {"half": np.float32(0.5)}),
    "concat": ([node("Relu", "c", "r"), node("Concat", "x r c", "y", axis=1)], {}),
    "mean": ([node("GlobalAveragePool", "c", "y")], {}),
    "transpose": ([node("Transpose", "c", "y", perm=[0, 2, 3, 1])], {}),
    "gemm": (
        [node("Flatten", "c", "f"), node("Gemm", "f w b", "y", transB=1, alpha=0.5)],
        {"w": normal(3, 144), "b": normal(3)},
    ),
    "gemm, columns": ([node("Flatten", "c", "f"), node("Gemm", "f w", "y")], {"w": normal(144, 3)}),
    "matmul": (
        [node("Transpose", "c", "t", perm=[0, 2, 3, 1]), node("MatMul", "t w", "y")],
        {"w": normal(4, 5)},
    ),
    "conv": ([node("Conv", "c w", "y", pads=[1, 1, 1, 1])], {"w": normal(2, 4, 3, 3)}),
    "conv, stride": ([node("Conv", "c w", "y", strides=[2, 3])], {"w": normal(2, 4, 3, 2)}),
    "conv, dilated": (
        [node("Conv", "c w", "y", dilations=[2, 1], pads=[0, 1, 2, 3])],
        {"w": normal(2, 4, 3, 3)},
    ),
    "conv, groups": (
        [node("Conv", "c w", "y", group=2, strides=[2, 2])],
        {"w": normal(6, 2, 3, 3)},
    ),
    "depthwise": (
        [node("Conv", "c w", "y", group=4, strides=[2, 1], pads=[1, 1, 1, 1])],
        {"w": normal(4, 1, 3, 3)},
    ),
}


def first_conv(behind):
    nodes, constants = BEHIND[behind]
    conv = node("Conv", "x k", "c", pads=[1, 1, 1, 1])
    return network([conv, *nodes], {"k": normal(4, 2, 3, 3), **constants}, (2, 6, 6))


def joined(model):
    """All of a model as one number-making function of its weights, by going through its blocks."""
    layers = {layer.name: layer.weight for layer in model.layers}

    def run(x, weights):
        for block in model.blocks():
            x = block.run(x, {name: weights[name] for name in block.layers})
        return x

    return layers, run


@pytest.mark.parametrize("behind", BEHIND)
def test_slopes_are_those_of_differences(behind):
    model = first_conv(behind)
    x = normal(3, 2, 6, 6)
    for block in model.blocks():
        assert not block.obstacle
        weights = {la.name: la.weight for la in model.layers if la.name in block.layers}
        output = block.run(x, weights)
        factor, offset = np.float32(0.5), normal(*output.shape)
        found, slopes = block.slopes(x, weights, factor, offset)
        assert np.allclose(found, output, atol=1e-5)
        for name, weight in weights.items():
            direction = normal(*weight.shape)
            step = 2e-3
            ends = [
                block.run(x, {**weights, name: weight + sign * step * direction}).astype(float)
                for sign in (1, -1)
            ]
            slope = (ends[0] - ends[1]) / (2 * step)
            expected = ((0.5 * output + offset) * slope).sum()
            size = np.linalg.norm(slopes[name]) * np.linalg.norm(direction)
            assert abs((slopes[name] * direction).sum() - expected) < 4e-3 * size, name
        x = output


def test_blocks_end_where_one_tensor_goes_on_and_before_the_next_layer():
    model = OnnxModel(small_net(bare=True))
    found = [(block.layers, block.input, block.output) for block in model.blocks()]
    assert found == [
        (("stem",), "x", "stem_relu6"),
        (("a", "b"), "stem_relu6", "sum_relu"),
        (("c",), "sum_relu", "flat"),
        (("fc",), "flat", "y"),
    ]


def test_blocks_one_after_the_other_are_the_model():
    model = OnnxModel(small_net())
    (name,) = model.inputs
    x = normal(*model.blank(5)[name].shape)
    value = x
    for block in model.blocks():
        value = block.run(value, {})
    assert np.allclose(value, model.run({name: x})["y"], atol=1e-5)


def test_an_operator_without_a_slope_is_said_where_it_is_in_the_way():
    nodes = [
        node("Conv", "x k", "c"),
        node("Softmax", "c", "s", axis=1),
        node("Add", "s x", "y"),
        node("Conv", "y l", "d"),
        node("MaxPool", "d", "z", kernel_shape=[2, 2]),
    ]
    model = network(nodes, {"k": normal(2, 2, 1, 1), "l": normal(3, 2, 1, 1)}, (2, 6, 6))
    found = {block.layers: block.obstacle for block in model.blocks()}
    assert found == {("c_node",): "no slope is known of Softmax", ("d_node",): "", (): ""}


def test_a_model_of_two_inputs_has_no_blocks():
    proto = network([node("Conv", "x k", "c")], {"k": normal(4, 2, 3, 3)}, (2, 6, 6)).proto
    proto.graph.input.append(helper.make_tensor_value_info("other", 1, [1]))
    with pytest.raises(DataError, match=r"inputs \['x', 'other'\] has no blocks; one is needed"):
        OnnxModel(proto).blocks()


def test_other_weights_take_the_place_of_the_models():
    model = first_conv("gemm, columns")
    x, (layers, run) = normal(2, 2, 6, 6), joined(model)
    assert np.allclose(run(x, layers), model.run({"x": x})["y"], atol=1e-4)
    halved = {name: weight / 2 for name, weight in layers.items()}
    assert np.allclose(run(x, halved), model.run({"x": x})["y"] / 4, atol=1e-4)
