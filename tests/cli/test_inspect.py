"""``qsdk inspect``: what is in a file, and who made it."""

from __future__ import annotations

import json
import struct

import numpy as np


def test_a_float_file(run, weights):
    text = run("inspect", weights).stdout
    assert "conv.weight" in text and "8x4x3x3" in text and "float32" in text
    assert "head[red].weight" in text
    assert "3 layers, 688 weights" in text and "32.00 bits each" in text
    assert "not written by qsdk" in text


def test_a_quantized_file_tells_its_maker_and_options(run, weights, tmp_path):
    target = tmp_path / "q.safetensors"
    run("quantize", weights, "-o", target, "--option", "range_rule=mse", "--exclude", "head*")
    text = run("inspect", target).stdout
    assert "int4 per_channel" in text and "quantized by qsdk 0." in text
    assert "conv.weight, fc.weight: squant of qsdk 0." in text
    assert '"range_rule": "mse"' in text and '"exclude": ["head*"]' in text
    document = run("inspect", target, "--json").document
    assert document["format"] == "safetensors" and document["schema_version"] == 1
    stored = {layer["name"]: layer["stored"] for layer in document["layers"]}
    assert stored["fc.weight"] == "int4 per_channel" and stored["head[red].weight"] == "float32"
    maker = document["metadata"]["quantizers"][0]
    assert maker["name"] == "squant" and maker["options"]["scheme"]["bits"] == 4
    assert document["file_bytes"] == target.stat().st_size


def test_a_network_tells_operations_inputs_and_outputs(run, digits):
    text = run("inspect", digits).stdout
    assert "Conv" in text and "Gemm" in text
    assert "inputs: input; outputs: logits" in text
    assert run("inspect", digits, "--json").document["inputs"] == ["input"]


def test_names_are_whole_however_long(run, tmp_path):
    name = "model." + "very_long." * 30 + "weight"
    np.savez(tmp_path / "m.npz", **{name: np.ones((2, 3), np.float32)})
    assert name in run("inspect", tmp_path / "m.npz").stdout


def test_control_characters_in_names_are_escaped(run, tmp_path):
    np.savez(tmp_path / "m.npz", **{"a\x1b[31mb": np.ones((2, 3), np.float32)})
    text = run("inspect", tmp_path / "m.npz").stdout
    assert "\x1b" not in text and r"a\x1b[31mb" in text


def test_a_file_that_lies_about_its_maker_is_still_shown(run, weights, tmp_path):
    path = tmp_path / "odd.safetensors"
    for layers, quantizers in ((["odd"], 3), ({"w": 5}, [7]), ({"w": {"quantizer": 0}}, [7])):
        noted = {"schema_version": 1, "encodings": {}, "recipe": 7}
        noted |= {"layers": layers, "quantizers": quantizers}
        tensor = {"dtype": "F32", "shape": [1, 1], "data_offsets": [0, 4]}
        header = {"__metadata__": {"qsdk": json.dumps(noted)}, "w": tensor}
        text = json.dumps(header).encode()
        path.write_bytes(struct.pack("<Q", len(text)) + text + bytes(4))
        assert "quantized by qsdk of unknown version" in run("inspect", path).stdout


def test_sums_that_overflow_are_told_with_the_layers(run, digits, images, tmp_path):
    data = tmp_path / "x.npy"
    np.save(data, images[:100])
    shown = {}
    for recipe in ("int8", "int8-avx2"):
        target = tmp_path / f"{recipe}.onnx"
        words = ["quantize", digits, "-o", target, "--recipe", recipe, "--calibration", data]
        run(*words, "--quiet")
        shown[recipe] = run("inspect", target).stdout
        layers = run("inspect", target, "--json").document["layers"]
        assert all(layer["sums"]["runtimes"][0]["fits"] for layer in layers)
        pairs = [layer["sums"]["runtimes"][1] for layer in layers]
        assert all(pair["limit"] == 32767 for pair in pairs)
        assert all(pair["fits"] for pair in pairs) == (recipe == "int8-avx2")
    assert "int16 pairs" in shown["int8"]
    assert "runtimes without VNNI on x86 can saturate in conv1, " in shown["int8"]
    assert "no sum of products can overflow" in shown["int8-avx2"]


def test_floats_have_no_sums(run, weights):
    document = run("inspect", weights, "--json").document
    assert all(layer["sums"] == {} for layer in document["layers"])
    assert "overflow" not in run("inspect", weights).stdout
