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
from .plugins.test_onnx_activations import RECURRENT, W2A2, embedded, quantized, recurrent

WEIGHTS = qsdk.Recipe(method="greedy", options={"bits": 2})


def by_onnxruntime(model: onnx.ModelProto, feeds: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    # Else it runs a MatMul of few bits with activations rounded to 8 bits.
    options.add_session_config_entry("session.qdq_matmulnbits_accuracy_level", "1")
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


@pytest.mark.usefixtures("native")
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


@pytest.mark.usefixtures("native")
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


@pytest.mark.usefixtures("native")
def test_an_embedding_is_looked_up_in_codes(tmp_path: Path) -> None:
    words = {"x": np.arange(16).reshape(4, 4) % 11}
    model, _ = quantized(embedded([1, 0, 2]), tmp_path)
    assert kernels(check(tmp_path, model, words)) == ["onnxruntime", "linear"]
    direct = embedded(None)
    direct.graph.node[2].input[0] = "g"
    model, _ = quantized(direct, tmp_path)
    session = check(tmp_path, model, words)
    assert [piece.note for piece in session.plan] == [
        "input in codes of the embedding, state binary2"
    ]
    with pytest.raises(DataError, match="x is no row of the embedding"):
        session.run({"x": np.full((4, 4), 11)})


def zoo() -> onnx.ModelProto:
    """Branches, an If that reads from outside, several outputs, a weight used twice."""
    shape = helper.make_tensor_value_info
    then = helper.make_graph(
        [helper.make_node("MatMul", ["a", "w.c"], ["t"])], "then", [], [shape("t", 1, [3, 4])]
    )
    other = helper.make_graph(
        [helper.make_node("MatMul", ["b", "w.c"], ["o"])], "else", [], [shape("o", 1, [3, 4])]
    )
    tensors = {"w.a": normal((70, 64), 1), "w.b": normal((64, 64), 2), "w.c": normal((64, 4), 3)}
    tensors |= {"zero": np.float32([0]), "shape": np.array([-1, 64])}
    nodes = [
        helper.make_node("MatMul", ["x", "w.a"], ["m"], name="first"),
        helper.make_node("Relu", ["m"], ["r"], name="relu"),
        helper.make_node("MatMul", ["r", "w.b"], ["a"], name="left"),
        helper.make_node("Tanh", ["m"], ["h"], name="tanh"),
        helper.make_node("MatMul", ["h", "w.b"], ["b"], name="right"),
        helper.make_node("ReduceSum", ["x"], ["s"], keepdims=0),
        helper.make_node("Greater", ["s", "zero"], ["positive"]),
        helper.make_node("If", ["positive"], ["y"], then_branch=then, else_branch=other, name="if"),
        helper.make_node("MatMul", ["r", "w.c"], ["z"], name="last"),
        helper.make_node("Neg", ["shape"], ["minus"]),
        helper.make_node("Abs", ["minus"], ["plus"]),
        helper.make_node("Add", ["a", "b"], ["sum"], name="sum"),
        helper.make_node("Reshape", ["sum", "shape"], ["u"], name="reshape"),
    ]
    constants = [numpy_helper.from_array(array, name) for name, array in tensors.items()]
    outputs = ("y", "z", "u", "m", "plus")
    return build(nodes, constants, {"x": (3, 70)}, outputs=outputs)


@pytest.mark.usefixtures("native")
@pytest.mark.parametrize("sign", [1, -1])
@pytest.mark.parametrize("recipe", [WEIGHTS, W2A2], ids=["floats", "codes"])
def test_branches_subgraphs_and_shared_weights_come_out_right(
    recipe: qsdk.Recipe, sign: int, tmp_path: Path
) -> None:
    model, _ = quantized(zoo(), tmp_path, recipe)
    session = check(tmp_path, model, {"x": sign * np.abs(normal((3, 70), 5))})
    ours = [piece.nodes for piece in session.plan if piece.kernel.startswith("linear")]
    assert ours == [("first",), ("left",), ("right",), ("last",)]
    theirs = [piece.nodes for piece in session.plan if piece.kernel == "onnxruntime"]
    assert {"relu", "tanh", "if", "sum"} <= {name for piece in theirs for name in piece}
    assert len(theirs) <= 3, "the graph outside is cut where it need not be"


def test_where_nothing_is_ours_onnxruntime_runs_it_all(tmp_path: Path) -> None:
    (tmp_path / "q.onnx").write_bytes(unseen().SerializeToString())
    session = check(tmp_path, unseen(), {"x": normal((1, 3, 16, 16))})
    assert [piece.kernel for piece in session.plan] == ["onnxruntime"]
    qsdk.quantize_file(tmp_path / "q.onnx", tmp_path / "q8.onnx", "rtn", bits=8)
    session = qsdk.Session(tmp_path / "q8.onnx")
    assert [piece.kernel for piece in session.plan] == ["onnxruntime"]


def test_weights_that_only_slow_kernels_take_stay_with_onnxruntime(tmp_path: Path) -> None:
    model, _ = quantized(mlp(), tmp_path, qsdk.Recipe(method="greedy", options={"bits": 5}))
    session = check(tmp_path, model, {"x": normal((5, 70))})
    assert kernels(session) == ["onnxruntime"]


@pytest.mark.usefixtures("native")
def test_without_onnxruntime_the_evaluator_of_onnx_runs_the_rest(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model, _ = quantized(mlp(), tmp_path, W2A2)
    x = normal((5, 70), 5)
    expected = by_onnxruntime(model, {"x": x})["y"]
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    session = qsdk.Session(tmp_path / "q.onnx")
    assert kernels(session) == ["linear", "onnx.reference", "linear"]
    np.testing.assert_allclose(session.run({"x": x})["y"], expected, rtol=1e-3, atol=1e-4)


def test_without_onnxruntime_old_files_are_converted_first(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "float.onnx").write_bytes(unseen(13).SerializeToString())
    qsdk.quantize_file(tmp_path / "float.onnx", tmp_path / "q.onnx", "rtn", bits=8)
    model, x = onnx.load(tmp_path / "q.onnx"), normal((1, 3, 16, 16))
    expected = by_onnxruntime(model, {"x": x})
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    ours = qsdk.Session(tmp_path / "q.onnx").run({"x": x})
    for name, array in expected.items():
        np.testing.assert_allclose(ours[name], array, rtol=1e-3, atol=1e-4)


def test_threads_are_obeyed_and_change_no_bit(tmp_path: Path) -> None:
    quantized(mlp(), tmp_path, W2A2)
    x, file = normal((5, 70), 5), tmp_path / "q.onnx"
    assert qsdk.Session(file, threads=2).threads == 2
    results = [qsdk.Session(file, threads=n).run({"x": x})["y"] for n in (None, 1, 2)]
    assert (results[0] == results[1]).all() and (results[1] == results[2]).all()
    with pytest.raises(OptionError, match="threads is -1"):
        qsdk.Session(file, threads=-1)


def test_a_model_in_memory_will_do(tmp_path: Path) -> None:
    (tmp_path / "float.onnx").write_bytes(mlp().SerializeToString())
    model = qsdk.quantize_model(tmp_path / "float.onnx", W2A2).model
    x = normal((5, 70))
    ours = qsdk.Session(model).run({"x": x})["y"]
    np.testing.assert_allclose(ours, model.run({"x": x})["y"], rtol=1e-3, atol=1e-4)


def test_what_cannot_run_is_refused(tmp_path: Path) -> None:
    with pytest.raises(
        OptionError, match="a numpy model cannot run: it holds weights and no graph"
    ):
        qsdk.Session({"w": normal((4, 8))})


@pytest.mark.usefixtures("native")
def test_feeds_that_do_not_fit_are_refused(tmp_path: Path) -> None:
    quantized(mlp(), tmp_path)
    session = qsdk.Session(tmp_path / "q.onnx")
    x = normal((5, 70))
    with pytest.raises(DataError, match=r"no input 'X'; known: x"):
        session.run({"X": x, "x": x})
    with pytest.raises(DataError, match=r"\['x'\] are missing"):
        session.run({})
    with pytest.raises(DataError, match="this layer takes"):
        session.run({"x": x[:, 1:]})
    assert list(session.inputs) == ["x"] and list(session.outputs) == ["y"]


def test_without_kernels_onnxruntime_runs_it_all(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model, _ = quantized(mlp(), tmp_path, W2A2)
    monkeypatch.setenv("QSDK_DISABLE_CPU_FEATURES", "extension")
    assert kernels(check(tmp_path, model, {"x": normal((5, 70))})) == ["onnxruntime"]


def test_data_outside_the_file_is_found(tmp_path: Path) -> None:
    model, _ = quantized(zoo(), tmp_path, W2A2)
    onnx.save(
        onnx.load(tmp_path / "q.onnx"), tmp_path / "out.onnx",
        save_as_external_data=True, location="out.data", size_threshold=200,
    )  # fmt: skip
    assert (tmp_path / "out.data").stat().st_size
    feeds = {"x": normal((3, 70), 5)}
    ours = qsdk.Session(tmp_path / "out.onnx").run(feeds)
    for name, array in by_onnxruntime(model, feeds).items():
        np.testing.assert_allclose(ours[name], array, rtol=1e-3, atol=1e-4)


def test_another_kind_of_model_runs_as_it_can() -> None:
    class Doubling(qsdk.ArrayModel):
        """Gives twice its input."""

        format, has = "doubling", frozenset({"weights", "run"})
        inputs, outputs = ("x",), ("y",)

        def run(self, feeds: Any, fetch: Any = None) -> dict[str, np.ndarray]:
            return {"y": 2 * feeds["x"]}

    session = qsdk.Session(Doubling({"w": normal((4, 8))}))
    assert session.run({"x": [1, 2]})["y"].tolist() == [2, 4]
    assert repr(session) == "<Session of a doubling model>\n  doubling: w"


@pytest.mark.parametrize("bits", [0, 9, "two"])
def test_a_file_that_claims_codes_that_cannot_be_is_refused(bits: Any, tmp_path: Path) -> None:
    model, _ = quantized(mlp(), tmp_path, W2A2)
    node = next(node for node in model.graph.node if node.op_type.startswith("Quantize"))
    del node.attribute[:]
    node.attribute.extend([helper.make_attribute("bits", bits), helper.make_attribute("cycles", 2)])
    (tmp_path / "odd.onnx").write_bytes(model.SerializeToString())
    assert {str(layer.activations) for layer in qsdk.load(tmp_path / "odd.onnx").layers} == {
        "float32", "binary2",
    }  # fmt: skip
    with pytest.raises(qsdk.QsdkError, match="bits"):
        qsdk.Session(tmp_path / "odd.onnx")
