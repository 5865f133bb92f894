"""Inputs that an ONNX file codes while it runs: both runtimes against a simulation in numpy."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import helper, numpy_helper
from onnx.reference import ReferenceEvaluator

import qsdk
from qsdk.errors import PreflightError

from .onnx_zoo import CASES, Case, build, model_of, normal
from .recurrent_oracle import Oracle

EVALUATOR_SCANS = tuple(map(int, onnx.__version__.split(".")[:2])) >= (1, 22)
W2A2 = qsdk.Recipe(method="greedy", options={"bits": 2}, activations="binary2")


def coded(rows: np.ndarray, bits: int, cycles: int) -> np.ndarray:
    """What the kernel of ``linear`` makes of rows: a weight that is the identity shows it."""
    length = rows.shape[-1]
    identity = qsdk.registry.get("ternary", bits=2).quantize(np.eye(length, dtype=np.float32))
    form = qsdk.Activations(form="binary", bits=bits, cycles=cycles)
    return qsdk.linear(identity, activations=form, kernel="linear-ternary-reference")(rows)


def runs(model: onnx.ModelProto, feeds: dict[str, np.ndarray]) -> list[list[np.ndarray]]:
    """The outputs by onnxruntime and by the evaluator of the onnx package.

    Before onnx 1.22 the evaluator hides from the body of a Scan what stands around it.
    """
    onnx.checker.check_model(model, full_check=True)
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(model.SerializeToString(), options)
    results = [session.run(None, feeds)]
    scans = any(node.op_type == "Scan" for body in model.functions for node in body.node)
    if EVALUATOR_SCANS or not scans:
        with np.errstate(all="ignore"):
            results.append(ReferenceEvaluator(model).run(None, feeds))
    return results


def quantized(
    model: onnx.ModelProto, folder: Path, recipe: qsdk.Recipe = W2A2
) -> tuple[onnx.ModelProto, dict[str, np.ndarray]]:
    """The model as a file of qsdk, and its decoded weights by layer."""
    source = folder / "float.onnx"
    source.write_bytes(model.SerializeToString())
    report = qsdk.quantize_file(source, folder / "q.onnx", recipe)
    coded = any("codes of the input" in note for note in report.notes)
    assert coded == (recipe.activations != "float32")
    loaded = qsdk.load(folder / "q.onnx")
    return onnx.load(folder / "q.onnx"), {x.name: x.weight for x in loaded.layers}


def functions(model: onnx.ModelProto) -> list[str]:
    return [n.op_type for n in model.graph.node if n.op_type.split("_")[0] in CODING]


CODING = ("Quantize", "LSTM", "GRU")


@pytest.mark.parametrize(
    ("bits", "cycles", "opset"),
    [(1, 2, 13), (2, 0, 18), (2, 2, 13), (2, 5, 21), (3, 2, 21), (4, 0, 13), (4, 2, 18)],
)
def test_rows_are_coded_as_the_kernels_code_them(
    bits: int, cycles: int, opset: int, tmp_path: Path
) -> None:
    recipe = qsdk.Recipe(
        method="greedy",
        activations="binary",
        activation_options={"bits": bits, "cycles": cycles},
    )
    case = next(case for case in CASES if case.name == "matmul")
    model, weights = quantized(model_of(case, opset=opset), tmp_path, recipe)
    x = normal((2, 3, 10), 5)
    x[0, 0], x[0, 1] = 0, 2.5
    x[1, 0] = np.sign(x[1, 0])
    expected = coded(x, bits, cycles) @ weights["layer"].T
    for (y,) in runs(model, {"x": x}):
        np.testing.assert_allclose(y, expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_a_row_that_is_not_finite_becomes_nan_and_no_other(value: float, tmp_path: Path) -> None:
    case = next(case for case in CASES if case.name == "gemm")
    model, _ = quantized(model_of(case), tmp_path)
    x = normal((3, 10))
    x[1, 4] = value
    for (y,) in runs(model, {"x": x}):
        assert np.isnan(y[1]).all() and np.isfinite(y[[0, 2]]).all()


def recurrent(
    operation: str, direction: str, *, words: dict[str, Any] | None = None, given: bool = False
) -> tuple[onnx.ModelProto, Oracle, dict[str, np.ndarray]]:
    """A layer of 70 inputs and 6 units, a simulation of it in float, and what to feed it.

    given : whether it has a bias, initial states and sequence lengths
    """
    gates, directions = 4 if operation == "LSTM" else 3, 2 if direction == "bidirectional" else 1
    w = normal((directions, gates * 6, 70), 1) / 8  # no gate is shut: a state of 0 has any sign
    r = normal((directions, gates * 6, 6), 2) / 2
    b = normal((directions, 2 * gates * 6), 3) if given else np.zeros((directions, 12 * gates))
    feeds = {"x": normal((5, 3, 70), 4)}
    tensors = {"w": w, "r": r}
    names = ["x", "w", "r"]
    if given:
        tensors |= {"b": b, "lengths": np.array([5, 2, 1], np.int32)}
        feeds |= {"h": normal((directions, 3, 6), 6)}
        names += ["b", "lengths", "h"]
    if given and operation == "LSTM":
        feeds |= {"c": normal((directions, 3, 6), 7)}
        names += ["c"]
    outputs = ["y", "y_h", "y_c"][: 3 if operation == "LSTM" else 2]
    words = {"hidden_size": 6, "direction": direction, **(words or {})}
    node = helper.make_node(operation, names, outputs, name="layer", **words)
    constants = [numpy_helper.from_array(array, name) for name, array in tensors.items()]
    shapes = {name: array.shape for name, array in feeds.items()}
    model = build([node], constants, shapes, outputs=tuple(outputs))
    reset_after = bool(words.get("linear_before_reset"))
    oracle = Oracle(
        operation=operation, w=w, r=r, b=b, direction=direction, reset_after=reset_after
    )
    return model, oracle, feeds


RECURRENT = [("LSTM", {}), ("GRU", {}), ("GRU", {"linear_before_reset": 1})]


@pytest.mark.parametrize("given", [False, True], ids=["bare", "given"])
@pytest.mark.parametrize("direction", ["forward", "reverse", "bidirectional"])
@pytest.mark.parametrize(("operation", "words"), RECURRENT)
def test_the_oracle_is_what_onnxruntime_computes(
    operation: str, words: dict[str, Any], direction: str, given: bool
) -> None:
    model, oracle, feeds = recurrent(operation, direction, words=words, given=given)
    expected = oracle_run(oracle, feeds, given)
    session = onnxruntime.InferenceSession(model.SerializeToString())
    for ours, theirs in zip(expected, session.run(None, feeds), strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-4, atol=1e-5)


def oracle_run(oracle: Oracle, feeds: dict[str, np.ndarray], given: bool) -> list[np.ndarray]:
    return oracle(feeds["x"], [5, 2, 1] if given else None, feeds.get("h"), feeds.get("c"))


@pytest.mark.parametrize("given", [False, True], ids=["bare", "given"])
@pytest.mark.parametrize("direction", ["forward", "reverse", "bidirectional"])
@pytest.mark.parametrize(("operation", "words"), RECURRENT)
def test_recurrent_layers_code_their_input_and_their_state(
    operation: str, words: dict[str, Any], direction: str, given: bool, tmp_path: Path
) -> None:
    model, oracle, feeds = recurrent(operation, direction, words=words, given=given)
    file, weights = quantized(model, tmp_path)
    assert [name.split("_")[0] for name in functions(file)] == ["Quantize", operation]

    def code(rows: np.ndarray) -> np.ndarray:
        return coded(rows, bits=2, cycles=2)

    oracle = Oracle(
        operation=operation,
        w=weights["layer.W"].reshape(oracle.w.shape),
        r=weights["layer.R"].reshape(oracle.r.shape),
        b=oracle.b,
        direction=direction,
        reset_after=oracle.reset_after,
        code_x=code,
        code_h=code,
    )
    expected = oracle_run(oracle, feeds, given)
    for results in runs(file, feeds):
        for ours, theirs in zip(results, expected, strict=True):
            np.testing.assert_allclose(ours, theirs, rtol=1e-3, atol=1e-4)


def mlp(*, nodes: list[onnx.NodeProto] | None = None, **inputs: tuple[int, ...]) -> onnx.ModelProto:
    """Two products of one input, which share its codes."""
    tensors = [numpy_helper.from_array(normal((10, 6), i), f"w{i}") for i in range(2)]
    nodes = nodes or [
        helper.make_node("MatMul", ["x", "w0"], ["a"], name="a"),
        helper.make_node("Gemm", ["x", "w1"], ["b"], name="b"),
        helper.make_node("Add", ["a", "b"], ["y"]),
    ]
    return build(nodes, tensors, inputs or {"x": (3, 10)})


def test_layers_of_one_input_share_its_codes(tmp_path: Path) -> None:
    model, _ = quantized(mlp(), tmp_path)
    assert functions(model) == ["Quantize_binary_coded_2_2"]
    layers = qsdk.load(tmp_path / "q.onnx").layers
    assert [str(layer.activations) for layer in layers] == ["binary2", "binary2"]


def test_a_weight_used_twice_meets_coded_inputs_twice(tmp_path: Path) -> None:
    nodes = [
        helper.make_node("MatMul", ["x", "w0"], ["a"], name="a"),
        helper.make_node("MatMul", ["z", "w0"], ["b"], name="b"),
        helper.make_node("Add", ["a", "b"], ["y"]),
    ]
    model, weights = quantized(mlp(nodes=nodes, x=(3, 10), z=(3, 10)), tmp_path)
    assert len(functions(model)) == 2
    x, z = normal((3, 10), 8), normal((3, 10), 9)
    expected = (coded(x, 2, 2) + coded(z, 2, 2)) @ weights["a"].T
    for (y,) in runs(model, {"x": x, "z": z}):
        np.testing.assert_allclose(y, expected, rtol=1e-4, atol=1e-5)


def test_without_a_word_the_input_stays_in_float(tmp_path: Path) -> None:
    model, _ = quantized(mlp(), tmp_path, qsdk.Recipe(method="greedy"))
    assert not functions(model)
    layers = qsdk.load(tmp_path / "q.onnx").layers
    assert {str(layer.activations) for layer in layers} == {"float32"}


def embedded(perm: list[int] | None) -> onnx.ModelProto:
    """An embedding, perhaps transposed, before an LSTM."""
    tensors = {"e": normal((11, 8), 1), "w": normal((1, 12, 8), 2), "r": normal((1, 12, 3), 3)}
    nodes = [
        helper.make_node("Gather", ["e", "x"], ["g"], name="embedding"),
        helper.make_node("Transpose", ["g"], ["t"], perm=perm or [0, 1, 2]),
        helper.make_node("LSTM", ["t", "w", "r"], ["y"], name="lstm", hidden_size=3),
    ]
    constants = [numpy_helper.from_array(array, name) for name, array in tensors.items()]
    return build(nodes, constants, {"x": (4, 4)}, element=onnx.TensorProto.INT64)


@pytest.mark.parametrize("perm", [None, [1, 0, 2]])
def test_rows_of_a_coded_embedding_are_not_coded_again(
    perm: list[int] | None, tmp_path: Path
) -> None:
    model, _ = quantized(embedded(perm), tmp_path)
    assert functions(model) == ["LSTM_binary_coded_2_2_forward"]
    again = qsdk.quantize_file(tmp_path / "float.onnx", tmp_path / "q.onnx", W2A2)
    assert again.notes == ("lstm.R: binary2 codes of the input, made in the run",)
    source = qsdk.Recipe(
        method="greedy", options={"bits": 2}, activations="binary2", exclude=("embedding",)
    )
    model, _ = quantized(embedded(perm), tmp_path, source)
    assert [name.split("_")[0] for name in functions(model)] == ["Quantize", "LSTM"]


def test_rules_choose_the_codes_of_some_layers(tmp_path: Path) -> None:
    recipe = qsdk.Recipe.from_dict(
        {
            "method": "greedy",
            "activations": "greedy",
            "activation_options": {"bits": 3, "cycles": 1},
            "rules": [{"match": "a", "activations": "float32"}],
        }
    )
    model, _ = quantized(mlp(), tmp_path, recipe)
    assert functions(model) == ["Quantize_binary_coded_3_1"]
    forms = {x.name: str(x.activations) for x in qsdk.load(tmp_path / "q.onnx").layers}
    assert forms == {"a": "float32", "b": "binary3"}


REFUSED = [
    (CASES[0], {"activations": "binary2"}, "layer: binary2 activations cannot be written for Conv"),
    (CASES[0], {"activations": "int8"}, "written with float32 or binary activations, not int8"),
    (CASES[0], {"activations": "squant"}, "squant quantizes weights; no kernel applies it"),
    (CASES[0], {"activations": "gredy"}, "no quantizer named 'gredy'; did you mean 'greedy'"),
    (
        CASES[0],
        {"activations": "binary2", "activation_options": {"bits": 3}},
        "the activations are 'binary2', and bits is 3",
    ),
    (
        CASES[0],
        {"activations": "binary", "activation_options": {"planes": 3}},
        "binary activations have no option 'planes'",
    ),
    (
        CASES[10],
        {"activations": "binary2"},
        "cannot be written for MatMul with a weight at input 0",
    ),
]


@pytest.mark.parametrize(("case", "words", "message"), REFUSED)
def test_what_cannot_be_written_is_said_before_any_work(
    case: Case, words: dict[str, Any], message: str, tmp_path: Path
) -> None:
    recipe = qsdk.Recipe(method="greedy", **words)
    with pytest.raises(PreflightError, match=message):
        quantized(model_of(case), tmp_path, recipe)


@pytest.mark.parametrize(
    ("words", "named"),
    [
        ({"clip": 1.0}, "LSTM with clip"),
        ({"input_forget": 1}, "LSTM with input_forget"),
        ({"activations": ["Relu", "Tanh", "Tanh"]}, "LSTM with activations"),
    ],
)
def test_what_the_functions_do_not_compute_is_refused(
    words: dict[str, Any], named: str, tmp_path: Path
) -> None:
    model, _, _ = recurrent("LSTM", "forward", words=words)
    with pytest.raises(PreflightError, match=f"layer.R: binary2 activations .* {named}"):
        quantized(model, tmp_path)


def test_the_weights_of_a_model_in_half_precision_meet_no_codes(tmp_path: Path) -> None:
    case = next(case for case in CASES if case.name == "matmul")
    with pytest.raises(PreflightError, match="code float32, and the model computes in float16"):
        quantized(model_of(case, dtype=np.float16), tmp_path)


def test_files_without_a_graph_cannot_say_how_inputs_are_coded() -> None:
    with pytest.raises(PreflightError, match="w: a numpy model cannot say how inputs are coded"):
        qsdk.quantize_model({"w": normal((4, 8))}, W2A2)


def test_a_file_with_coded_inputs_is_quantized_further(tmp_path: Path) -> None:
    first = qsdk.Recipe(method="greedy", activations="binary2", include=("a",))
    quantized(mlp(), tmp_path, first)
    qsdk.quantize_file(tmp_path / "q.onnx", tmp_path / "q2.onnx", "rtn", bits=8)
    forms = {x.name: (x.stored, str(x.activations)) for x in qsdk.load(tmp_path / "q2.onnx").layers}
    assert forms["a"] == ("binary2 per_channel", "binary2")
    assert forms["b"] == ("int8 per_channel", "float32")
    for (y,) in runs(onnx.load(tmp_path / "q2.onnx"), {"x": normal((3, 10))}):
        assert np.isfinite(y).all()
