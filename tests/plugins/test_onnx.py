"""The ONNX adapter: every kind of layer, every width, through onnx.checker and onnxruntime."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import helper, numpy_helper

import qsdk
from qsdk.errors import DataError, FileRefusedError, NothingQuantizedError, PreflightError

from .onnx_zoo import CASES, Case, build, model_of, normal, unseen

SCHEMES = {
    "per_channel": {},
    "per_tensor": {"granularity": "per_tensor"},
    "per_group": {"group_size": 4},
    "symmetric": {"symmetric": True},
    "unsigned": {"signed": False},
}


def save(model: onnx.ModelProto, path: Path) -> Path:
    path.write_bytes(model.SerializeToString())
    return path


def run(file: Path, feeds: dict[str, np.ndarray]) -> list[np.ndarray]:
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    # Else it runs a 4-bit MatMul with activations rounded to 8 bits.
    options.add_session_config_entry("session.qdq_matmulnbits_accuracy_level", "1")
    session = onnxruntime.InferenceSession(str(file), options)
    return session.run(None, feeds)


def decoded(file: Path, layer: str = "layer") -> np.ndarray:
    return next(x.weight for x in qsdk.load(file).layers if x.name in (layer, f"{layer}.W"))


def quantized_nodes(file: Path) -> list[str]:
    return [n.op_type for n in onnx.load(file).graph.node if n.op_type.startswith("Dequantize")]


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
@pytest.mark.parametrize("scheme", SCHEMES)
@pytest.mark.parametrize("bits", [3, 4, 8])
def test_the_file_computes_with_the_decoded_weights(
    case: Case, scheme: str, bits: int, tmp_path: Path
) -> None:
    source = save(model_of(case), tmp_path / "float.onnx")
    words = {"bits": bits, **SCHEMES[scheme]}
    recipe = qsdk.Recipe(include=("w",))  # of a recurrent layer, only the input weights
    qsdk.quantize_file(source, tmp_path / "q.onnx", recipe, **words)
    onnx.checker.check_model(str(tmp_path / "q.onnx"), full_check=True)
    weight = np.random.default_rng(0).standard_normal(case.weight_shape).astype(np.float32)
    layer = qsdk.load(source).layers[0]
    assert layer.shape == case.canonical_shape
    np.testing.assert_array_equal(case.to_file(layer.weight), weight)
    expected = qsdk.registry.get("squant", **words).quantize(layer.weight).dequantize()
    np.testing.assert_array_equal(decoded(tmp_path / "q.onnx"), expected)
    by_hand = save(model_of(case, weight=case.to_file(expected)), tmp_path / "hand.onnx")
    feeds = case.feeds()
    for ours, theirs in zip(run(tmp_path / "q.onnx", feeds), run(by_hand, feeds), strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("bits", range(1, 9))
@pytest.mark.parametrize("opset", [13, 17, 21, 25])
def test_every_width_runs_at_every_opset(bits: int, opset: int, tmp_path: Path) -> None:
    source = save(model_of(CASES[0], opset=opset), tmp_path / "float.onnx")
    report = qsdk.quantize_file(source, tmp_path / "q.onnx", "rtn", bits=bits)
    expected = qsdk.registry.get("rtn", bits=bits).quantize(normal(CASES[0].weight_shape))
    weight = expected.dequantize()
    np.testing.assert_array_equal(decoded(tmp_path / "q.onnx"), weight)
    onnx.checker.check_model(str(tmp_path / "q.onnx"), full_check=True)
    by_hand = save(model_of(CASES[0], opset=opset, weight=weight), tmp_path / "hand.onnx")
    feeds = CASES[0].feeds()
    for ours, theirs in zip(run(tmp_path / "q.onnx", feeds), run(by_hand, feeds), strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-4, atol=1e-5)
    (node,) = quantized_nodes(tmp_path / "q.onnx")
    typed = bits in (4, 8) or (bits == 2 and opset >= 25)
    assert node == ("DequantizeLinear" if typed else "Dequantize_affine"), report.notes


@pytest.mark.parametrize(
    ("bits", "signed", "kind"),
    [
        (4, True, "INT4"),
        (4, False, "UINT4"),
        (8, True, "INT8"),
        (8, False, "UINT8"),
    ],
)
def test_standard_widths_have_their_onnx_type(
    bits: int, signed: bool, kind: str, tmp_path: Path
) -> None:
    source = save(model_of(CASES[0], opset=17), tmp_path / "float.onnx")
    qsdk.quantize_file(source, tmp_path / "q.onnx", "rtn", bits=bits, signed=signed)
    model = onnx.load(tmp_path / "q.onnx")
    types = {onnx.TensorProto.DataType.Name(t.data_type) for t in model.graph.initializer}
    assert types == {kind, "FLOAT"}


def test_a_model_that_cannot_be_converted_gets_its_4_bits_in_bytes(tmp_path: Path) -> None:
    source = save(with_function(model_of(CASES[0], opset=17), 17), tmp_path / "float.onnx")
    report = qsdk.quantize_file(source, tmp_path / "q.onnx", "rtn", bits=4)
    assert any("take a byte each" in note for note in report.notes)
    assert quantized_nodes(tmp_path / "q.onnx") == ["DequantizeLinear"]
    run(tmp_path / "q.onnx", CASES[0].feeds())


def test_a_model_of_an_old_opset_is_brought_to_where_it_can_be_quantized(tmp_path: Path) -> None:
    source = save(model_of(CASES[0], opset=11), tmp_path / "float.onnx")
    report = qsdk.quantize_file(source, tmp_path / "q.onnx", "rtn", bits=8)
    assert report.notes[0] == "converted from opset 11 to 13"
    run(tmp_path / "q.onnx", CASES[0].feeds())


def test_an_old_model_that_cannot_be_converted_is_refused(tmp_path: Path) -> None:
    source = save(with_function(model_of(CASES[0], opset=11), 11), tmp_path / "float.onnx")
    with pytest.raises(PreflightError, match=r"need opset 13.*functions of its own"):
        qsdk.quantize_file(source, tmp_path / "q.onnx", "rtn", bits=8)
    with pytest.raises(FileRefusedError, match=r"need opset 13.*functions of its own"):
        qsdk.quantize_model(source, "rtn", bits=8)
    assert not (tmp_path / "q.onnx").exists()


def test_operators_of_others_pass_through_the_conversion(tmp_path: Path) -> None:
    proto = model_of(CASES[0], opset=17)
    proto.graph.node.append(helper.make_node("Mystery", ["y"], ["z"], domain="com.example"))
    proto.opset_import.append(helper.make_opsetid("com.example", 1))
    proto.graph.output[0].name = "z"
    source = save(proto, tmp_path / "float.onnx")
    qsdk.quantize_file(source, tmp_path / "q.onnx", "rtn", bits=4)
    last = onnx.load(tmp_path / "q.onnx").graph.node[-1]
    assert (last.op_type, last.domain) == ("Mystery", "com.example")


def with_function(proto: onnx.ModelProto, opset: int) -> onnx.ModelProto:
    """A function of the model's own, which the opset converter would lose."""
    body = [helper.make_node("Identity", ["a"], ["b"])]
    imports = [helper.make_opsetid("", opset)]
    proto.functions.append(helper.make_function("mine", "Same", ["a"], ["b"], body, imports))
    proto.opset_import.append(helper.make_opsetid("mine", 1))
    return proto


def test_a_group_longer_than_the_row_is_one_group(tmp_path: Path) -> None:
    source = save(model_of(CASES[7]), tmp_path / "float.onnx")
    qsdk.quantize_file(source, tmp_path / "q.onnx", "rtn", bits=4, group_size=64)
    run(tmp_path / "q.onnx", CASES[7].feeds())


@pytest.mark.parametrize("dtype", [np.float16, np.float64])
def test_other_float_types_keep_their_type(dtype: type, tmp_path: Path) -> None:
    source = save(model_of(CASES[7], dtype=dtype), tmp_path / "float.onnx")
    qsdk.quantize_file(source, tmp_path / "q.onnx", "rtn", bits=8)
    feeds = {name: x.astype(dtype) for name, x in CASES[7].feeds().items()}
    (y,), (reference,) = run(tmp_path / "q.onnx", feeds), run(source, feeds)
    assert y.dtype == dtype
    assert qsdk.metrics.sqnr_db(reference, y) > 35


def test_constant_nodes_and_transposed_constants_are_weights(tmp_path: Path) -> None:
    constant = numpy_helper.from_array(normal((6, 10)), "value")
    nodes = [
        helper.make_node("Constant", [], ["c"], value=constant),
        helper.make_node("Transpose", ["c"], ["t"], perm=[1, 0]),
        helper.make_node("MatMul", ["x", "t"], ["y"], name="layer"),
    ]
    source = save(build(nodes, [], {"x": (3, 10)}), tmp_path / "float.onnx")
    (layer,) = qsdk.load(source).layers
    np.testing.assert_array_equal(layer.weight, normal((6, 10)))
    qsdk.quantize_file(source, tmp_path / "q.onnx", "rtn", bits=8)
    model = onnx.load(tmp_path / "q.onnx")
    assert [n.op_type for n in model.graph.node] == ["DequantizeLinear", "MatMul"]
    feeds = {"x": normal((3, 10), 1)}
    assert qsdk.metrics.sqnr_db(run(source, feeds)[0], run(tmp_path / "q.onnx", feeds)[0]) > 35


def test_a_shared_weight_is_quantized_once_for_all_its_users(tmp_path: Path) -> None:
    """An embedding tied to the output projection, through a Transpose of its own."""
    nodes = [
        helper.make_node("Gather", ["table", "x"], ["e"], name="embed"),
        helper.make_node("Transpose", ["table"], ["columns"], perm=[1, 0]),
        helper.make_node("MatMul", ["e", "columns"], ["y"], name="project"),
    ]
    table = numpy_helper.from_array(normal((11, 8)), "table")
    model = build(nodes, [table], {"x": (2, 3)}, element=onnx.TensorProto.INT64)
    source = save(model, tmp_path / "float.onnx")
    report = qsdk.quantize_file(source, tmp_path / "q.onnx", "rtn", bits=8)
    assert [layer.name for layer in report.layers] == ["embed"]
    assert quantized_nodes(tmp_path / "q.onnx") == ["DequantizeLinear"]
    feeds = {"x": np.array([[1, 2, 3], [0, 10, 5]])}
    assert qsdk.metrics.sqnr_db(run(source, feeds)[0], run(tmp_path / "q.onnx", feeds)[0]) > 30


def test_a_weight_used_inside_a_subgraph_stays_right(tmp_path: Path) -> None:
    inner = helper.make_graph(
        [helper.make_node("MatMul", ["x", "w"], ["inner"])],
        "then",
        [],
        [helper.make_tensor_value_info("inner", 1, [3, 6])],
    )
    other = helper.make_graph(
        [helper.make_node("Neg", ["outer"], ["negative"])],
        "else",
        [],
        [helper.make_tensor_value_info("negative", 1, [3, 6])],
    )
    nodes = [
        helper.make_node("MatMul", ["x", "w"], ["outer"], name="layer"),
        helper.make_node("ReduceSum", ["outer"], ["sum"], keepdims=0),
        helper.make_node("Greater", ["sum", "zero"], ["positive"]),
        helper.make_node("If", ["positive"], ["y"], then_branch=inner, else_branch=other),
    ]
    tensors = [
        numpy_helper.from_array(normal((10, 6)), "w"),
        numpy_helper.from_array(np.float32(-1e9), "zero"),
    ]
    source = save(build(nodes, tensors, {"x": (3, 10)}), tmp_path / "float.onnx")
    qsdk.quantize_file(source, tmp_path / "q.onnx", "rtn", bits=8)
    feeds = {"x": normal((3, 10), 1)}
    assert qsdk.metrics.sqnr_db(run(source, feeds)[0], run(tmp_path / "q.onnx", feeds)[0]) > 35


def test_initializers_that_are_also_inputs_leave_the_inputs(tmp_path: Path) -> None:
    model = model_of(CASES[7], opset=17)
    model.graph.input.append(helper.make_tensor_value_info("w", 1, [10, 6]))
    source = save(model, tmp_path / "float.onnx")
    qsdk.quantize_file(source, tmp_path / "q.onnx", "rtn", bits=8)
    assert [i.name for i in onnx.load(tmp_path / "q.onnx").graph.input] == ["x"]


@pytest.mark.parametrize("bits", [3, 4, 8])
def test_a_network_never_seen_before(bits: int, tmp_path: Path) -> None:
    source = save(unseen(), tmp_path / "float.onnx")
    report = qsdk.quantize_file(source, tmp_path / "q.onnx", "squant", bits=bits)
    assert [x.name for x in report.layers] == ["stem", "left", "right", "head", "scores"]
    onnx.checker.check_model(str(tmp_path / "q.onnx"), full_check=True)
    feeds = {"x": normal((1, 3, 16, 16), 9)}
    worst = {3: 5, 4: 12, 8: 35}[bits]
    for a, b in zip(run(source, feeds), run(tmp_path / "q.onnx", feeds), strict=True):
        assert qsdk.metrics.sqnr_db(a, b) > worst


def test_a_quantized_model_in_memory_runs_and_leaves_the_first_alone(tmp_path: Path) -> None:
    source = save(unseen(), tmp_path / "float.onnx")
    model = qsdk.load(source)
    result = qsdk.quantize_model(model, "squant", bits=4)
    feeds = {"x": normal((1, 3, 16, 16), 9)}
    assert all(layer.is_float for layer in model.layers)
    result.model.save(tmp_path / "q.onnx")
    quantized = result.model.run(feeds)
    np.testing.assert_array_equal(quantized["y"], run(tmp_path / "q.onnx", feeds)[0])
    inner = model.run(feeds, fetch=["s", "c"])
    assert inner["s"].shape == (1, 8, 8, 8) and set(inner) == {"s", "c"}


def test_a_file_of_another_tool_is_read_and_left_alone(tmp_path: Path) -> None:
    source = save(model_of(CASES[0], opset=13), tmp_path / "float.onnx")
    qsdk.quantize_file(source, tmp_path / "q.onnx", "rtn", bits=8)
    (layer,) = qsdk.load(tmp_path / "q.onnx").layers
    assert layer.stored == "int8 per_channel" and layer.name == "layer"
    with pytest.raises(NothingQuantizedError, match="already int8 per_channel"):
        qsdk.quantize_file(tmp_path / "q.onnx", tmp_path / "qq.onnx", "rtn", bits=4)


def test_two_runs_write_the_same_bytes(tmp_path: Path) -> None:
    source = save(unseen(), tmp_path / "float.onnx")
    for name in ("a.onnx", "b.onnx"):
        qsdk.quantize_file(source, tmp_path / name, "squant", bits=4)
    assert (tmp_path / "a.onnx").read_bytes() == (tmp_path / "b.onnx").read_bytes()


def test_a_wrong_feed_says_what_the_inputs_are(tmp_path: Path) -> None:
    model = qsdk.load(save(unseen(), tmp_path / "float.onnx"))
    with pytest.raises(DataError, match=r"inputs are \['x'\]"):
        model.run({"image": normal((1, 3, 16, 16))})


# External data


def outside(folder: Path, **entry: object) -> Path:
    """A model whose one weight lies in weights.bin, with some of its reference changed."""
    model = model_of(CASES[7])
    tensor = model.graph.initializer[0]
    (folder / "weights.bin").write_bytes(b"\0" * 64 + tensor.raw_data)
    reference = {"location": "weights.bin", "offset": 64, "length": len(tensor.raw_data), **entry}
    tensor.ClearField("raw_data")
    tensor.data_location = onnx.TensorProto.EXTERNAL
    for key, value in reference.items():
        if value is not None:
            tensor.external_data.add(key=key, value=str(value))
    return save(model, folder / "model.onnx")


def test_external_data_is_read_and_what_stays_float_is_carried_over(tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    source = outside(tmp_path)
    np.testing.assert_array_equal(qsdk.load(source).layers[0].weight, normal((10, 6)).T)
    qsdk.quantize_file(source, tmp_path / "out" / "q.onnx", "rtn", bits=8)
    assert [f.name for f in (tmp_path / "out").iterdir()] == ["q.onnx"]
    model = qsdk.load(source)
    model.save(tmp_path / "out" / "same.onnx")
    (tmp_path / "weights.bin").unlink()
    feeds = CASES[7].feeds()
    (y,) = qsdk.load(tmp_path / "out" / "same.onnx").run(feeds).values()
    np.testing.assert_allclose(y, feeds["x"] @ normal((10, 6)), rtol=1e-5, atol=1e-5)
    np.testing.assert_array_equal(run(tmp_path / "out" / "same.onnx", feeds)[0], y)


def test_a_model_with_its_data_outside_is_converted_and_keeps_what_stays_float_outside(
    tmp_path: Path,
) -> None:
    source = tmp_path / "float.onnx"
    onnx.save_model(
        unseen(17), source, save_as_external_data=True, location="float.bin", size_threshold=64
    )
    recipe = qsdk.Recipe(method="rtn", exclude=("right",))
    (tmp_path / "out").mkdir()
    report = qsdk.quantize_file(source, tmp_path / "out" / "q.onnx", recipe, bits=4)
    assert report.notes[0] == "converted from opset 17 to 21"
    (tmp_path / "float.bin").unlink()
    onnx.checker.check_model(str(tmp_path / "out" / "q.onnx"), full_check=True)
    (data,) = (tmp_path / "out").glob("*.data")
    assert data.stat().st_size == normal((6, 8, 5, 5)).nbytes
    again = qsdk.load(tmp_path / "out" / "q.onnx")
    np.testing.assert_array_equal(again.layers[2].weight, normal((6, 8, 5, 5), 4))
    run(tmp_path / "out" / "q.onnx", {"x": normal((1, 3, 16, 16))})


def test_only_axis_0_holds_the_channels_of_a_layer(tmp_path: Path) -> None:
    source = save(unseen(), tmp_path / "float.onnx")
    with pytest.raises(PreflightError, match=r"axis is 1.*on axis 0"):
        qsdk.quantize_file(source, tmp_path / "q.onnx", "rtn", bits=4, axis=1)


@pytest.mark.parametrize(
    ("entry", "reason"),
    [
        ({"location": "../secret.bin"}, "outside the folder"),
        ({"location": "/etc/hostname"}, "outside the folder"),
        ({"location": ""}, "outside the folder"),
        ({"location": "link.bin"}, "leaves the folder"),
        ({"location": "hard.bin"}, "second name"),
        ({"location": "absent.bin"}, "not there"),
        ({"location": "folder.bin"}, "not a plain file"),
        ({"offset": 10_000}, "offset 10000 of a file of 304"),
        ({"offset": -4}, "offset -4"),
        ({"offset": "many"}, "no number"),
        ({"length": 2**62}, "claims 4611686018427387904"),
        ({"length": 8}, "claims 8"),
    ],
)
def test_a_hostile_reference_is_refused(
    entry: dict[str, object], reason: str, tmp_path: Path
) -> None:
    home = tmp_path / "home"
    home.mkdir()
    secret = tmp_path / "secret.bin"
    secret.write_bytes(b"\0" * 304)
    (home / "link.bin").symlink_to(secret)
    (home / "hard.bin").hardlink_to(secret)
    (home / "folder.bin").mkdir()
    with pytest.raises(FileRefusedError, match=reason):
        qsdk.quantize_file(outside(home, **entry), home / "q.onnx", "rtn", bits=8)
    assert not (home / "q.onnx").exists()


def test_a_store_of_links_is_followed_when_the_model_is_a_link_into_it(tmp_path: Path) -> None:
    store, view = tmp_path / "blobs", tmp_path / "snapshot"
    store.mkdir()
    view.mkdir()
    outside(store)
    for name in ("model.onnx", "weights.bin"):
        (view / name).symlink_to(store / name)
    np.testing.assert_array_equal(
        qsdk.load(view / "model.onnx").layers[0].weight, normal((10, 6)).T
    )


# Damaged files


def test_what_is_no_model_is_refused(tmp_path: Path) -> None:
    for name, content in {
        "empty.onnx": b"",
        "text.onnx": b"this is no model, whatever its name says",
        "zeros.onnx": bytes(1000),
    }.items():
        (tmp_path / name).write_bytes(content)
        with pytest.raises(FileRefusedError, match=name):
            qsdk.load(tmp_path / name)


def test_truncated_and_mutated_files_are_read_or_refused(tmp_path: Path) -> None:
    """Whatever happens, it is a QsdkError or a written file, and never another exception."""
    whole = unseen().SerializeToString()
    rng = np.random.default_rng(0)
    outcomes = {"read": 0, "refused": 0}
    for trial in range(300):
        damaged = bytearray(whole)
        if trial % 3 == 0:
            damaged = damaged[: rng.integers(1, len(whole))]
        else:
            for place in rng.integers(0, min(len(damaged), 2500), rng.integers(1, 6)):
                damaged[place] = rng.integers(0, 256)
        (tmp_path / "damaged.onnx").write_bytes(damaged)
        try:
            qsdk.quantize_file(tmp_path / "damaged.onnx", tmp_path / "q.onnx", "rtn", bits=8)
            outcomes["read"] += 1
        except qsdk.QsdkError:
            outcomes["refused"] += 1
    assert min(outcomes.values()) > 10, outcomes


def test_a_weight_computed_at_run_time_is_named_with_the_reason(tmp_path: Path) -> None:
    nodes = [
        helper.make_node("Abs", ["k"], ["kernel"]),
        helper.make_node("Conv", ["x", "kernel"], ["h"], name="dynamic"),
        helper.make_node("Conv", ["h", "w"], ["y"], name="fixed"),
    ]
    inputs = {"x": (1, 2, 6, 6), "k": (3, 2, 3, 3)}
    tensors = [numpy_helper.from_array(normal((4, 3, 3, 3)), "w")]
    source = save(build(nodes, tensors, inputs), tmp_path / "float.onnx")
    report = qsdk.quantize_file(source, tmp_path / "q.onnx", "rtn", bits=8)
    assert dict(report.kept) == {"kernel": "Conv computes it at run time"}


# Accuracy on real networks: the figures that the documentation prints

PUBLISHED = [
    ("resnet20", 4, 91.47, 90.52),
    ("resnet20", 3, 90.56, 83.78),
    ("mobilenet_cifar10", 4, 79.91, 71.88),
    ("mobilenet_cifar10", 3, 76.85, 56.85),
]


def top1(file: Path, images: np.ndarray, labels: np.ndarray) -> float:
    model = qsdk.load(file)
    right = 0
    for start in range(0, len(labels), 256):
        (logits,) = model.run({"input": images[start : start + 256]}).values()
        right += int((logits.argmax(axis=1) == labels[start : start + 256]).sum())
    return 100 * right / len(labels)


@pytest.mark.parametrize(("network", "bits", "squant", "rtn"), PUBLISHED)
def test_squant_reaches_its_accuracy_and_rounding_does_not(
    network: str, bits: int, squant: float, rtn: float, shared: Path, tmp_path: Path
) -> None:
    source = shared / "data" / "cifar10" / f"{network}_folded.onnx"
    with np.load(shared / "data" / "cifar10" / "cifar10_test.npz") as data:
        images, labels = data["images"], data["labels"]
    mean, std = np.float32([0.485, 0.456, 0.406]), np.float32([0.229, 0.224, 0.225])
    pixels = ((images.astype(np.float32) / 255 - mean) / std).transpose(0, 3, 1, 2)
    reached = {}
    for method in ("squant", "rtn"):
        report = qsdk.quantize_file(source, tmp_path / f"{method}.onnx", method, bits=bits)
        reached[method] = top1(tmp_path / f"{method}.onnx", pixels, labels)
        assert len(report.layers) == len(qsdk.load(source).layers)
    assert reached["squant"] >= squant - 0.3, reached
    assert reached["squant"] - reached["rtn"] > 0.6 * (squant - rtn), reached


def test_four_bits_shrink_a_real_network_to_less_than_a_sixth(shared: Path, tmp_path: Path) -> None:
    source = shared / "data" / "cifar10" / "resnet20_folded.onnx"
    report = qsdk.quantize_file(source, tmp_path / "q.onnx", "squant", bits=4)
    assert report.file_bytes_after <= 0.16 * report.file_bytes_before
    made = qsdk.load(tmp_path / "q.onnx").metadata
    assert made["recipe"]["options"] == {"bits": 4}
    assert set(made["layers"]) == {layer.name for layer in report.layers}


# What once came out wrong


def nodes_of(*weights: str, transposed: bool = False) -> list[onnx.NodeProto]:
    """A chain of MatMuls from x to y."""
    names = ["x", *(f"h{i}" for i in range(1, len(weights))), "y"]
    return [
        helper.make_node("MatMul", [names[i], weight], [names[i + 1]], name=f"m{i}")
        for i, weight in enumerate(weights)
    ]


@pytest.mark.parametrize("columns", [29, 30, 31, 32])
def test_2_bit_rows_of_any_length_are_right_in_onnxruntime(columns: int, tmp_path: Path) -> None:
    tensors = [numpy_helper.from_array(normal((40, columns)), "w")]
    source = save(build(nodes_of("w"), tensors, {"x": (3, 40)}, 25), tmp_path / "float.onnx")
    qsdk.quantize_file(source, tmp_path / "q.onnx", "rtn", bits=2)
    x = normal((3, 40), 1)
    weight = qsdk.load(tmp_path / "q.onnx").layers[0].weight
    np.testing.assert_allclose(
        run(tmp_path / "q.onnx", {"x": x})[0], x @ weight.T, rtol=1e-4, atol=1e-4
    )


def test_models_that_differ_only_in_float_weights_do_not_share_a_data_file(tmp_path: Path) -> None:
    files = []
    for seed in (1, 2):
        tensors = [
            numpy_helper.from_array(normal((40, 40), 0), "w0"),
            numpy_helper.from_array(normal((40, 40), seed), "w1"),
        ]
        model = build(nodes_of("w0", "w1"), tensors, {"x": (3, 40)})
        source = tmp_path / f"float{seed}.onnx"
        onnx.save_model(
            model, source, save_as_external_data=True, location=f"{seed}.bin", size_threshold=0
        )
        qsdk.quantize_file(source, tmp_path / "q.onnx", qsdk.Recipe(method="rtn", include=("m0",)))
        files.append(qsdk.load(tmp_path / "q.onnx"))
    for seed, model in zip((1, 2), files, strict=True):
        np.testing.assert_array_equal(model.layers[1].weight, normal((40, 40), seed).T)


def test_a_large_model_gets_its_data_outside(tmp_path: Path, monkeypatch) -> None:
    import qsdk_plugins.onnx.model as model_module

    monkeypatch.setattr(model_module, "INLINE_LIMIT", 5000)
    tensors = [
        numpy_helper.from_array(normal((40, 40), 0), "w0"),
        numpy_helper.from_array(normal((40, 40), 1), "w1"),
        helper.make_tensor("codes", onnx.TensorProto.INT4, [6], [1, 2, 3, 4, 5, 6]),
        helper.make_tensor("words", onnx.TensorProto.STRING, [1], [b"x" * 2000]),
    ]
    source = save(build(nodes_of("w0", "w1"), tensors, {"x": (3, 40)}), tmp_path / "float.onnx")
    qsdk.quantize_file(source, tmp_path / "q.onnx", qsdk.Recipe(method="rtn", include=("m0",)))
    assert len(list(tmp_path.glob("*.data"))) == 1
    onnx.checker.check_model(str(tmp_path / "q.onnx"), full_check=True)
    feeds = {"x": normal((3, 40), 2)}
    assert qsdk.metrics.sqnr_db(run(source, feeds)[0], run(tmp_path / "q.onnx", feeds)[0]) > 30


def test_layers_of_one_name_are_told_apart(tmp_path: Path) -> None:
    nodes = nodes_of("w1", "w2")
    nodes[0].name, nodes[1].name = "w2", ""
    tensors = [numpy_helper.from_array(normal((8, 8), i), f"w{i}") for i in (1, 2)]
    source = save(build(nodes, tensors, {"x": (3, 8)}), tmp_path / "float.onnx")
    report = qsdk.quantize_file(source, tmp_path / "q.onnx", "rtn")
    assert [layer.name for layer in report.layers] == ["w2", "w2_2"]
    assert len(quantized_nodes(tmp_path / "q.onnx")) == 2


def test_a_weight_behind_two_transposes_leaves_no_float_behind(tmp_path: Path) -> None:
    nodes = [
        helper.make_node("Transpose", ["w"], ["t1"], perm=[1, 0]),
        helper.make_node("Transpose", ["w"], ["t2"], perm=[1, 0]),
        *nodes_of("t1", "t2"),
    ]
    tensors = [numpy_helper.from_array(normal((40, 40)), "w")]
    source = save(build(nodes, tensors, {"x": (3, 40)}), tmp_path / "float.onnx")
    report = qsdk.quantize_file(source, tmp_path / "q.onnx", "rtn")
    assert len(report.layers) == 2 and report.file_bytes_after < report.file_bytes_before


def test_what_is_left_inside_a_subgraph_is_named(tmp_path: Path) -> None:
    branch = helper.make_graph(
        [helper.make_node("MatMul", ["x", "inner_w"], ["inner"])],
        "then",
        [],
        [helper.make_tensor_value_info("inner", 1, [3, 6])],
        [numpy_helper.from_array(normal((10, 6)), "inner_w")],
    )
    other = helper.make_graph(
        [helper.make_node("MatMul", ["x", "w"], ["outer"])],
        "else",
        [],
        [helper.make_tensor_value_info("outer", 1, [3, 6])],
    )
    nodes = [
        helper.make_node("MatMul", ["x", "w"], ["h"], name="layer"),
        helper.make_node("ReduceSum", ["h"], ["sum"], keepdims=0),
        helper.make_node("Greater", ["sum", "zero"], ["positive"]),
        helper.make_node("If", ["positive"], ["y"], then_branch=branch, else_branch=other),
    ]
    tensors = [
        numpy_helper.from_array(normal((10, 6)), "w"),
        numpy_helper.from_array(np.float32(0), "zero"),
    ]
    source = save(build(nodes, tensors, {"x": (3, 10)}), tmp_path / "float.onnx")
    report = qsdk.quantize_file(source, tmp_path / "q.onnx", "rtn")
    assert dict(report.kept) == {"inner_w": "inside a If"}


def test_a_small_file_of_many_reshapes_is_read_at_once(tmp_path: Path) -> None:
    """Each doubles the ways to the constant."""
    nodes = [helper.make_node("Reshape", [f"c{i}", f"c{i}"], [f"c{i + 1}"]) for i in range(30)]
    nodes.append(helper.make_node("MatMul", ["x", "c30"], ["y"]))
    graph = helper.make_graph(
        nodes,
        "deep",
        [helper.make_tensor_value_info("x", 1, [1, 1])],
        [helper.make_tensor_value_info("y", 1, [1, 1])],
        [numpy_helper.from_array(np.ones((1,), np.int64), "c0")],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    assert not qsdk.load(save(model, tmp_path / "deep.onnx")).layers


def test_an_element_type_that_does_not_exist_is_refused(tmp_path: Path) -> None:
    constant = numpy_helper.from_array(normal((6, 10)), "value")
    constant.data_type = 99
    node = helper.make_node("Constant", [], ["c"])
    node.attribute.append(onnx.AttributeProto(name="value", type=onnx.AttributeProto.TENSOR))
    node.attribute[0].t.CopyFrom(constant)
    model = model_of(CASES[7])
    model.graph.node.insert(0, node)
    with pytest.raises(FileRefusedError, match=r"float.onnx is no sound ONNX model"):
        qsdk.load(save(model, tmp_path / "float.onnx"))


def test_data_outside_that_a_subgraph_uses_is_refused(tmp_path: Path) -> None:
    constant = numpy_helper.from_array(normal((6, 10)), "value")
    constant.ClearField("raw_data")
    constant.data_location = onnx.TensorProto.EXTERNAL
    constant.external_data.add(key="location", value="elsewhere.bin")
    model = model_of(CASES[7])
    model.graph.node.insert(0, helper.make_node("Constant", [], ["c"], value=constant))
    with pytest.raises(FileRefusedError, match="inside a Constant has its data outside"):
        qsdk.load(save(model, tmp_path / "float.onnx"))


def test_float16_weights_that_would_decode_to_infinity_are_refused(tmp_path: Path) -> None:
    weight = np.full(CASES[7].weight_shape, 65504.0)
    weight[0] = -65504.0
    model = model_of(CASES[7], weight=weight, dtype=np.float16)
    source = save(model, tmp_path / "float.onnx")
    with pytest.raises(DataError, match="layer: decoded values do not fit float16"):
        qsdk.quantize_file(source, tmp_path / "q.onnx", "rtn", bits=2)
    assert not (tmp_path / "q.onnx").exists()


def test_a_group_longer_than_a_channel_gives_the_codes_of_the_channel() -> None:
    weight = normal((16, 8, 3, 3))
    channel = qsdk.registry.get("squant", bits=4).quantize(weight)
    group = qsdk.registry.get("squant", bits=4, group_size=128).quantize(weight)
    np.testing.assert_array_equal(group.codes, channel.codes)
    huge = qsdk.registry.get("squant", bits=4, group_size=10**15).quantize(weight)
    np.testing.assert_array_equal(huge.dequantize(), channel.dequantize())


def test_an_encoding_that_is_not_installed_is_refused_with_the_package_to_install(
    tmp_path: Path,
) -> None:
    qsdk.quantize_file(save(model_of(CASES[0]), tmp_path / "f.onnx"), tmp_path / "q.onnx", bits=3)
    proto = onnx.load(tmp_path / "q.onnx")
    names = [*proto.functions, *(n for n in proto.graph.node if n.domain == "qsdk")]
    for item in names:
        field = "name" if isinstance(item, onnx.FunctionProto) else "op_type"
        setattr(item, field, "Dequantize_foreign")
    (noted,) = proto.metadata_props
    noted.value = noted.value.replace(f"qsdk {qsdk.__version__}", "acme-nets 2.1")
    with pytest.raises(FileRefusedError) as caught:
        qsdk.load(save(proto, tmp_path / "foreign.onnx"))
    assert "no encoding named 'foreign'" in str(caught.value)
    assert str(caught.value).endswith("acme-nets 2.1: pip install 'acme-nets==2.1'")
