"""Passes of a recipe: what is done before quantization, what after it, and what they need."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from onnx import numpy_helper
from small_net import images, saved

import qsdk
from qsdk.errors import PreflightError
from qsdk.job import prepared

BATCHES = [images(16, seed) for seed in range(4)]
W3 = qsdk.Recipe(
    method="rtn", options={"bits": 3, "symmetric": True}, activations="minmax",
    activation_options={"bits": 8}, passes=["bias_correction"],
)  # fmt: skip


def means(model):
    """Of each output channel, over all of the data."""
    return np.concatenate([model.run({"x": x})["y"] for x in BATCHES]).mean(axis=0)


def without_passes(recipe):
    return qsdk.Recipe(**{**recipe.to_dict(), "passes": ()})


def test_corrected_outputs_have_the_means_of_the_float_network(tmp_path):
    path = saved(tmp_path)
    corrected = qsdk.quantize_model(path, W3, calibration=BATCHES)
    plain = qsdk.quantize_model(path, without_passes(W3), calibration=BATCHES)
    expected = means(qsdk.load(path))
    off = [np.abs(means(result.model) - expected).max() for result in (corrected, plain)]
    assert off[0] < off[1] / 4, off
    assert corrected.report.outputs[0].sqnr_db > plain.report.outputs[0].sqnr_db + 1


@pytest.mark.parametrize("has_bias", [True, False])
def test_corrected_biases_are_int32_in_steps_of_input_times_weight(has_bias, tmp_path):
    path = saved(tmp_path, bare=True)
    if not has_bias:
        proto = onnx.load(path)
        del next(node for node in proto.graph.node if node.name == "stem").input[2]
        path.write_bytes(proto.SerializeToString())
    proto = qsdk.quantize_model(path, "int8", calibration=BATCHES).model.proto
    onnx.checker.check_model(proto, full_check=True)
    made = {node.output[0]: node for node in proto.graph.node}
    held = {t.name: numpy_helper.to_array(t) for t in proto.graph.initializer}
    for node in proto.graph.node:
        if node.op_type in ("Conv", "Gemm"):
            data, weight, bias = (made[name].input for name in node.input)
            assert held[bias[0]].dtype == np.int32 and held[bias[0]].any()
            assert np.allclose(held[bias[1]], held[data[1]] * held[weight[1]], rtol=1e-6)


def test_files_and_models_in_memory_are_corrected_alike_and_again(tmp_path):
    path, out = saved(tmp_path), tmp_path / "out.onnx"
    result = qsdk.quantize_model(path, W3, calibration=BATCHES)
    qsdk.quantize_file(path, out, W3, calibration=BATCHES)
    first = out.read_bytes()
    qsdk.quantize_file(path, out, W3, calibration=BATCHES)
    assert out.read_bytes() == first
    feeds = {"x": images(3, 9)}
    assert np.array_equal(qsdk.load(out).run(feeds)["y"], result.model.run(feeds)["y"])
    assert qsdk.load(out).metadata["recipe"]["passes"] == ["bias_correction"]


def test_data_that_goes_by_once_is_enough(tmp_path):
    path = saved(tmp_path)
    whole = qsdk.quantize_model(path, W3, calibration=BATCHES)
    once = qsdk.quantize_model(path, W3, calibration=iter(BATCHES))
    assert np.allclose(means(once.model), means(whole.model), atol=1e-6)  # 64 rows were kept


def test_an_array_is_data_too(tmp_path):
    path, whole = saved(tmp_path), np.concatenate(BATCHES)
    made = qsdk.quantize_model(path, W3, calibration=whole)
    expected = qsdk.quantize_model(path, W3, calibration=[whole])
    assert np.array_equal(means(made.model), means(expected.model))


def test_passes_alone_take_the_data(tmp_path):
    recipe = qsdk.Recipe(method="rtn", options={"bits": 3}, passes=["bias_correction"])
    result = qsdk.quantize_model(saved(tmp_path), recipe, calibration=iter(BATCHES))
    assert result.calibration is None and result.report.outputs[0].rows == 64


def test_passes_before_quantization_change_what_is_quantized(tmp_path):
    path = saved(tmp_path)
    weights = {"bits": 5, "granularity": "per_tensor", "symmetric": True}
    names = ("fold_batch_norm", "equalize")
    recipe = qsdk.Recipe(method="rtn", options=weights, passes=names)
    after = qsdk.quantize_model(path, recipe).model
    by_hand = qsdk.load(path)
    for name in names:
        by_hand = qsdk.registry.get(name).apply(by_hand)
    expected = qsdk.quantize_model(by_hand, "rtn", **weights).model
    feeds = {"x": images(3, 9)}
    assert np.array_equal(after.run(feeds)["y"], expected.run(feeds)["y"])
    assert prepared(qsdk.load(path), recipe).fingerprint() == by_hand.fingerprint()


@pytest.mark.parametrize(
    ("passes", "message"),
    [
        (["bias_corection"], "no pass named 'bias_corection'; did you mean 'bias_correction'"),
        ([{"name": "equalize", "round": 3}], "did you mean 'rounds'"),
        (["bias_correction", "equalize"], "name equalize first"),
    ],
)
def test_passes_that_cannot_be_are_found_before_any_work(passes, message, tmp_path):
    recipe = qsdk.Recipe(activations="minmax", passes=passes)
    with pytest.raises(PreflightError, match=message):
        qsdk.quantize_model(saved(tmp_path), recipe, calibration=BATCHES)


def test_passes_that_lack_data_or_a_graph_say_so(tmp_path):
    recipe = qsdk.Recipe(passes=["bias_correction"])
    with pytest.raises(PreflightError, match="bias_correction needs data: give calibration"):
        qsdk.quantize_model(saved(tmp_path), recipe)
    arrays = {"w": np.ones((3, 4), np.float32)}
    with pytest.raises(PreflightError, match="equalize needs graph, run, which numpy lacks"):
        qsdk.quantize_model(arrays, qsdk.Recipe(passes=["equalize"]))
