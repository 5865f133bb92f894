"""Codes that a file holds are found again: of weights, and of tensors between layers."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from small_net import images, saved

import qsdk
from qsdk.interfaces import Coding

BATCHES = [images(8, seed) for seed in range(2)]


def calibrated(folder, weight_bits=8, **activation_options):
    recipe = qsdk.Recipe(
        method="rtn",
        options={"bits": weight_bits},
        activations="minmax",
        activation_options=activation_options,
    )
    return qsdk.quantize_model(saved(folder), recipe, calibration=BATCHES)


@pytest.mark.parametrize("bits", range(2, 9))
@pytest.mark.parametrize("symmetric", [False, True])
def test_weights_come_back_as_the_encodings_that_were_written(tmp_path, bits, symmetric):
    model = qsdk.load(saved(tmp_path))
    quantizer = qsdk.registry.get("rtn", bits=bits, symmetric=symmetric)
    encodings = {layer.name: quantizer.quantize(layer.weight) for layer in model.layers}
    after = model.with_encodings(encodings, {})
    for layer in after.layers:
        found, given = layer.encoding, encodings[layer.name]
        assert np.array_equal(found.codes, given.codes)
        assert np.array_equal(found.dequantize(), layer.weight)
        assert found.scheme.granularity == "per_channel"


def test_a_width_without_a_type_is_taken_from_the_notes(tmp_path):
    model = calibrated(tmp_path, weight_bits=7).model
    assert {layer.encoding.scheme.bits for layer in model.layers} == {7}
    assert all(layer.stored == "int8 per_channel" for layer in model.layers)


def test_notes_that_the_codes_contradict_are_not_believed(tmp_path):
    model = calibrated(tmp_path, weight_bits=7).model
    noted = dict(model.metadata)
    noted["quantizers"][0]["options"]["scheme"]["bits"] = 3
    lying = model.with_encodings({}, noted)
    assert {layer.encoding.scheme.bits for layer in lying.layers} == {8}


@pytest.mark.parametrize("group_size", [16, 32])
def test_groups_of_a_matmul_come_back(tmp_path, group_size):
    weight = np.random.default_rng(0).normal(size=(64, 8)).astype(np.float32)
    graph = onnx.helper.make_graph(
        [onnx.helper.make_node("MatMul", ["x", "w"], ["y"], name="fc")],
        "one",
        [onnx.helper.make_tensor_value_info("x", onnx.TensorProto.FLOAT, ["n", 64])],
        [onnx.helper.make_tensor_value_info("y", onnx.TensorProto.FLOAT, ["n", 8])],
        [onnx.numpy_helper.from_array(weight, "w")],
    )
    opsets = [onnx.helper.make_opsetid("", 21)]
    onnx.save(
        onnx.helper.make_model(graph, opset_imports=opsets, ir_version=10), tmp_path / "m.onnx"
    )
    result = qsdk.quantize_model(tmp_path / "m.onnx", "rtn", bits=4, group_size=group_size)
    (layer,) = result.model.layers
    assert layer.encoding.scheme.group_size == group_size
    assert np.array_equal(layer.encoding.dequantize(), layer.weight)


@pytest.mark.parametrize(
    "options", [{"signed": False}, {"signed": True}, {"bits": 6}, {"bits": 4}, {"bits": 3}]
)
def test_codes_of_tensors_are_those_of_calibration(tmp_path, options):
    result = calibrated(tmp_path, **options)
    found = result.model.codes
    for name, codes in result.calibration.codes.items():
        assert found[name] == codes, name
    assert found["x"] == found["x_decoded"]


@pytest.mark.parametrize("bits", [4, 7])
def test_codes_of_fewer_bits_are_found_again_also_of_the_input(tmp_path, bits):
    recipe = qsdk.Recipe(activations="minmax", activation_options={"bits": bits})
    result = qsdk.quantize_model(saved(tmp_path), recipe, calibration=BATCHES)
    found = result.model.codes
    assert {name: found[name] for name in result.calibration.codes} == result.calibration.codes
    assert found["x"].scheme.bits == bits


def test_a_model_made_anew_from_what_it_holds_is_the_same(tmp_path):
    result = calibrated(tmp_path)
    before = result.model
    source = qsdk.load(saved(tmp_path)).folded()
    again = Coding.of(before).applied(source, before.metadata)
    assert list(again.proto.graph.node) == list(before.proto.graph.node)
    constants = ({c.name: c for c in m.proto.graph.initializer} for m in (again, before))
    assert next(constants) == next(constants)


def test_floats_have_no_codes(tmp_path):
    model = qsdk.load(saved(tmp_path))
    assert model.codes == {} and all(layer.encoding is None for layer in model.layers)


def test_a_container_gives_its_encodings(tmp_path):
    weights = {"fc": np.random.default_rng(0).normal(size=(4, 8)).astype(np.float32)}
    after = qsdk.quantize_model(qsdk.load(weights), "rtn", bits=3).model
    after.save(tmp_path / "q.safetensors")
    (layer,) = qsdk.load(tmp_path / "q.safetensors").layers
    assert str(layer.encoding.scheme) == "int3 per_channel"
    assert qsdk.load(weights).layers[0].encoding is None
