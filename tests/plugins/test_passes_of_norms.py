"""Passes that go by what batch norms told: absorb_bias and bias_correction_analytic."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from onnx import helper, numpy_helper

import qsdk
from qsdk import registry
from qsdk.interfaces import Expected
from qsdk_plugins.onnx.model import OnnxModel
from qsdk_plugins.passes.bias_correction_analytic import clipped_mean

pytest.importorskip("onnxruntime")
RNG = np.random.default_rng(4)
X = RNG.standard_normal((64, 3, 6, 6)).astype(np.float32)


def floats(*shape: int) -> np.ndarray:
    return np.random.default_rng(sum(shape)).standard_normal(shape).astype(np.float32)


def pair(beta: float = 0.3, clip: str = "Relu", pads: int = 0, group: int = 1) -> OnnxModel:
    """conv, batch norm with a mean of ``beta`` deviations, clip, conv of kernel 3, folded."""
    weight, w2 = floats(4, 3, 1, 1), floats(4, 4 // group, 3, 3)
    conv = np.einsum("oc,nchw->nohw", weight[:, :, 0, 0], X)
    constants = {
        "w1": weight, "w2": w2, "b2": floats(4), "gamma": np.full(4, 0.7, np.float32),
        "beta": np.full(4, 0.7 * beta, np.float32), "mean": conv.mean(axis=(0, 2, 3)),
        "var": conv.var(axis=(0, 2, 3)), "low": np.float32(0), "high": np.float32(6),
    }  # fmt: skip
    bounds = ["low", "high"] if clip == "Clip" else []
    nodes = [
        helper.make_node("Conv", ["x", "w1"], ["c1"], name="c1"),
        helper.make_node("BatchNormalization", ["c1", "gamma", "beta", "mean", "var"], ["n1"]),
        helper.make_node(clip, ["n1", *bounds], ["r1"]),
        helper.make_node("Conv", ["r1", "w2", "b2"], ["y"], name="c2", group=group,
                         pads=[pads] * 4),
    ]  # fmt: skip
    kinds = onnx.TensorProto.FLOAT
    graph = helper.make_graph(
        nodes, "net",
        [helper.make_tensor_value_info("x", kinds, ("n", 3, 6, 6))],
        [helper.make_tensor_value_info("y", kinds, None)],
        [numpy_helper.from_array(np.asarray(a, np.float32), n) for n, a in constants.items()],
    )  # fmt: skip
    opsets = [helper.make_opsetid("", 17)]
    return OnnxModel(helper.make_model(graph, opset_imports=opsets, ir_version=8)).folded()


def run(model: OnnxModel, name: str = "y") -> np.ndarray:
    return model.run({"x": X}, [name])[name]


# -- absorb_bias


@pytest.mark.parametrize("clip", ["Relu", "Clip"])
@pytest.mark.parametrize("group", [1, 2])
def test_what_lies_above_c_comes_out_as_it_did(clip, group):
    model = pair(beta=7.0, clip=clip, group=group)
    absorbed = registry.get("absorb_bias", deviations=5.0).apply(model)
    first, second = absorbed.layers
    c = model.layers[0].bias - first.bias
    assert np.allclose(c, 2 * 0.7, atol=1e-4)  # beta less 5 deviations
    assert run(model, "n1").min() > c.max()  # what it is exact for
    assert np.allclose(run(absorbed), run(model), rtol=1e-4, atol=1e-4)
    assert not np.allclose(second.bias, model.layers[1].bias)
    assert run(absorbed, "r1").max() < run(model, "r1").max() - 1
    assert np.allclose(absorbed.expected["c1"].mean, model.expected["c1"].mean - c, atol=1e-5)


def test_nothing_is_absorbed_where_values_reach_zero_or_a_layer_pads():
    for model in (pair(beta=0.3), pair(beta=7.0, pads=1)):
        assert registry.get("absorb_bias").apply(model) is model
    without = OnnxModel(pair(beta=7.0).proto)  # another file, whose norms nobody remembers
    assert registry.get("absorb_bias").apply(without) is without


# -- bias_correction_analytic


@pytest.mark.parametrize(("low", "high"), [(None, None), (0.0, None), (0.0, 6.0), (-1.0, 0.5)])
def test_the_mean_of_clipped_normal_values_is_that_of_samples(low, high):
    told = Expected(
        mean=np.array([-2.0, 0.0, 0.4, 7.0, 1.5]), deviation=np.array([1, 2, 0.3, 3, 0])
    )
    values = told.mean + told.deviation * np.random.default_rng(1).standard_normal((400_000, 5))
    expected = values if low is None and high is None else np.clip(values, low, high)
    found = clipped_mean(told, low, high)
    assert np.allclose(found, expected.mean(axis=0), atol=0.015)


@pytest.mark.parametrize("group", [1, 2])
@pytest.mark.parametrize("clip", ["Relu", "Clip"])
def test_means_that_weights_shift_come_back(clip, group):
    model = pair(beta=1.0, clip=clip, group=group)
    quantized = qsdk.quantize_model(model, "rtn", bits=2).model
    corrected = registry.get("bias_correction_analytic").apply(quantized, reference=model)
    layer, before = corrected.layers[1], model.layers[1]
    moved = before.by_input(layer.weight.astype(np.float64) - before.weight).sum(axis=3)
    mean = run(model, "r1").mean(axis=(0, 2, 3)).reshape(len(moved), -1, 1)  # of samples
    expected = quantized.layers[1].bias - (moved @ mean).reshape(-1)
    assert np.allclose(layer.bias, expected, atol=0.05)
    assert np.abs(layer.bias - quantized.layers[1].bias).max() > 0.3
    assert np.array_equal(corrected.layers[0].bias, quantized.layers[0].bias)  # nothing is told


def test_a_model_corrected_against_itself_keeps_its_biases():
    model = pair()
    same = registry.get("bias_correction_analytic").apply(model, reference=model)
    assert np.array_equal(run(same), run(model))
