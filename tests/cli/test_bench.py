"""``qsdk bench``: what it prints and writes; never how fast anything is."""

from __future__ import annotations

import re

import numpy as np
import pytest

import qsdk

TINY = ["--shape", "2x16x8", "--rounds", 2]


def test_the_document_has_every_round_of_every_subject(run):
    document = run("bench", "linear-int8", *TINY, "--json").document
    assert document["rounds"] == 2
    assert document["machine"]["versions"]["numpy"] == np.__version__
    assert document["machine"]["threads"] == 1
    assert [result["form"] for result in document["results"]] == [
        "int32 out",
        "float in, float out",
    ]
    for result in document["results"]:
        assert result["operation"] == "linear-int8" and result["shape"] == "2x16x8"
        assert result["work"] == {"m": 2, "n": 16, "k": 8} and result["macs"] == 256
        assert result["skipped"] is None and result["kernel"].startswith("linear-")
        for subject in (result["ours"], *result["peers"]):
            assert len(subject["rounds_ns"]) == 2
            assert subject["best_ns"] == min(subject["rounds_ns"]) > 0
        floats = [peer["best_ns"] for peer in result["peers"] if peer["kind"] == "float"]
        expected = min(floats) / result["ours"]["best_ns"]
        assert result["ratios"]["float"] == pytest.approx(expected)


def test_the_table_names_the_kernel_and_the_machine(run):
    text = run("bench", "linear-int8", *TINY).stdout
    assert text.startswith("CPU: ") and "features: " in text and "versions: qsdk " in text
    assert re.search(r"^shape +kernel +qsdk .*float32 +x float32$", text, re.MULTILINE)
    assert re.search(r"^2x16x8 +linear-\S+ +[\d.]+ (us|ms) ", text, re.MULTILINE)


def test_what_qsdk_has_nothing_for_is_skipped_with_the_reason(run, monkeypatch):
    from qsdk.bench import cases
    from qsdk.bench.works import Product

    form = cases.Form(operation="linear-int8", name="x", plugin="no-such", activations="int8")
    monkeypatch.setattr(cases, "TABLE", [(form, [Product(1, 2, 3)], 1)])
    result = run("bench", "linear-int8")
    assert "skipped: linear-int8, x (1): " in result.stdout and "no-such" in result.stdout
    document = run("bench", "linear-int8", "--json").document
    assert document["results"][0]["ours"] is None
    assert "no-such" in document["results"][0]["skipped"]


def test_features_taken_away_are_said(spawn):
    pytest.importorskip("qsdk._native", reason="the C extension is not built")
    from qsdk import cpu

    if "avx2" not in cpu.found():
        pytest.skip("this CPU has no avx2 to take away")
    status, stdout, stderr = spawn("bench", "linear-int8", *TINY, QSDK_DISABLE_CPU_FEATURES="avx2")
    assert status == 0, stderr
    features = next(line for line in stdout.splitlines() if line.startswith("features: "))
    left, taken = features.split("; taken away: ")
    assert "avx2" in taken.split(", ") and "avx" not in left


def test_threads_are_limited_for_all_before_numpy_is_there(spawn):
    status, stdout, stderr = spawn("bench", "linear-int8", *TINY, "--threads", 2)
    assert status == 0 and "2 threads each" in stdout
    assert "before the limit" not in stderr


def test_the_environment_is_as_before_afterwards(run, monkeypatch):
    import os

    monkeypatch.setenv("OMP_NUM_THREADS", "7")
    monkeypatch.delenv("MKL_NUM_THREADS", raising=False)
    run("bench", "linear-int8", *TINY)
    assert os.environ["OMP_NUM_THREADS"] == "7" and "MKL_NUM_THREADS" not in os.environ


def test_a_table_for_a_page_says_which_command_made_it(run):
    lines = run("bench", "linear-int8", *TINY, "--markdown").stdout.splitlines()
    command = "qsdk bench linear-int8 --shape 2x16x8 --rounds 2 --markdown"
    assert lines[0].startswith("# ") and lines[2] == f"This page is what `{command}` printed."
    assert any(re.match(r"\| --- \| --- \| ---: \|", line) for line in lines)
    assert any(line.startswith("| 2x16x8 | linear-") for line in lines)


def test_the_report_stands_alone(run, tmp_path):
    pytest.importorskip("matplotlib", reason="the extra report is not installed")
    run("bench", "linear-int8", *TINY, "--report", tmp_path / "bench.html")
    html = (tmp_path / "bench.html").read_text()
    assert "<svg" in html and "2x16x8" in html and "qsdk bench linear-int8" in html
    assert not re.search(r"(src|href)=.https?:", html)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["conv"], "did you mean 'conv-int8'"),
        (["--shape", "5x5"], "write MxNxK"),
        (["quantize", "--shape", "1x2x3"], "no case of quantize"),
        (["--batch", "3"], "go with --advise"),
        (["linear-int8", "--advise", "x.onnx"], "leave OPERATION"),
        (["--report", "no-such-folder/x.html"], "no-such-folder"),
    ],
)
def test_wrong_use_is_refused_before_anything_is_measured(run, words, message):
    assert message in run("bench", *words, status=2).stderr


def test_advice_has_every_layer_of_the_model(run, digits):
    document = run("bench", "--advise", digits, "--rounds", 2, "--batch", 3, "--json").document
    layers = qsdk.load(digits).layers
    assert document["model"] == "digits.onnx" and document["feeds"] == {"input": [3, 1, 8, 8]}
    assert [row["name"] for row in document["layers"]] == [layer.name for layer in layers]
    for row, layer in zip(document["layers"], layers, strict=True):
        assert row["float_bytes"] == layer.nbytes
        assert row["float"]["library"] in ("numpy", "onnxruntime")
        assert set(row["ways"]) | set(row["missing"]) == {
            "int8", "int8 fixed", "int4 g32", "binary2"}  # fmt: skip
        for way in row["ways"].values():
            assert way["gain"] == pytest.approx(row["float"]["best_ns"] / way["best_ns"])
        assert row["advised"] is None or row["advised"] in row["advice"]
    fc = document["layers"][-1]
    assert fc["work"] == "3x10x24" and fc["ways"]["int8"]["nbytes"] < fc["float_bytes"]


def test_advice_is_a_table_for_people(run, digits, images, tmp_path):
    np.save(tmp_path / "x.npy", images[:4])
    words = ["--data", tmp_path / "x.npy", "--batch", 2, "--rounds", 1]
    text = run("bench", "--advise", digits, *words).stdout
    assert re.search(r"^fc +2x10x24 +[\d.]+ us ", text, re.MULTILINE)
    assert "these layers: " in text and "note: fewer bits cost accuracy" in text


def test_the_work_of_each_layer_gives_its_shape(digits):
    from qsdk.bench.advice import work_of

    model = qsdk.load(digits)
    tensors = [layer.attributes["output"] for layer in model.layers]
    results = model.run(model.blank(5), tensors)
    for layer, tensor in zip(model.layers, tensors, strict=True):
        work = work_of(layer, results[tensor].shape)
        assert work.out_shape == results[tensor].shape
        assert work.w.shape == layer.shape


def test_layers_of_other_operations_are_named(run, tmp_path):
    onnx = pytest.importorskip("onnx", reason="the extra onnx is not installed")
    h, rng = onnx.helper, np.random.default_rng(0)
    table = onnx.numpy_helper.from_array(rng.normal(size=(9, 4)).astype(np.float32), "table")
    graph = h.make_graph(
        [h.make_node("Gather", ["table", "ids"], ["y"], name="embed")],
        "g",
        [h.make_tensor_value_info("ids", onnx.TensorProto.INT64, ["n", None])],
        [h.make_tensor_value_info("y", onnx.TensorProto.FLOAT, ["n", None, 4])],
        [table],
    )
    model = h.make_model(graph, opset_imports=[h.make_opsetid("", 17)], ir_version=8)
    onnx.save(model, tmp_path / "embed.onnx")
    document = run("bench", "--advise", tmp_path / "embed.onnx", "--batch", 3, "--json").document
    assert document["feeds"] == {"ids": [3, 1]}
    assert document["layers"][0]["advice"] == "no kernel for Gather"
    assert "no kernel for Gather" in run("bench", "--advise", tmp_path / "embed.onnx").stdout


def test_weights_without_a_graph_cannot_be_advised_on(run, weights):
    result = run("bench", "--advise", weights, status=2)
    assert "needs a model that can run" in result.stderr
