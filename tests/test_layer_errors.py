"""A layer's own error: its parts worked by hand, and on networks whose fault is known."""

from __future__ import annotations

import math

import numpy as np
import onnx
import pytest
from onnx import helper, numpy_helper
from small_net import images, saved

import qsdk
from qsdk.interfaces import FixedCodes
from qsdk.layer_errors import code_errors, coded, grid_clipped, layer_errors

BATCHES = [images(8, seed) for seed in range(4)]


def quantized(folder, bits=8, **options):
    """(the float model as it was quantized, the quantized model)."""
    recipe = qsdk.Recipe(
        method="rtn", options={"bits": bits}, activations="minmax", activation_options=options
    )
    path = saved(folder)
    result = qsdk.quantize_model(path, recipe, calibration=BATCHES)
    return qsdk.load(path).folded(), result.model


def one_product(folder, weight):
    """``y = x @ weight.T``, as a model of one MatMul."""
    graph = helper.make_graph(
        [helper.make_node("MatMul", ["x", "w"], ["y"], name="fc")],
        "one",
        [helper.make_tensor_value_info("x", onnx.TensorProto.FLOAT, ["n", weight.shape[1]])],
        [helper.make_tensor_value_info("y", onnx.TensorProto.FLOAT, ["n", len(weight)])],
        [numpy_helper.from_array(np.ascontiguousarray(weight.T), "w")],
    )
    path = folder / "one.onnx"
    opsets = [helper.make_opsetid("", 17)]
    onnx.save(helper.make_model(graph, opset_imports=opsets, ir_version=8), path)
    return qsdk.load(path)


def test_parts_worked_by_hand(tmp_path):
    """Weight (2, 3) on the grid; inputs 1.4, 9, with codes of 2 bits: 0 to 3 in steps of 1."""
    before = one_product(tmp_path, np.float32([[2, 3]]))
    scheme = qsdk.Scheme(symmetric=True)
    weight = qsdk.Affine.from_codes(
        np.array([[2, 3]]), np.ones(1, np.float32), np.zeros(1, int), scheme
    )
    grid = qsdk.Scheme(bits=2, signed=False)
    codes = {"x": FixedCodes(scale=1, zero_point=0, scheme=grid)}
    after = before.with_encodings({"fc": weight}, {}, codes=codes)
    x = np.float32([[1.4, 9]])
    error = layer_errors(before, after, {"x": x})["fc"]
    signal = (2 * 1.4 + 3 * 9) ** 2  # 29.8; clipped 2 * 1.4 + 3 * 3 = 11.8; decoded 2 + 9 = 11
    assert error.clipping_db == pytest.approx(10 * math.log10(signal / 18**2), abs=1e-4)
    assert error.rounding_db == pytest.approx(10 * math.log10(signal / 0.8**2), abs=1e-4)
    assert error.sqnr_db == pytest.approx(10 * math.log10(signal / 18.8**2), abs=1e-4)
    assert error.clipped == 0.5 and error.cause == "clipping"
    assert error.saturation_db == math.inf and error.saturated == 0
    assert error.cosine == pytest.approx(1)  # of two numbers of one sign


def test_a_value_that_rounds_to_the_highest_code_is_not_clipped():
    scheme = qsdk.Scheme(signed=False)
    x = np.float32([255.4, 255.6, -0.5, -0.6, 7])
    clipped, count = grid_clipped(x, np.float32(1), np.int32(0), scheme)
    assert count == 2 and clipped.tolist() == np.float32([255.4, 255, -0.5, 0, 7]).tolist()


@pytest.mark.parametrize("zero_point", [0, 1, 100, 255])
def test_what_is_counted_is_what_leaves_the_grid(zero_point):
    """Card 1: saturation happens where ``rint(x / s) + z`` leaves the grid."""
    x = np.random.default_rng(0).normal(0, 3, 10_000).astype(np.float32)
    codes = FixedCodes(scale=0.02, zero_point=zero_point, scheme=qsdk.Scheme(signed=False))
    clipped, decoded, count = coded(x, codes)
    steps = np.rint(x / np.float32(0.02)) + zero_point
    assert count == ((steps < 0) | (steps > 255)).sum() > 0
    assert np.abs(decoded - clipped).max() <= 0.01 * (1 + 1e-4)  # half a step


def test_saturation_of_the_first_layer_is_found(tmp_path):
    weight = np.full((2, 8), 127, np.float32)
    weight[1] = 1
    before = one_product(tmp_path, weight)
    result = qsdk.quantize_model(
        before,
        qsdk.Recipe(method="rtn", activations="minmax", activation_options={"signed": False}),
        calibration=[np.full((4, 8), 255, np.float32)],
    )
    error = layer_errors(before, result.model, {"x": np.full((3, 8), 255, np.float32)})["fc"]
    assert error.cause == "saturation" and error.saturated == 1  # both rows have codes of 127
    assert error.saturation_db == pytest.approx(-20 * math.log10(1 - 32767 / 64770), abs=1e-3)


def test_fewer_bits_show_as_rounding_and_a_narrow_range_as_clipping(tmp_path):
    feeds = {"x": images(16, 9)}
    before, eight = quantized(tmp_path, 8)
    four = quantized(tmp_path, 4)[1]
    fine, coarse = (layer_errors(before, model, feeds) for model in (eight, four))
    assert list(fine) == [layer.name for layer in before.layers]
    for name, error in fine.items():
        assert error.rounding_db > coarse[name].rounding_db + 12
    wide = {"x": 8 * images(16, 9)}
    errors = layer_errors(before, eight, wide)
    assert errors["stem"].cause == "clipping" and errors["stem"].clipped > 0.1
    assert errors["stem"].sqnr_db < 12 < fine["stem"].sqnr_db


def test_errors_of_other_layers_have_no_part_in_it(tmp_path):
    before, _ = quantized(tmp_path)
    recipe = qsdk.Recipe(method="rtn", options={"bits": 2}, include=["stem"])
    after = qsdk.quantize_model(before, recipe).model
    errors = layer_errors(before, after, {"x": images(4)})
    assert list(errors) == ["stem"] and errors["stem"].sqnr_db < 15


def test_a_model_makes_no_error_against_itself(tmp_path):
    before, _ = quantized(tmp_path)
    assert layer_errors(before, before, {"x": images(2)}) == {}
    assert code_errors(before, before, {"x": images(2)}) == {}


def test_the_own_error_is_that_of_the_model_where_there_is_one_layer(tmp_path):
    weight = np.random.default_rng(0).normal(size=(6, 32)).astype(np.float32)
    before = one_product(tmp_path, weight)
    recipe = qsdk.Recipe(method="rtn", options={"bits": 7}, activations="minmax")
    x = np.random.default_rng(1).normal(size=(64, 32)).astype(np.float32)
    after = qsdk.quantize_model(before, recipe, calibration=[x]).model
    error = layer_errors(before, after, {"x": x})["fc"]
    y = [model.run({"x": x})["y"] for model in (before, after)]
    assert error.sqnr_db == pytest.approx(qsdk.metrics.sqnr_db(*y), abs=0.05)
    assert error.cosine == pytest.approx(qsdk.metrics.cosine(*y), abs=1e-5)


def test_codes_that_no_layer_reads_are_told_too(tmp_path):
    before, after = quantized(tmp_path)
    feeds = {"x": images(16, 9)}
    errors = code_errors(before, after, feeds)
    assert {"x", "b", "short", "sum_relu"} <= set(errors)  # b is read by an Add alone
    for name, error in errors.items():
        x = feeds["x"] if name == "x" else before.run(feeds, [name])[name]
        assert error.sqnr_db == pytest.approx(
            qsdk.metrics.sqnr_db(x, coded(x, after.codes[name])[1])
        )
        assert error.codes == "uint8" and 0 <= error.clipped < 0.05
