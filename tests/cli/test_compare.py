"""``qsdk compare``: weights by layer, outputs on data, accuracy with labels."""

from __future__ import annotations

import math
import sys
import zipfile

import numpy as np
import pytest

import qsdk


@pytest.fixture(scope="module")
def pair(digits, tmp_path_factory):
    target = tmp_path_factory.mktemp("pair") / "int4.onnx"
    qsdk.quantize_file(digits, target, "rtn", bits=4)
    return digits, target


def test_weights_are_compared_by_layer(run, pair):
    report = qsdk.quantize_model(str(pair[0]), "rtn", bits=4).report
    document = run("compare", *pair, "--json").document
    for row, layer in zip(document["layers"], report.layers, strict=True):
        assert row["name"] == layer.name
        assert row["weight"]["sqnr_db"] == pytest.approx(layer.sqnr_db)
        assert row["weight"]["max_error"] == pytest.approx(layer.max_error)
        assert row["activation"] is None
    assert document["outputs"] == []
    text = run("compare", *pair).stdout
    assert "float32 -> int4 per_channel" in text and "worst weights: " in text


def test_outputs_are_those_of_both_models(run, pair, images, labels, tmp_path):
    np.save(tmp_path / "x.npy", images)
    np.savez(tmp_path / "y.npz", labels=labels)
    words = ["--data", tmp_path / "x.npy", "--labels", tmp_path / "y.npz", "--batch-size", 100]
    document = run("compare", *pair, *words, "--json").document
    a, b = (qsdk.load(path).run({"input": images})["logits"] for path in pair)
    (output,) = document["outputs"]
    assert output["name"] == "logits" and output["rows"] == len(images)
    assert output["difference"]["sqnr_db"] == pytest.approx(qsdk.metrics.sqnr_db(a, b), abs=1e-3)
    assert output["agreement"] == pytest.approx((a.argmax(1) == b.argmax(1)).mean())
    assert output["top1"] == [(a.argmax(1) == labels).mean(), (b.argmax(1) == labels).mean()]
    text = run("compare", *pair, *words).stdout
    assert f"top-1: float {100 * output['top1'][0]:.2f} %" in text and "same argmax" in text


def test_tensors_on_the_way_are_compared_on_the_first_batch(run, pair, images, tmp_path):
    np.savez(tmp_path / "x.npz", input=images)
    document = run(
        "compare", *pair, "--data", tmp_path / "x.npz", "--batch-size", 32, "--json"
    ).document
    layer = qsdk.load(pair[0]).layers[3]
    tensor = layer.attributes["output"]
    a, b = (qsdk.load(path).run({"input": images[:32]}, [tensor])[tensor] for path in pair)
    row = next(row for row in document["layers"] if row["name"] == layer.name)
    assert row["activation"]["sqnr_db"] == pytest.approx(qsdk.metrics.sqnr_db(a, b), abs=1e-3)
    text = run("compare", *pair, "--data", tmp_path / "x.npz").stdout
    assert "output dB" in text and "worst layer outputs" in text


def test_each_layers_own_error_is_split(run, pair, images, tmp_path):
    np.save(tmp_path / "x.npy", images[:200])
    coded = tmp_path / "int8.onnx"
    run("quantize", pair[0], "-o", coded, "--calibration", tmp_path / "x.npy", "--quiet")
    words = ["compare", pair[0], coded, "--data", tmp_path / "x.npy"]
    document = run(*words, "--json").document
    for row in document["layers"]:
        own = row["own"]
        assert own["sqnr_db"] > 30 and 0.999 < own["cosine"] <= 1 and own["cause"]
        parts = [own[f"{part}_db"] for part in ("clipping", "rounding", "saturation")]
        found = [math.inf if part is None else part for part in parts]  # null: nothing is lost
        assert own["cause"] == ("clipping", "rounding", "saturation")[np.argmin(found)]
        assert row["activation"] is not None  # also of layers whose result is coded
    assert document["codes"]["input"]["codes"] == "uint8"
    assert document["codes"]["input"]["sqnr_db"] > 30
    text = run(*words).stdout
    assert "layer by itself" in text and "worst by themselves: " in text
    weights_only = run("compare", *pair, "--data", tmp_path / "x.npy", "--json").document
    assert weights_only["codes"] == {}
    assert {row["own"]["cause"] for row in weights_only["layers"]} == {"rounding"}


def test_a_model_equals_itself(run, pair, images, tmp_path):
    np.save(tmp_path / "x.npy", images[:20])
    result = run("compare", pair[0], pair[0], "--data", tmp_path / "x.npy")
    assert "exact" in result.stdout and "same argmax 100.00 %" in result.stdout
    assert "no layer of the second file is quantized" in result.stderr


def test_a_function_gives_feeds(run, pair, images, labels, tmp_path, monkeypatch):
    np.save(tmp_path / "x.npy", images)
    (tmp_path / "my_feeds.py").write_text(
        "import numpy as np\n"
        "def batches():\n"
        "    print('making feeds')\n"
        "    x = np.load('x.npy')\n"
        "    for start in range(0, 60, 25):\n"
        "        yield {'input': x[start:start + 25][:60 - start]}\n"
    )
    np.save(tmp_path / "y.npy", labels[:60])
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    result = run(
        "compare", *pair, "--data", "my_feeds:batches", "--labels", "y.npy", "--json"
    )  # what the module prints is not in the document
    assert result.document["outputs"][0]["rows"] == 60
    assert "making feeds" in result.stderr


def save(path, arrays):
    if isinstance(arrays, dict):
        np.savez(path / "d.npz", **arrays)
        return path / "d.npz"
    np.save(path / "d.npy", arrays)
    return path / "d.npy"


def test_data_that_unpacks_to_far_more_than_it_is_is_refused_unread(run, pair, tmp_path):
    with (
        zipfile.ZipFile(tmp_path / "d.npz", "w", zipfile.ZIP_DEFLATED) as archive,
        archive.open("input.npy", "w", force_zip64=True) as member,
    ):
        for _ in range(300):
            member.write(bytes(2**20))
    result = run("compare", *pair, "--data", tmp_path / "d.npz", status=4)
    assert "d.npz: 'input' cannot be read: it grows from" in result.stderr


X = np.zeros((4, 1, 8, 8), np.float32)
WRONG = {
    "wrong name": ({"image": X}, "d.npz holds image, and the model's inputs are input"),
    "one too many": ({"input": X, "mask": X}, "the model's inputs are input"),
    "none": ({}, "holds nothing"),
    "wrong length": (X[..., :5], "input float32 (4, 1, 8, 5)"),
    "wrong length, said by the model": (X[..., :5], "Got: 5 Expected: 8"),
    "wrong axes": (X[0, 0], "input float32 (8, 8)"),
    "wrong dtype": (X.astype(np.float64), "input float64 (4, 1, 8, 8)"),
    "no rows": (X[:0], "nothing to compare"),
}


@pytest.mark.parametrize("case", WRONG)
def test_data_that_does_not_fit_says_what_is_expected(run, pair, tmp_path, case):
    arrays, expected = WRONG[case]
    result = run("compare", *pair, "--data", save(tmp_path, arrays), status=4)
    assert expected in result.stderr


def test_labels_may_stand_beside_the_inputs(run, pair, images, labels, tmp_path):
    both = save(tmp_path, {"input": images[:50], "labels": labels[:50]})
    assert "top-1" in run("compare", *pair, "--data", both, "--labels", both).stdout


def test_wrong_labels_say_how_many_are_expected(run, pair, images, tmp_path):
    np.save(tmp_path / "x.npy", images[:50])
    for labels, expected in (
        (np.arange(49), "there are 49 labels, and output 'logits' of shape (50, 10)"),
        (np.zeros(50), "the labels in y.npy are float64; give whole numbers"),
    ):
        np.save(tmp_path / "y.npy", labels)
        words = ["--data", tmp_path / "x.npy", "--labels", tmp_path / "y.npy"]
        assert expected in run("compare", *pair, *words, status=4).stderr
    assert "--labels needs --data" in run("compare", *pair, "--labels", "y.npy", status=2).stderr


@pytest.mark.parametrize(
    ("data", "expected", "status"),
    [
        ("nowhere.npz", "there is no file 'nowhere.npz'", 4),
        ("nowhere", "is no .npz, no .npy and no module:function", 2),
        ("no_such_module:feeds", "No module named 'no_such_module'", 2),
        ("math:no_such", "no_such", 2),
    ],
)
def test_data_that_is_not_there(run, pair, data, expected, status):
    assert expected in run("compare", *pair, "--data", data, status=status).stderr


def test_data_is_never_unpickled(run, pair, tmp_path):
    np.save(tmp_path / "x.npy", np.array([{"a": 1}]), allow_pickle=True)
    result = run("compare", *pair, "--data", tmp_path / "x.npy", status=4)
    assert "x.npy" in result.stderr and "Python objects" in result.stderr
    (tmp_path / "t.npz").write_bytes(b"PK\x03\x04 nothing")
    assert "t.npz" in run("compare", *pair, "--data", tmp_path / "t.npz", status=4).stderr


def test_files_without_a_graph_are_compared_by_weight_only(run, weights, tmp_path):
    target = tmp_path / "q.safetensors"
    run("quantize", weights, "-o", target, "--exclude", "head*")
    document = run("compare", weights, target, "--json").document
    by_name = {row["name"]: row["weight"] for row in document["layers"]}
    assert by_name["head[red].weight"]["sqnr_db"] is None  # equal: infinite
    assert by_name["head[red].weight"]["max_error"] == 0
    assert 0.9 < by_name["fc.weight"]["cosine"] < 1
    result = run("compare", weights, target, "--data", "x.npy", status=2)
    assert "weights.safetensors (safetensors) holds weights without a graph" in result.stderr


def test_files_with_nothing_in_common(run, weights, digits):
    result = run("compare", weights, digits, status=4)
    assert "no layer in common" in result.stderr and "conv.weight" in result.stderr


def test_a_published_network_on_real_images(run, shared, tmp_path):
    """Measured in shared/data/README.md: 931 of the first 1000 images."""
    folder = shared / "data" / "cifar10"
    with np.load(folder / "cifar10_test.npz") as file:
        pixels, labels = file["images"][:1000], file["labels"][:1000]
    mean = np.float32([0.485, 0.456, 0.406])[:, None, None]
    std = np.float32([0.229, 0.224, 0.225])[:, None, None]
    x = ((pixels.transpose(0, 3, 1, 2).astype(np.float32) / 255 - mean) / std).astype(np.float32)
    data = save(tmp_path, {"input": x, "labels": labels})
    target = tmp_path / "int8.onnx"
    run("quantize", folder / "resnet20.onnx", "-o", target, "--bits", "8", "--method", "rtn")
    document = run(
        "compare", folder / "resnet20.onnx", target, "--data", data, "--labels", data, "--json"
    ).document
    before, after = document["outputs"][0]["top1"]
    assert before == 0.931 and abs(after - before) < 0.01
    assert document["outputs"][0]["agreement"] > 0.97
    assert all(row["activation"]["sqnr_db"] > 15 for row in document["layers"])
