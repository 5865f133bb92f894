"""Batch norms folded into the layers before them: the same function, fewer operators."""

from __future__ import annotations

from collections import Counter

import numpy as np
import onnx
import pytest
from onnx import helper, numpy_helper
from small_net import images, saved

import qsdk


def operators(model: onnx.ModelProto) -> Counter[str]:
    return Counter(node.op_type for node in model.graph.node)


def test_folding_keeps_the_function_and_removes_the_norms(tmp_path):
    model = qsdk.load(saved(tmp_path))
    folded = model.folded()
    assert operators(model.proto)["BatchNormalization"] == 4
    assert operators(folded.proto)["BatchNormalization"] == 0
    feeds = {"x": images(3)}
    assert np.allclose(model.run(feeds)["y"], folded.run(feeds)["y"], atol=1e-5)
    onnx.checker.check_model(folded.proto, full_check=True)


def test_folding_follows_its_formula(tmp_path):
    model = qsdk.load(saved(tmp_path))
    constants = {t.name: numpy_helper.to_array(t) for t in model.proto.graph.initializer}
    gamma, var = constants["stem.gamma"], constants["stem.var"]
    factor = gamma / np.sqrt(var + 1e-3)
    stem = next(layer for layer in model.folded().layers if layer.name == "stem")
    expected = constants["stem.weight"] * factor[:, None, None, None]
    assert np.allclose(stem.weight, expected, rtol=1e-6)


def test_a_model_without_norms_is_itself(tmp_path):
    model = qsdk.load(saved(tmp_path, bare=True))
    assert model.folded() is model


def _normed(operation: str, shape: tuple[int, ...], **words: object) -> onnx.ModelProto:
    rng = np.random.default_rng(1)
    channels = 4
    values = {"w": rng.normal(size=shape), **{n: rng.uniform(1, 2, channels) for n in "gbmv"}}
    constants = [numpy_helper.from_array(a.astype(np.float32), n) for n, a in values.items()]
    nodes = [
        helper.make_node(operation, ["x", "w"], ["z"], name="layer", **words),
        helper.make_node("BatchNormalization", ["z", "g", "b", "m", "v"], ["y"]),
    ]
    rank = len(shape)
    graph = helper.make_graph(
        nodes,
        "normed",
        [helper.make_tensor_value_info("x", 1, [2, 6, *[5] * (rank - 2)])],
        [helper.make_tensor_value_info("y", 1, [None] * rank)],
        constants,
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


@pytest.mark.parametrize(
    ("operation", "shape", "words"),
    [
        ("Conv", (4, 3, 3, 3), {"group": 2}),
        ("Conv", (4, 6, 3), {"strides": [2]}),
        ("ConvTranspose", (6, 2, 3, 3), {"group": 2}),
        ("ConvTranspose", (6, 4, 3, 3), {}),
        ("Gemm", (6, 4), {}),
        ("Gemm", (4, 6), {"transB": 1}),
    ],
)
def test_every_layout_folds(operation, shape, words, tmp_path):
    path = tmp_path / "normed.onnx"
    path.write_bytes(_normed(operation, shape, **words).SerializeToString())
    model = qsdk.load(path)
    x = np.random.default_rng(2).normal(size=(2, 6, *[5] * (len(shape) - 2))).astype(np.float32)
    folded = model.folded()
    assert operators(folded.proto) == {operation: 1}
    assert np.allclose(model.run({"x": x})["y"], folded.run({"x": x})["y"], atol=1e-4)


def test_a_norm_that_others_read_around_stays(tmp_path):
    proto = _normed("Conv", (4, 6, 3, 3))
    proto.graph.output.append(helper.make_tensor_value_info("z", 1, [None] * 4))
    path = tmp_path / "shared.onnx"
    path.write_bytes(proto.SerializeToString())
    model = qsdk.load(path)
    assert model.folded() is model


def test_a_norm_that_takes_statistics_of_each_batch_stays(tmp_path):
    proto = _normed("Conv", (4, 6, 3, 3))
    proto.graph.node[1].attribute.append(helper.make_attribute("training_mode", 1))
    path = tmp_path / "training.onnx"
    path.write_bytes(proto.SerializeToString())
    model = qsdk.load(path)
    assert model.folded() is model


def test_the_pass_does_the_same(tmp_path):
    model = qsdk.load(saved(tmp_path))
    passed = qsdk.registry.get("fold_batch_norm").apply(model)
    assert passed.fingerprint() == model.folded().fingerprint() != model.fingerprint()
