"""Passes on small graphs: what they promise, worked out with numpy where it can be."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from onnx import helper, numpy_helper

import qsdk
from qsdk import registry
from qsdk.errors import DataError, OptionError, QsdkError
from qsdk.interfaces import Changes
from qsdk_plugins.onnx.model import OnnxModel

pytest.importorskip("onnxruntime")
rng = np.random.default_rng(0)


@pytest.fixture(autouse=True)
def the_same_numbers_in_any_order():
    """Whatever tests ran before: rng goes on from here."""
    rng.bit_generator.state = np.random.default_rng(0).bit_generator.state


def f32(array):
    return np.asarray(array, np.float32)


def normal(*shape):
    return f32(rng.standard_normal(shape))


def network(nodes, constants, outputs=("y",), x=("n", 4, 9, 9), opset=17):
    """A model of (operation, inputs, output, attributes), its input called x."""
    made = [
        helper.make_node(op, inputs.split(), [out], name=out, **words)
        for op, inputs, out, words in nodes
    ]
    floats = onnx.TensorProto.FLOAT
    graph = helper.make_graph(
        made,
        "net",
        [helper.make_tensor_value_info("x", floats, x)],
        [helper.make_tensor_value_info(name, floats, None) for name in outputs],
        [numpy_helper.from_array(np.asarray(array), name) for name, array in constants.items()],
    )
    proto = helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=8)
    return OnnxModel(proto)


def spread(channels):
    return f32(2.0 ** np.linspace(-4, 4, channels))


def convolutions(clip="Clip"):
    """conv, clip, depthwise conv with uneven padding, clip, pool, Gemm: channels far apart."""
    between = {"Clip": ("Clip", " low high"), "Relu": ("Relu", "")}[clip]
    nodes = [
        ("Conv", "x w1 b1", "c1", {"pads": [1, 1, 1, 1]}),
        (between[0], "c1" + between[1], "a1", {}),
        ("Conv", "a1 w2", "c2", {"group": 6, "pads": [0, 0, 1, 1], "strides": [2, 2]}),
        (between[0], "c2" + between[1], "a2", {}),
        ("GlobalAveragePool", "a2", "p", {}),
        ("Flatten", "p", "f", {}),
        ("Gemm", "f w3 b3", "y", {"transB": 1}),
    ]
    constants = {
        "w1": normal(6, 4, 3, 3) * spread(6)[:, None, None, None],
        "b1": normal(6),
        "w2": normal(6, 1, 3, 3) * rng.permutation(spread(6))[:, None, None, None],
        "w3": normal(3, 6),
        "b3": normal(3),
    }
    if clip == "Clip":
        constants |= {"low": f32(0), "high": f32(6)}
    return network(nodes, constants)


def ranges(model):
    return [layer.weight for layer in model.layers]


X = normal(5, 4, 9, 9) * 3


# -- links


def test_links_go_through_what_keeps_channels_apart():
    links = {link.first: link for link in convolutions().links}
    assert [(a, link.second) for a, link in links.items()] == [
        ("c1", "c2"), ("c2", "y"), ("y", None),
    ]  # fmt: skip
    assert [step.operation for step in links["c2"].steps] == [
        "Clip", "GlobalAveragePool", "Flatten",
    ]  # fmt: skip
    assert (links["c1"].steps[0].low, links["c1"].steps[0].high) == (0, 6)


def test_links_end_where_the_graph_branches_or_a_weight_is_shared():
    nodes = [
        ("Conv", "x w", "c1", {}),
        ("Relu", "c1", "a", {}),
        ("Conv", "a w", "c2", {}),
        ("Conv", "c2 v", "c3", {}),
        ("Add", "c2 c3", "y", {}),
    ]
    model = network(nodes, {"w": normal(4, 4, 1, 1), "v": normal(4, 4, 1, 1)})
    assert [(link.first, link.second) for link in model.links] == [("c3", None)]


# -- fold_batch_norm


def folded_pair(epsilon=1e-3):
    names = ("gamma", "beta", "mean", "variance")
    nodes = [
        ("Conv", "x w", "c", {"pads": [1, 1, 1, 1]}),
        ("BatchNormalization", "c gamma beta mean variance", "n", {"epsilon": epsilon}),
        ("Relu", "n", "y", {}),
    ]
    constants = {name: normal(6) for name in names} | {"w": normal(6, 4, 3, 3)}
    constants["variance"] = np.abs(constants["variance"]) + f32(0.1)
    return network(nodes, constants)


def test_a_folded_batch_norm_is_gone_and_the_outputs_are_the_same():
    model = folded_pair()
    folded = registry.get("fold_batch_norm").apply(model)
    assert [node.op_type for node in folded.proto.graph.node] == ["Conv", "Relu"]
    assert len(folded.proto.graph.initializer) == 2  # weight and bias
    assert np.allclose(folded.run({"x": X})["y"], model.run({"x": X})["y"], rtol=1e-4, atol=1e-4)
    assert len(model.proto.graph.node) == 3


def test_a_batch_norm_that_others_share_the_input_of_stays():
    model = folded_pair()
    model.proto.graph.output.append(onnx.ValueInfoProto(name="c"))
    model = OnnxModel(model.proto)
    folded = registry.get("fold_batch_norm").apply(model)
    assert "BatchNormalization" in [node.op_type for node in folded.proto.graph.node]


# -- equalize


@pytest.mark.parametrize("clip", ["Clip", "Relu"])
def test_equalized_outputs_are_the_same(clip):
    model = convolutions(clip)
    equalized = registry.get("equalize").apply(model)
    expected = model.run({"x": X})["y"]
    assert np.allclose(equalized.run({"x": X})["y"], expected, rtol=1e-4, atol=1e-4)


def test_equalized_channels_have_one_range_before_and_behind():
    equalized = registry.get("equalize").apply(convolutions())
    w1, w2, w3 = ranges(equalized)
    before, middle = (np.abs(w).max(axis=(1, 2, 3)) for w in (w1, w2))
    assert np.allclose(before, middle, rtol=1e-3)
    assert np.allclose(middle, np.abs(w3).max(axis=0), rtol=1e-3)


def test_two_layers_worked_by_hand():
    nodes = [("Gemm", "x w b", "h", {}), ("Relu", "h", "r", {}), ("Gemm", "r v", "y", {})]
    constants = {"w": f32([[8, 1]]), "b": f32([4, 3]), "v": f32([[2], [9]])}
    equalized = registry.get("equalize").apply(network(nodes, constants, x=("n", 1)))
    first, second = equalized.layers
    assert first.weight.ravel().tolist() == [4, 3] and second.weight.ravel().tolist() == [4, 3]
    assert first.bias.tolist() == [2, 9]  # divided by s = 2 and 1/3


def test_equalizing_twice_changes_nothing_more():
    once = registry.get("equalize").apply(convolutions())
    twice = registry.get("equalize").apply(once)
    for a, b in zip(ranges(once), ranges(twice), strict=True):
        assert np.allclose(a, b, rtol=1e-4)
    kinds = [node.op_type for node in twice.proto.graph.node]
    assert kinds.count("Min") == kinds.count("Relu") == 2 and "Clip" not in kinds


def test_a_clip_that_begins_above_zero_gets_both_bounds_for_each_channel():
    nodes = [
        ("Conv", "x w1", "c", {}),
        ("Clip", "c low high", "a", {}),
        ("Conv", "a w2", "y", {}),
    ]
    constants = {
        "w1": normal(6, 4, 1, 1) * spread(6)[:, None, None, None], "w2": normal(2, 6, 1, 1),
        "low": f32(-1), "high": f32(2),
    }  # fmt: skip
    model = network(nodes, constants)
    equalized = registry.get("equalize").apply(model)
    assert [n.op_type for n in equalized.proto.graph.node] == ["Conv", "Max", "Min", "Conv"]
    expected = model.run({"x": X})["y"]
    assert np.allclose(equalized.run({"x": X})["y"], expected, rtol=1e-4, atol=1e-4)


def test_channels_without_weights_are_left_alone():
    model = convolutions()
    weight = model.layers[0].weight.copy()
    weight[2] = 0
    model = model.changed(Changes(weights={"c1": weight}))
    equalized = registry.get("equalize").apply(model)
    assert not equalized.layers[0].weight[2].any()
    assert all(np.isfinite(w).all() for w in ranges(equalized))


def test_a_model_that_equalize_would_change_is_refused(monkeypatch):
    model = convolutions()
    kind = type(model)
    change = kind.changed
    monkeypatch.setattr(kind, "changed", lambda self, c: change(self, Changes(biases=c.biases)))
    with pytest.raises(QsdkError, match="equalize changed output 'y' by"):
        registry.get("equalize").apply(model)


def test_one_scale_per_tensor_gains_by_equalizing():
    model = convolutions("Relu")
    equalized = registry.get("equalize").apply(model)
    words = {"granularity": "per_tensor", "symmetric": True, "bits": 6}
    found = []
    for source in (model, equalized):
        quantized = qsdk.quantize_model(source, "rtn", **words).model
        sqnr = qsdk.metrics.sqnr_db(model.run({"x": X})["y"], quantized.run({"x": X})["y"])
        found.append(sqnr)
    assert found[1] > found[0] + 2


# -- bias_correction


def branched():
    """A residual block, a layer without a bias, a MatMul: all ways in which a bias is written."""
    nodes = [
        ("Conv", "x w1 b1", "c1", {"pads": [1, 1, 1, 1]}),
        ("Relu", "c1", "r1", {}),
        ("Conv", "r1 w2", "c2", {"pads": [1, 1, 1, 1]}),
        ("Add", "c2 r1", "s", {}),
        ("Shape", "s", "shape", {}),
        ("GlobalAveragePool", "s", "p", {}),
        ("Flatten", "p", "f", {}),
        ("MatMul", "f w3", "m", {}),
        ("Gemm", "m w4 b4", "g", {"beta": 0.5}),
        ("Cast", "shape", "sizes", {"to": 1}),
        ("ReduceMax", "sizes", "size", {"keepdims": 0}),
        ("Div", "g size", "y", {}),
    ]
    constants = {
        "w1": normal(6, 4, 3, 3), "b1": normal(6), "w2": normal(6, 6, 3, 3),
        "w3": normal(6, 5), "w4": normal(5, 3), "b4": normal(3),
    }  # fmt: skip
    return network(nodes, constants)


def batches(count=3):
    return [{"x": X[i % 5 : i % 5 + 2]} for i in range(count)]


def channel_means(model, name, axis):
    values = [np.moveaxis(model.run(feeds, [name])[name], axis, -1) for feeds in batches()]
    return np.mean([value.reshape(-1, value.shape[-1]).mean(axis=0) for value in values], axis=0)


def test_corrected_layers_have_the_means_of_the_float_model():
    model = branched()
    quantized = qsdk.quantize_model(model, "rtn", bits=2).model
    corrected = registry.get("bias_correction").apply(
        quantized, reference=model, calibration=batches()
    )
    for name, axis in (("c1", 1), ("c2", 1), ("m", -1), ("g", -1)):
        expected = channel_means(model, name, axis)
        assert np.allclose(channel_means(corrected, name, axis), expected, rtol=1e-4, atol=1e-4)
        assert not np.allclose(channel_means(quantized, name, axis), expected, rtol=1e-2)
    for old, new in zip(quantized.layers, corrected.layers, strict=True):
        assert old.stored == new.stored and np.array_equal(old.weight, new.weight)


def test_a_model_corrected_against_itself_keeps_its_biases():
    model = branched()
    same = registry.get("bias_correction").apply(model, reference=model, calibration=batches())
    assert np.array_equal(same.run({"x": X})["y"], model.run({"x": X})["y"])


def test_no_more_samples_are_read_than_asked_for():
    model = branched()
    quantized = qsdk.quantize_model(model, "rtn", bits=2).model
    read = []

    def stream():
        for feeds in batches():
            read.append(1)
            yield feeds

    few = registry.get("bias_correction", samples=3)
    corrected = few.apply(quantized, reference=model, calibration=stream())
    by_hand = registry.get("bias_correction").apply(
        quantized, reference=model, calibration=[{"x": X[:2]}, {"x": X[1:2]}]
    )
    assert len(read) == 2
    assert np.array_equal(corrected.run({"x": X})["y"], by_hand.run({"x": X})["y"])


def test_what_is_missing_is_named():
    model = branched()
    correct = registry.get("bias_correction")
    with pytest.raises(OptionError, match="bias_correction needs reference"):
        correct.apply(model, calibration=batches())
    with pytest.raises(DataError, match="no calibration batch"):
        correct.apply(model, reference=model)
    arrays = qsdk.load({"w": normal(3, 4)})
    with pytest.raises(OptionError, match="equalize needs graph, run"):
        registry.get("equalize").apply(arrays)


def test_changes_of_another_shape_are_refused():
    with pytest.raises(DataError, match=r"c1 takes an array of shape \(6,\), not \(5,\)"):
        branched().changed(Changes(biases={"c1": np.zeros(5)}))
