"""Files with a stranger's encoding: qsdk writes and reads them, and onnxruntime runs them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

import qsdk

DEMO = Path(qsdk.__file__).parent / "demo"


@pytest.fixture(scope="module")
def digits():
    """Images and labels, as the network that ships with qsdk takes them."""
    with np.load(DEMO / "digits.npz") as file:
        return (file["images"] / 16).astype(np.float32)[:, np.newaxis], file["labels"]


@pytest.fixture(scope="module")
def quantized(with_codebook) -> Path:
    """That network, its weights written by the stranger's quantizer."""
    pytest.importorskip("onnxruntime", reason="the extra onnx is not installed")
    target = with_codebook.work / "digits-kmeans.onnx"
    with_codebook.qsdk(
        "quantize", DEMO / "digits.onnx", "-o", target, "--method", "kmeans", "--bits", 4
    )
    return target


def logits(path, images):
    """What onnxruntime computes, which has never heard of qsdk."""
    onnxruntime = pytest.importorskip("onnxruntime")
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    return session.run(None, {session.get_inputs()[0].name: images})[0]


def test_onnxruntime_runs_the_quantized_network_and_it_still_recognises_digits(quantized, digits):
    images, labels = digits
    accuracy = (logits(quantized, images).argmax(axis=1) == labels).mean()
    assert accuracy >= 0.95


def test_the_file_holds_a_local_function_of_standard_operators(quantized):
    onnx = pytest.importorskip("onnx")
    model = onnx.load(quantized)
    onnx.checker.check_model(model, full_check=True)
    (function,) = model.functions
    assert (function.domain, function.name) == ("qsdk", "Dequantize_codebook")
    assert {node.domain for node in function.node} == {""}
    calls = [node for node in model.graph.node if node.op_type == "Dequantize_codebook"]
    assert len(calls) == 15
    assert not any(
        tensor.data_type == 1 and len(tensor.dims) == 4 for tensor in model.graph.initializer
    )


def test_inspect_shows_the_encoding_and_who_made_it(with_codebook, quantized):
    document = with_codebook.qsdk("inspect", quantized, "--json").document
    assert {layer["stored"] for layer in document["layers"]} == {"codebook of 4 bits per_channel"}
    text = with_codebook.qsdk("inspect", quantized).stdout
    assert "codebook of 4 bits per_channel" in text and "kmeans of qsdk-codebook 2.1" in text


def test_compare_runs_it_layer_by_layer(with_codebook, quantized, digits):
    np.save(with_codebook.work / "images.npy", digits[0])
    document = with_codebook.qsdk(
        "compare", DEMO / "digits.onnx", quantized, "--data", "images.npy", "--json"
    ).document
    assert len(document["layers"]) == 15


def test_onnxruntime_decodes_every_width_to_the_bit(with_codebook):
    onnx = pytest.importorskip("onnx")
    weight = np.random.default_rng(3).normal(size=(7, 5)).astype(np.float32)
    graph = onnx.helper.make_graph(
        [onnx.helper.make_node("Gemm", ["x", "w"], ["y"], transB=1)],
        "one_layer",
        [onnx.helper.make_tensor_value_info("x", 1, ["n", 5])],
        [onnx.helper.make_tensor_value_info("y", 1, ["n", 7])],
        [onnx.numpy_helper.from_array(weight, "w")],
    )
    model = onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 17)])
    model.ir_version = 8
    onnx.save(model, with_codebook.work / "one.onnx")
    with_codebook.run("""
        import numpy as np, qsdk
        for granularity in ("per_tensor", "per_channel"):
            for bits in range(2, 9):
                words = {"bits": bits, "granularity": granularity}
                qsdk.quantize_file("one.onnx", f"{granularity}{bits}.onnx", "kmeans", **words)
                (layer,) = qsdk.load("one.onnx").layers
                q = qsdk.registry.get("kmeans", **words).quantize(layer.weight)
                (again,) = qsdk.load(f"{granularity}{bits}.onnx").layers
                assert np.array_equal(again.weight, q.dequantize())
                np.save(f"{granularity}{bits}.npy", q.dequantize())
    """)
    for granularity in ("per_tensor", "per_channel"):
        for bits in range(2, 9):
            name = with_codebook.work / f"{granularity}{bits}"
            decoded = logits(name.with_suffix(".onnx"), np.eye(5, dtype=np.float32)).T
            assert np.array_equal(decoded, np.load(name.with_suffix(".npy"))), name.name


def test_resnet20_keeps_its_accuracy(with_codebook, shared):
    pytest.importorskip("onnxruntime", reason="the extra onnx is not installed")
    network = shared / "data" / "cifar10" / "resnet20_folded.onnx"
    target = with_codebook.work / "resnet20-kmeans.onnx"
    words = ["--method", "kmeans", "--bits", 4, "--json"]
    report = with_codebook.qsdk("quantize", network, "-o", target, *words).document
    assert len(report["layers"]) >= 20
    with np.load(shared / "data" / "cifar10" / "cifar10_test.npz") as file:
        pixels, labels = file["images"][:1000].astype(np.float32), file["labels"][:1000]
    mean, std = np.float32([0.485, 0.456, 0.406]), np.float32([0.229, 0.224, 0.225])
    images = np.ascontiguousarray(((pixels / 255 - mean) / std).transpose(0, 3, 1, 2))
    correct = [(logits(path, images).argmax(axis=1) == labels).mean() for path in (network, target)]
    assert correct[0] > 0.9 and correct[1] > correct[0] - 0.03, correct


def test_a_container_holds_what_was_quantized(with_codebook):
    weights = {
        name: np.random.default_rng(len(name)).normal(size=shape).astype(np.float32)
        for name, shape in {"conv": (8, 4, 3, 3), "fc": (10, 32)}.items()
    }
    np.savez(with_codebook.work / "weights.npz", **weights)
    words = ["--method", "kmeans", "--bits", 3, "--option", "iterations=5"]
    with_codebook.qsdk("quantize", "weights.npz", "-o", "weights.safetensors", *words)
    document = with_codebook.qsdk("inspect", "weights.safetensors", "--json").document
    assert {x["name"]: x["stored"] for x in document["layers"]} == {
        "conv": "codebook of 3 bits per_channel",
        "fc": "codebook of 3 bits per_channel",
    }
    with_codebook.run("""
        import numpy as np, qsdk
        weights = np.load("weights.npz")
        for layer in qsdk.load("weights.safetensors").layers:
            q = qsdk.registry.get("kmeans", bits=3, iterations=5).quantize(weights[layer.name])
            assert np.array_equal(layer.weight, q.dequantize())
    """)


# Without the package


@pytest.fixture(scope="module")
def uninstalled(with_codebook, quantized, environment_of, wheels):
    """An environment that had the package, and the files that were written with it."""
    environment = environment_of("uninstalled", *wheels.values())
    np.savez(environment.work / "weights.npz", fc=np.eye(4, 9, dtype=np.float32))
    environment.qsdk("quantize", "weights.npz", "-o", "weights.safetensors", "--method", "kmeans")
    (environment.work / "digits.onnx").write_bytes(quantized.read_bytes())
    environment.pip("uninstall", "--yes", "qsdk-codebook")
    return environment


@pytest.mark.parametrize("file", ["weights.safetensors", "digits.onnx"])
def test_without_the_package_a_file_is_refused_and_its_encoding_named(uninstalled, file):
    result = uninstalled.qsdk("inspect", file, status=4)
    assert "no encoding named 'codebook'" in result.stderr
    assert "install the package that the file was made with" in result.stderr
    assert "Traceback" not in result.stderr


def test_without_the_package_its_quantizer_is_unknown(uninstalled):
    words = ["quantize", "weights.npz", "-o", "other.safetensors", "--method", "kmeans"]
    result = uninstalled.qsdk(*words, status=2)
    assert "no quantizer named 'kmeans'; known: adaround, admm, " in result.stderr
    assert not (uninstalled.work / "other.safetensors").exists()


def test_without_the_package_onnxruntime_runs_the_file_all_the_same(uninstalled, digits):
    accuracy = logits(uninstalled.work / "digits.onnx", digits[0]).argmax(axis=1) == digits[1]
    assert accuracy.mean() >= 0.95


def test_without_the_package_everything_else_is_healthy(uninstalled):
    assert uninstalled.qsdk("doctor", "--json").document["healthy"]
