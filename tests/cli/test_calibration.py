"""Calibration on the command line: data in files, one line for each tensor, going on."""

from __future__ import annotations

import numpy as np
import pytest
from small_net import images, saved


@pytest.fixture
def net(tmp_path):
    return saved(tmp_path)


@pytest.fixture(params=["npz", "compressed", "npy"])
def data(request, tmp_path):
    array = images(40)
    path = tmp_path / ("data.npy" if request.param == "npy" else "data.npz")
    if request.param == "npy":
        np.save(path, array)
    else:
        (np.savez if request.param == "npz" else np.savez_compressed)(path, x=array)
    return path


def test_data_alone_makes_an_int8_network(run, net, data, tmp_path):
    out = tmp_path / "out.onnx"
    words = ["quantize", net, "-o", out, "--calibration", data, "--batch-size", 16]
    document = run(*words, "--json").document
    assert document["recipe"]["activations"] == "mse"
    assert document["outputs"][0]["rows"] == 40
    assert document["coverage"]["stem_relu6"].endswith("may be missing") or "more data" in str(
        document["coverage"]
    )
    assert "in 3 batches" in document["coverage"]["x"]
    shown = run(*words).stdout
    assert "seen in calibration" in shown and "output y on 40 calibration rows" in shown


def test_words_choose_observer_bits_and_options(run, net, data, tmp_path):
    out = tmp_path / "out.onnx"
    document = run(
        "quantize", net, "-o", out, "--method", "rtn", "--bits", 7, "--calibration", data,
        "--activations", "percentile", "--activation-bits", 6,
        "--activation-option", "keep_percent=99.9", "--json",
    ).document  # fmt: skip
    recipe = document["recipe"]
    assert recipe["activations"] == "percentile"
    assert recipe["activation_options"] == {"bits": 6, "keep_percent": 99.9}


def test_observers_without_data_are_wrong_use(run, net, tmp_path):
    result = run("quantize", net, "-o", tmp_path / "o.onnx", "--activations", "kl", status=2)
    assert "--calibration" in result.stderr


def test_gptq_takes_the_data_and_says_so_without(run, net, data, tmp_path):
    out = tmp_path / "out.onnx"
    words = ["quantize", net, "-o", out, "--method", "gptq", "--bits", 4]
    assert "looks at the inputs of layers: give" in run(*words, status=2).stderr
    assert not out.exists()
    document = run(*words, "--calibration", data, "--json").document
    assert {layer["method"] for layer in document["layers"]} == {"gptq"}
    assert len(document["layers"]) == 5 and document["outputs"][0]["sqnr_db"] > 10


def test_bad_data_is_refused_and_nothing_is_written(run, net, tmp_path):
    array = images(4)
    array[3, 1, 2, 0] = np.nan
    np.savez(tmp_path / "bad.npz", x=array)
    out = tmp_path / "out.onnx"
    words = ["quantize", net, "-o", out, "--calibration", tmp_path / "bad.npz"]
    result = run(*words, "--batch-size", 2, status=4)
    assert "'x' of batch 1 holds nan at [1, 1, 2, 0]" in result.stderr
    assert not out.exists()


def test_statistics_are_kept_and_gone_on_from(run, net, data, tmp_path):
    state = tmp_path / "state.safetensors"
    outs = [tmp_path / "one.onnx", tmp_path / "two.onnx"]
    for out in outs:
        run("quantize", net, "-o", out, "--calibration", data, "--calibration-state", state)
    assert state.exists() and outs[0].read_bytes() == outs[1].read_bytes()


def test_a_dry_run_tells_how_many_tensors_get_codes(run, net, tmp_path):
    data = tmp_path / "data.npy"
    np.save(data, images(2))
    words = ["quantize", net, "--recipe", "int8", "--calibration", data, "--dry-run"]
    assert "8 tensors would get fixed codes" in run(*words).stdout
    assert run(*words, "--json").document["activations"]["x"] == "mse"


def test_recipes_are_listed_and_described(run):
    assert "int8-avx2" in run("list", "recipe").stdout
    assert "int8" in run("list", "--json").document["recipes"]
    document = run("describe", "int8", "--json").document
    assert document["kind"] == "recipe" and document["recipe"]["activations"] == "mse"
    assert "--recipe w4a8" in run("describe", "recipe:w4a8").stdout
    assert "did you mean" in run("describe", "recipe:w4a9", status=2).stderr


def test_passes_are_shown_before_and_after(run, net, tmp_path):
    data, recipe, out = tmp_path / "data.npy", tmp_path / "r.toml", tmp_path / "out.onnx"
    np.save(data, images(20))
    recipe.write_text(
        "activations = 'minmax'\npasses = ['equalize', { name = 'bias_correction', samples = 9 }]"
    )
    words = ["quantize", net, "-o", out, "--recipe", recipe, "--calibration", data]
    shown = run(*words, "--dry-run").stdout
    assert "before quantization: equalize" in shown
    assert "after quantization: bias_correction" in shown
    document = run(*words, "--dry-run", "--json").document
    assert document["passes"] == {"before": ["equalize"], "after": ["bias_correction"]}
    assert "pass: equalize\npass: bias_correction samples=9\n" in run(*words).stdout
    compared = run("compare", net, out, "--data", data, "--json").document
    assert all(layer["weight"]["sqnr_db"] > 15 for layer in compared["layers"])
    assert 'passes = ["bias_correction"]' in run("describe", "int8").stdout


def test_compare_sees_through_folded_norms(run, net, tmp_path):
    data, out = tmp_path / "data.npy", tmp_path / "out.onnx"
    np.save(data, images(20))
    run("quantize", net, "-o", out, "--calibration", data)
    document = run("compare", net, out, "--data", data, "--json").document
    assert all(layer["weight"]["sqnr_db"] > 30 for layer in document["layers"])
