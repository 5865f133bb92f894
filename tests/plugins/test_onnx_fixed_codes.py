"""Fixed codes in ONNX files: what onnxruntime computes in integers, and that it is right."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import numpy as np
import onnx
import onnx.version_converter
import onnxruntime
import pytest
from onnx import numpy_helper
from onnx.reference import ReferenceEvaluator
from small_net import images, saved

import qsdk
from qsdk.interfaces import FixedCodes

BATCHES = [images(8, seed) for seed in range(4)]
# 7 bits: on CPUs without VNNI onnxruntime adds pairs of 8-bit products in 16 bits, and saturates.
RECIPE = qsdk.Recipe(method="rtn", options={"bits": 7}, activations="minmax")


def quantized(folder: Path, recipe: qsdk.Recipe = RECIPE) -> qsdk.Result:
    return qsdk.quantize_model(saved(folder), recipe, calibration=BATCHES)


def fused(model: onnx.ModelProto, folder: Path) -> Counter[str]:
    """Operators that onnxruntime runs."""
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    options.add_session_config_entry("session.qdqisint8allowed", "1")  # else S8 becomes U8, in part
    options.optimized_model_filepath = str(folder / "optimized.onnx")
    onnxruntime.InferenceSession(model.SerializeToString(), options)
    return Counter(node.op_type for node in onnx.load(folder / "optimized.onnx").graph.node)


@pytest.mark.parametrize("signed", [False, True])
def test_onnxruntime_computes_all_in_integers(signed, tmp_path):
    options = {"signed": signed}
    recipe = qsdk.Recipe(
        method="rtn", options={"bits": 8}, activations="minmax", activation_options=options
    )
    found = fused(quantized(tmp_path, recipe).model.proto, tmp_path)
    assert found["QLinearConv"] == 4 and found["Conv"] == 0
    assert found["QGemm"] == 1 and found["Gemm"] == 0
    assert found["QLinearAdd"] == 1 and found["Add"] == 0
    assert found["QLinearConcat"] + found["Concat"] == 1
    assert found["QLinearGlobalAveragePool"] == 1
    assert found["Relu"] == found["Clip"] == 0
    assert found["QuantizeLinear"] == 1 + signed  # of the input, and of a Pad of signed codes


def test_integers_and_the_reference_evaluator_agree(tmp_path):
    result = quantized(tmp_path)
    feeds = {"x": images(16, 9)}
    newer = onnx.version_converter.convert_version(result.model.proto, 21)
    (expected,) = ReferenceEvaluator(newer).run(None, feeds)
    step = max(codes.scale for codes in result.calibration.codes.values())
    # One step of the last codes moves an output by about as much; more would be another value.
    assert np.abs(result.model.run(feeds)["y"] - expected).max() < step


def test_the_result_is_near_the_float_model(tmp_path):
    result = quantized(tmp_path)
    (check,) = result.report.outputs
    assert check.rows == 32 and check.sqnr_db > 25 and check.agreement > 0.9
    model, feeds = qsdk.load(tmp_path / "small.onnx"), {"x": images(64, 9)}
    assert qsdk.metrics.sqnr_db(model.run(feeds)["y"], result.model.run(feeds)["y"]) > 25


def test_sites_join_what_only_moves_values(tmp_path):
    model = qsdk.load(saved(tmp_path)).folded()
    sites = {site.name: site for site in model.sites([layer.name for layer in model.layers])}
    assert sites["stem_relu6"].tensors == ("stem_relu6", "cut", "short")
    assert sites["stem_relu6"].watched == ("stem_relu6",)
    assert sites["sum_relu"].tensors == ("sum_relu",)  # c has no Relu: no codes for both
    assert sites["both"].watched == ("both",)
    assert sites["pooled"].tensors == ("pooled", "flat")
    assert sites["x"].layers == ("stem",)
    assert "y" not in sites and "sum" not in sites


def test_layers_left_in_float_get_no_codes(tmp_path):
    model = qsdk.load(saved(tmp_path)).folded()
    (site,) = model.sites(["stem"])[:1]
    assert site.name == "x"
    found = {site.name: site.watched for site in model.sites(["fc"])}
    assert found == {"both": ("both",), "pooled": ("pooled",)}


def test_layers_that_compute_in_floats_get_codes_for_their_inputs_alone(tmp_path):
    model = qsdk.load(saved(tmp_path)).folded()
    layers = [layer.name for layer in model.layers]
    inputs = {site.name for site in model.sites(layers, floats=layers)}
    assert inputs == {"x", "stem_relu6", "a_relu", "sum_relu", "flat"}
    mixed = {site.name for site in model.sites(layers, floats=["stem"])}
    assert mixed == {site.name for site in model.sites(layers)}  # others' codes go on to it


def test_codes_of_four_bits_are_of_the_inputs_of_layers(tmp_path):
    recipe = qsdk.Recipe(activations="minmax", activation_options={"bits": 4, "signed": False})
    result = qsdk.quantize_model(saved(tmp_path), recipe, calibration=[images(32)])
    assert "x" in result.calibration.codes and "both" not in result.calibration.codes


def test_a_coded_tensor_keeps_its_name_for_the_decoded_values(tmp_path):
    result = quantized(tmp_path)
    codes = result.calibration.codes["a_relu"]
    value = result.model.run({"x": images(2)}, ["a_relu"])["a_relu"]
    steps = value / codes.scale
    assert np.allclose(steps, np.rint(steps), atol=1e-3)
    assert value.min() >= 0 and value.max() <= codes.high * (1 + 1e-6)


def test_biases_are_int32_in_steps_of_input_times_weight(tmp_path):
    result = quantized(tmp_path)
    constants = {t.name: t for t in result.model.proto.graph.initializer}
    name = next(name for name in constants if "stem.bias" in name and name.endswith("_codes"))
    codes = numpy_helper.to_array(constants[name])
    scale = numpy_helper.to_array(constants[name.replace("_codes", "_scale")])
    assert codes.dtype == np.int32
    input_scale = result.calibration.codes["x"].scale
    weight = next(n for n in constants if "stem" in n and n.endswith("weight_scale"))
    assert np.allclose(scale, input_scale * numpy_helper.to_array(constants[weight]), rtol=1e-6)


def test_a_channel_that_is_small_beside_its_bias_keeps_the_bias(tmp_path):
    path = saved(tmp_path, bare=True)
    proto = onnx.load(path)
    weight = next(t for t in proto.graph.initializer if t.name == "fc.weight")
    values = numpy_helper.to_array(weight).copy()
    values[2] *= 1e-12
    weight.CopyFrom(numpy_helper.from_array(values, "fc.weight"))
    path.write_bytes(proto.SerializeToString())
    result = qsdk.quantize_model(path, RECIPE, calibration=BATCHES)
    feeds = {"x": images(4, 5)}
    expected = qsdk.load(path).run(feeds)["y"][:, 2]
    assert np.allclose(result.model.run(feeds)["y"][:, 2], expected, atol=1e-4)


@pytest.mark.parametrize(("bits", "least_db"), [(8, 25), (6, 20), (4, 6)])
def test_codes_of_fewer_bits_stay_on_their_grid(bits, least_db, tmp_path):
    recipe = qsdk.Recipe(
        method="rtn",
        options={"bits": 8},
        activations="minmax",
        activation_options={"bits": bits, "signed": True},
    )
    result = quantized(tmp_path, recipe)
    codes = result.calibration.codes["stem_relu6"]
    values = result.model.run({"x": 20 * images(4)}, ["stem_relu6"])["stem_relu6"]
    levels = np.unique(np.rint(values / codes.scale))
    assert len(levels) <= 2**bits
    assert result.report.outputs[0].sqnr_db > least_db - 8  # this CPU may saturate in pairs


def test_4_bit_weights_are_written_and_run(tmp_path):
    recipe = qsdk.Recipe(method="squant", options={"bits": 4}, activations="minmax")
    result = quantized(tmp_path, recipe)
    kinds = {t.data_type for t in result.model.proto.graph.initializer}
    assert onnx.TensorProto.INT4 in kinds
    assert result.report.outputs[0].sqnr_db > 8


def test_a_file_says_what_it_was_calibrated_on(tmp_path):
    result = quantized(tmp_path)
    noted = result.model.metadata["calibration"]
    assert (noted["batches"], noted["rows"]) == (4, 32)
    assert int(noted["data_sha256_sum"], 16) == result.calibration.data


def test_codes_that_fit_no_grid_are_refused():
    scheme = qsdk.Scheme(bits=4, signed=False, granularity="per_tensor")
    with pytest.raises(qsdk.errors.OptionError, match="zero_point is 16"):
        FixedCodes(scale=1, zero_point=16, scheme=scheme)
    with pytest.raises(qsdk.errors.OptionError, match="scale is 0"):
        FixedCodes(scale=0, zero_point=1, scheme=scheme)


def test_notes_tell_which_layers_saturate_without_vnni(tmp_path):
    def saturating(bits: int) -> bool:
        recipe = qsdk.Recipe(method="rtn", options={"bits": bits}, activations="minmax")
        return any("without VNNI" in note for note in quantized(tmp_path, recipe).model.notes)

    assert saturating(8) and not saturating(7)


def test_signed_codes_come_with_a_warning_of_their_speed(tmp_path):
    recipe = qsdk.Recipe(
        method="rtn", activations="minmax", activation_options={"signed": True, "bits": 8}
    )
    notes = quantized(tmp_path, recipe).model.notes
    assert any("takes 1.5 to 1.8 times as long" in note for note in notes)
    assert not any(note.startswith("warning") for note in quantized(tmp_path).model.notes)


@pytest.mark.parametrize(("bits", "integers"), [(8, 5), (7, 5), (4, 0)])
def test_a_run_says_how_many_layers_are_integers(bits, integers, tmp_path):
    recipe = qsdk.Recipe(method="rtn", options={"bits": bits}, activations="minmax")
    notes = quantized(tmp_path, recipe).report.notes
    (found,) = (note for note in notes if "coded layers in integers" in note)
    assert f"onnxruntime computes {integers} of 5 coded layers in integers" in found
    assert found.startswith("warning") == (integers < 5)
    assert any("weights of 4 bits and fewer" in note for note in notes) == (bits == 4)


def test_weights_alone_come_with_a_warning_of_their_speed(tmp_path):
    notes = qsdk.quantize_model(saved(tmp_path), "rtn", bits=4).report.notes
    assert any("stem, a, b, c, fc: of weights alone" in note for note in notes)
    notes = qsdk.quantize_model(saved(tmp_path), "rtn", bits=3).report.notes
    assert not any("of weights alone" in note for note in notes)  # decoded at load


@pytest.mark.parametrize("network", ["resnet20", "mobilenet_cifar10"])
def test_every_layer_of_a_published_network_is_integers(network, shared, tmp_path):
    """With the default recipe: biases corrected, residual adds, depthwise layers."""
    folder = shared / "data" / "cifar10"
    with np.load(folder / "cifar10_calib.npz") as file:
        x = file["images"][:32].transpose(0, 3, 1, 2).astype(np.float32) / 64 - 2
    target = tmp_path / "int8.onnx"
    report = qsdk.quantize_file(folder / f"{network}.onnx", target, calibration=[x])
    assert report.recipe["passes"] == ["bias_correction"]
    proto = onnx.load(target)
    before, after = Counter(node.op_type for node in proto.graph.node), fused(proto, tmp_path)
    assert after["QLinearConv"] == before["Conv"] > 15 and after["Conv"] == 0
    assert after["QGemm"] == before["Gemm"] == 1 and after["Gemm"] == 0
    assert after["QLinearAdd"] == before["Add"] and after["Add"] == 0
    count = before["Conv"] + 1
    assert f"onnxruntime computes {count} of {count} coded layers in integers" in report.notes
