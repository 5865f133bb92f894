"""``qsdk.Session``: the same outputs as onnxruntime, with layers of qsdk where it knows them."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import helper, numpy_helper

import qsdk
from qsdk.errors import DataError, OptionError

from .plugins.onnx_zoo import build, normal, unseen
from .plugins.test_onnx_activations import RECURRENT, W2A2, quantized, recurrent

WEIGHTS = qsdk.Recipe(method="greedy", options={"bits": 2})


def by_onnxruntime(model: onnx.ModelProto, feeds: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(model.SerializeToString(), options)
    names = [info.name for info in session.get_outputs()]
    return dict(zip(names, session.run(names, feeds), strict=True))


def check(folder: Path, model: onnx.ModelProto, feeds: dict[str, np.ndarray]) -> qsdk.Session:
    """A session of the file ``q.onnx`` in ``folder``, which agrees with onnxruntime."""
    session = qsdk.Session(folder / "q.onnx", threads=1)
    ours, theirs = session.run(feeds), by_onnxruntime(model, feeds)
    assert ours.keys() == theirs.keys()
    for name, array in theirs.items():
        np.testing.assert_allclose(ours[name], array, rtol=1e-3, atol=1e-4, err_msg=name)
        assert ours[name].dtype == array.dtype
    return session


def kernels(session: qsdk.Session) -> list[str]:
    return [piece.kernel.split("-")[0] for piece in session.plan]


def mlp() -> onnx.ModelProto:
    """Gemm, Relu, MatMul and Add: what layers take over, and what is between."""
    tensors = {
        "a.w": normal((70, 40), 1),
        "a.b": normal((40,), 2),
        "b.w": normal((40, 9), 3),
        "b.b": normal((9,), 4),
    }
    nodes = [
        helper.make_node("Gemm", ["x", "a.w", "a.b"], ["a"], name="a"),
        helper.make_node("Relu", ["a"], ["r"], name="relu"),
        helper.make_node("MatMul", ["r", "b.w"], ["m"], name="b"),
        helper.make_node("Add", ["b.b", "m"], ["y"], name="bias"),
    ]
    constants = [numpy_helper.from_array(array, name) for name, array in tensors.items()]
    return build(nodes, constants, {"x": (5, 70)})


@pytest.mark.parametrize("recipe", [WEIGHTS, W2A2], ids=["floats", "codes"])
def test_layers_run_by_kernels_and_what_is_between_by_onnxruntime(
    recipe: qsdk.Recipe, tmp_path: Path
) -> None:
    model, _ = quantized(mlp(), tmp_path, recipe)
    session = check(tmp_path, model, {"x": normal((5, 70), 5)})
    assert [piece.nodes for piece in session.plan] == [("a",), ("relu",), ("b", "bias")]
    assert kernels(session) == ["linear", "onnxruntime", "linear"]
    note = "input binary2" if recipe is W2A2 else ""
    assert [piece.note for piece in session.plan] == [note, "", note]
    assert "linear-binary" in repr(session) and "q.onnx" in repr(session)


@pytest.mark.parametrize("recipe", [WEIGHTS, W2A2], ids=["floats", "codes"])
@pytest.mark.parametrize("given", [False, True], ids=["bare", "given"])
@pytest.mark.parametrize("direction", ["forward", "reverse", "bidirectional"])
@pytest.mark.parametrize(("operation", "words"), RECURRENT)
def test_recurrent_layers_run_by_kernels(
    operation: str,
    words: dict[str, Any],
    direction: str,
    given: bool,
    recipe: qsdk.Recipe,
    tmp_path: Path,
) -> None:
    model, _, feeds = recurrent(operation, direction, words=words, given=given)
    file, _ = quantized(model, tmp_path, recipe)
    session = check(tmp_path, file, feeds)
    assert kernels(session) == ["linear"]
