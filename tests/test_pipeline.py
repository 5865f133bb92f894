"""The main job: every problem first, then a tensor at a time, whole or absent, and proven."""

from __future__ import annotations

import hashlib
import json
import subprocess
import sys
from pathlib import Path

import ml_dtypes
import numpy as np
import pytest

import qsdk
from qsdk import Container, Recipe, Rule, TensorFile, registry
from qsdk.errors import (
    DataError,
    FileRefusedError,
    NothingQuantizedError,
    PreflightError,
    QsdkError,
    SchemeError,
)
from qsdk.storage import write_tensors

BENCH = Path(__file__).parent / "bench" / "memory.py"


def some_tensors():
    rng = np.random.default_rng(0)

    def normal(*shape):
        return rng.standard_normal(shape).astype(np.float32)

    return {
        "conv.weight": normal(8, 4, 3, 3),
        "conv.bias": normal(8),
        "fc.weight": normal(10, 32),
        "ids": np.arange(6).reshape(2, 3),
        "last.weight": normal(5, 10).astype(np.float16),
    }


def save(path, tensors):
    with write_tensors(path, {"by": "the test"}) as writer:
        for name, array in tensors.items():
            writer.add(name, array)
    return path


@pytest.fixture
def source(tmp_path):
    return save(tmp_path / "in.safetensors", some_tensors())


@pytest.fixture
def output(tmp_path):
    return tmp_path / "out.safetensors"


def test_a_file_is_quantized_layer_by_layer_and_the_rest_passes_through(source, output):
    report = qsdk.quantize_file(source, output, "squant", bits=4)
    written, tensors = Container(output), some_tensors()
    assert list(TensorFile(output).tensors)[:3] == [
        f"conv.weight:{part}" for part in ("packed", "scale", "zero_point")
    ]
    assert sorted(written) == sorted(tensors)
    for name in ("conv.weight", "fc.weight", "last.weight"):
        expected = registry.get("squant", bits=4).quantize(tensors[name])
        assert np.array_equal(written[name].codes, expected.codes)
        assert np.array_equal(written[name].scale, expected.scale)
    for name in ("conv.bias", "ids"):
        assert written[name].dtype == tensors[name].dtype
        assert np.array_equal(written[name], tensors[name])
    assert [row.name for row in report.layers] == ["conv.weight", "fc.weight", "last.weight"]


def test_the_report_says_what_was_done_in_numbers(source, output):
    report = qsdk.quantize_file(source, output, "rtn", bits=4, group_size=16)
    tensors = some_tensors()
    assert (report.source, report.output) == ("in.safetensors", "out.safetensors")
    assert report.file_bytes_before == source.stat().st_size
    assert report.file_bytes_after == output.stat().st_size
    row = report.layers[1]
    encoding = Container(output)["fc.weight"]
    assert row.shape == (10, 32) and row.method == "rtn"
    assert (row.stored_before, row.stored_after) == ("float32", "int4 per_group of 16")
    assert row.nbytes_before == 10 * 32 * 4 and row.nbytes_after == encoding.nbytes
    assert row.sqnr_db == qsdk.metrics.sqnr_db(tensors["fc.weight"], encoding.dequantize())
    assert row.max_error == np.abs(tensors["fc.weight"] - encoding.dequantize()).max()
    values = sum(tensors[layer.name].size for layer in report.layers)
    assert report.bits_per_weight == pytest.approx(8 * report.nbytes_after / values)
    document = json.loads(json.dumps(report.to_dict()))
    assert document["layers"][1]["name"] == "fc.weight"
    assert "fc.weight" in str(report) and "3 layers quantized" in report.summary()


def test_an_exact_layer_has_an_infinite_sqnr_and_none_in_json():
    result = qsdk.quantize_model({"w": np.float32([[0, 1, 2, 3]])}, "rtn", bits=2)
    assert result.report.layers[0].sqnr_db == np.inf
    assert result.report.to_dict()["layers"][0]["sqnr_db"] is None


def test_a_model_in_memory_is_quantized_and_left_as_it_was(tmp_path):
    tensors = some_tensors()
    before = {name: array.tobytes() for name, array in tensors.items()}
    result = qsdk.quantize_model(tensors, "rtn", bits=3)
    assert {name: array.tobytes() for name, array in tensors.items()} == before
    layers = {layer.name: layer for layer in result.model.layers}
    assert layers["fc.weight"].stored == "int3 per_channel"
    result.model.save(tmp_path / "a.safetensors")
    again = qsdk.load(tmp_path / "a.safetensors")
    for layer in again.layers:
        assert np.array_equal(layer.weight, layers[layer.name].weight)


def test_file_and_memory_give_the_same_codes(source, output):
    qsdk.quantize_file(source, output, "squant", bits=4)
    result = qsdk.quantize_model(source, "squant", bits=4)
    for layer, other in zip(qsdk.load(output).layers, result.model.layers, strict=True):
        assert np.array_equal(layer.weight, other.weight)


def test_two_runs_write_identical_files(source, tmp_path):
    files = [tmp_path / f"{i}.safetensors" for i in range(2)]
    for path in files:
        qsdk.quantize_file(source, path, "squant", bits=3, range_rule="mse")
    first, second = (path.read_bytes() for path in files)
    assert first == second


def test_c_and_numpy_write_identical_files(source, tmp_path, native, monkeypatch):
    files = [tmp_path / f"{i}.safetensors" for i in range(2)]
    qsdk.quantize_file(source, files[0], "squant", bits=4, range_rule="mse")
    monkeypatch.setenv("QSDK_DISABLE_NATIVE", "1")
    qsdk.quantize_file(source, files[1], "squant", bits=4, range_rule="mse")
    assert files[0].read_bytes() == files[1].read_bytes()


def test_the_file_says_how_it_was_made(source, output):
    qsdk.quantize_file(source, output, "squant", bits=4, stages="EC")
    noted = Container(output).metadata
    assert noted["qsdk_version"] == qsdk.__version__
    assert noted["recipe"]["method"] == "squant"
    assert noted["recipe"]["options"] == {"bits": 4, "stages": "EC"}
    (quantizer,) = noted["quantizers"]
    assert quantizer["name"] == "squant" and quantizer["origin"].startswith("qsdk ")
    assert quantizer["options"]["scheme"]["bits"] == 4
    weight = some_tensors()["last.weight"]
    layer = noted["layers"]["last.weight"]
    assert layer["source_sha256"] == hashlib.sha256(weight.tobytes()).hexdigest()
    assert "conv.bias" not in noted["layers"]


def test_the_schema_version_of_a_file_is_that_of_files(source, tmp_path, monkeypatch):
    pytest.importorskip("onnx", reason="the extra onnx is not installed")
    monkeypatch.setattr("qsdk.storage.container.SCHEMA_VERSION", 7)
    example = registry.find("adapter:onnx").target.example(tmp_path)
    for model in (source, example):
        result = qsdk.quantize_model(model, "rtn")
        assert result.model.metadata["schema_version"] == 7
        assert result.report.to_dict()["schema_version"] == 1


def test_a_qsdk_that_is_replaced_during_the_work_does_not_spoil_it(source, output, monkeypatch):
    def replaced(done, total, name):
        monkeypatch.setattr("importlib.metadata.distribution", None)

    monkeypatch.delitem(vars(qsdk), "__version__", raising=False)
    expected = qsdk.__version__
    qsdk.quantize_file(source, output, "rtn", progress=replaced)
    assert Container(output).metadata["qsdk_version"] == expected


def test_bfloat16_weights_are_quantized(tmp_path, output):
    weight = some_tensors()["fc.weight"].astype(ml_dtypes.bfloat16)
    source = save(tmp_path / "in.safetensors", {"w": weight})
    report = qsdk.quantize_file(source, output, "rtn", bits=4)
    assert report.layers[0].stored_before == "bfloat16"
    expected = registry.get("rtn", bits=4).quantize(weight.astype(np.float32))
    assert np.array_equal(Container(output)["w"].codes, expected.codes)


def test_a_recipe_sends_layers_to_their_own_quantizers(source, output):
    recipe = Recipe(
        method="squant",
        options={"bits": 4},
        exclude=("last*",),
        rules=(Rule(match="fc*", method="rtn", options={"bits": 8}),),
    )
    report = qsdk.quantize_file(source, output, recipe)
    assert {row.name: (row.method, row.stored_after) for row in report.layers} == {
        "conv.weight": ("squant", "int4 per_channel"),
        "fc.weight": ("rtn", "int8 per_channel"),
    }
    assert report.kept == {"last.weight": "left out by the recipe"}
    assert Container(output)["last.weight"].dtype == np.float16


def test_options_of_a_call_are_on_top_of_the_recipes(source, output, tmp_path):
    (tmp_path / "r.toml").write_text('method = "rtn"\n[options]\nbits = 8\nsymmetric = true\n')
    report = qsdk.quantize_file(source, output, tmp_path / "r.toml", bits=3)
    assert report.layers[0].stored_after == "int3 per_channel symmetric"


def test_progress_is_told_before_each_layer_and_at_the_end(source, output):
    told = []
    qsdk.quantize_file(source, output, "rtn", progress=lambda *at: told.append(at))
    assert told == [(0, 3, "conv.weight"), (1, 3, "fc.weight"), (2, 3, "last.weight"), (3, 3, "")]


# Every problem first


def folder_of(path):
    return sorted(p.name for p in path.parent.iterdir())


def test_every_problem_is_found_at_once_and_nothing_is_written(source, tmp_path):
    recipe = Recipe(
        method="squant",
        exclude=("nothing*",),
        rules=(
            Rule(match="conv.weight", options={"axis": 7}),
            Rule(match="fc.weight", method="sqant"),
            Rule(match="last.weight", options={"bts": 4}),
            Rule(match="gone"),
        ),
    )
    before = folder_of(source)
    with pytest.raises(PreflightError) as caught:
        qsdk.quantize_file(source, tmp_path / "no folder" / "out.onnx", recipe)
    problems = caught.value.problems
    expected = [
        "pattern 'nothing*' matches no layer",
        "pattern 'gone' matches no layer",
        "conv.weight: axis 7 does not exist in shape (8, 4, 3, 3)",
        "fc.weight: no quantizer named 'sqant'; did you mean 'squant'",
        "last.weight: squant has no option 'bts'; did you mean 'bits'?",
        "-o cannot be 'out.onnx'",
        "there is no folder",
    ]
    assert len(problems) == len(expected)
    for problem, words in zip(problems, expected, strict=True):
        assert words in problem
    assert str(caught.value).startswith("7 problems found before starting: ")
    assert folder_of(source) == before


def test_nothing_is_read_before_every_problem_is_known(source, output, monkeypatch):
    def read(self):
        raise AssertionError("a weight was read")

    model = qsdk.load(source)
    monkeypatch.setattr(qsdk.Layer, "weight", property(read))
    with pytest.raises(PreflightError, match="axis 9"):
        qsdk.quantize_model(model, "rtn", axis=9)


def test_a_scheme_that_no_layer_can_have_is_found_before_any_work(source, output):
    told = []
    with pytest.raises(PreflightError, match="1 bit"):
        qsdk.quantize_file(
            source, output, "rtn", bits=1, symmetric=True, progress=lambda *at: told.append(at)
        )
    assert told == [] and not output.exists()


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("out.bin", "a safetensors model is written as .safetensors, so -o cannot be 'out.bin'"),
        ("missing/out.safetensors", "there is no folder '.*missing'"),
        ("folder.safetensors", "'folder.safetensors' is a folder"),
    ],
)
def test_an_output_that_cannot_be_written_is_refused_first(source, tmp_path, name, message):
    (tmp_path / "folder.safetensors").mkdir()
    with pytest.raises(PreflightError, match=message):
        qsdk.quantize_file(source, tmp_path / name, "rtn")


def test_a_folder_that_cannot_be_written_to_is_refused_first(source, tmp_path, monkeypatch):
    monkeypatch.setattr("os.access", lambda folder, mode: False)  # root may write anywhere
    with pytest.raises(PreflightError, match="cannot be written to"):
        qsdk.quantize_file(source, tmp_path / "out.safetensors", "rtn")


def test_a_disk_without_room_is_refused_first(source, output, monkeypatch):
    usage = type("Usage", (), {"free": 10})
    monkeypatch.setattr("shutil.disk_usage", lambda folder: usage)
    with pytest.raises(PreflightError, match=r"the disk of .* has less than half the model's size"):
        qsdk.quantize_file(source, output, "rtn")


def test_an_unknown_glob_is_refused_by_name(source, output):
    with pytest.raises(PreflightError, match=r"pattern 'convv\*' matches no layer"):
        qsdk.quantize_file(source, output, Recipe(include=("*", "convv*")))
    assert not output.exists()


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("none.safetensors", "there is no file"),
        (".", "is not a file"),
        ("a.xyz", r"no adapter opens 'a.xyz'; known: .*safetensors \(.safetensors\)"),
    ],
)
def test_a_source_that_nothing_opens_is_refused(tmp_path, output, name, message):
    (tmp_path / "a.xyz").write_bytes(b"?")
    with pytest.raises(FileRefusedError, match=message):
        qsdk.quantize_file(tmp_path / name, output)


def test_an_object_that_nothing_opens_is_refused():
    with pytest.raises(FileRefusedError, match=r"no adapter opens a list; known: .*numpy"):
        qsdk.load([1, 2])


# A run that changes nothing


@pytest.mark.parametrize(
    "tensors",
    [{}, {"bias": np.zeros(3, np.float32)}, {"ids": np.zeros((2, 2), int)}],
    ids=["nothing", "vectors", "integers"],
)
def test_a_model_without_weights_fails(tmp_path, output, tensors):
    source = save(tmp_path / "in.safetensors", tensors)
    with pytest.raises(NothingQuantizedError, match="no layer would be quantized"):
        qsdk.quantize_file(source, output)
    assert not output.exists()


def test_a_run_that_leaves_out_everything_fails_with_the_reason(source, output):
    with pytest.raises(NothingQuantizedError, match=r"conv.weight: left out by the recipe"):
        qsdk.quantize_file(source, output, Recipe(exclude=("*",)))


def test_a_model_that_is_quantized_already_fails_with_the_reason(source, output, tmp_path):
    qsdk.quantize_file(source, output, "rtn", bits=4)
    with pytest.raises(NothingQuantizedError, match=r"fc.weight: already int4 per_channel"):
        qsdk.quantize_file(output, tmp_path / "again.safetensors", "rtn", bits=2)


def test_layers_that_are_quantized_already_are_kept_to_the_bit(source, output, tmp_path):
    qsdk.quantize_file(source, output, Recipe(method="rtn", include=("fc*",)), bits=3)
    second = tmp_path / "second.safetensors"
    report = qsdk.quantize_file(output, second, "squant", bits=8)
    assert report.kept == {"fc.weight": "already int3 per_channel"}
    assert [row.name for row in report.layers] == ["conv.weight", "last.weight"]
    first, then = TensorFile(output), TensorFile(second)
    for part in ("packed", "scale", "zero_point"):
        name = f"fc.weight:{part}"
        assert first.read(name).tobytes() == then.read(name).tobytes()


def losing(model, lost):
    """The model as an adapter with a fault would write it: without the encodings of ``lost``."""
    write = model.write

    def faulty(path, encodings=(), metadata=dict):
        return write(path, ((n, e) for n, e in encodings if n not in lost), metadata)

    model.write = faulty
    return model


@pytest.mark.parametrize("before", [None, "fc*"])
def test_an_adapter_that_loses_a_layer_is_caught(source, output, tmp_path, monkeypatch, before):
    if before:  # what was quantized before does not count
        qsdk.quantize_file(source, output, Recipe(method="rtn", include=(before,)))
        source = output.rename(tmp_path / "half.safetensors")
    load = qsdk.load
    opened = []

    def first_faulty(path):
        opened.append(path)
        return losing(load(path), {"last.weight"}) if len(opened) == 1 else load(path)

    monkeypatch.setattr("qsdk.pipeline.load", first_faulty)
    with pytest.raises(NothingQuantizedError, match=r"of \d layers are quantized in out.saf"):
        qsdk.quantize_file(source, output, "rtn", bits=4)


def test_a_quantizer_that_gives_another_shape_is_caught(source, output, monkeypatch):
    from qsdk_plugins.rtn import RoundToNearest

    quantize = RoundToNearest.quantize
    monkeypatch.setattr(
        RoundToNearest, "quantize", lambda self, w, *, layer=None: quantize(self, w[:1])
    )
    with pytest.raises(DataError, match=r"rtn gave \(1, 4, 3, 3\) for conv.weight of \(8, 4"):
        qsdk.quantize_file(source, output, "rtn")
    assert not output.exists()


# Interruption and failure


@pytest.mark.parametrize("error", [KeyboardInterrupt, RuntimeError])
@pytest.mark.parametrize("at", [0, 1, 3])
def test_an_interrupted_run_leaves_the_old_file_whole_and_nothing_beside(source, output, error, at):
    output.write_bytes(b"the old file")

    def interrupt(done, total, name):
        if done == at:
            raise error

    with pytest.raises(error):
        qsdk.quantize_file(source, output, "rtn", progress=interrupt)
    assert output.read_bytes() == b"the old file"
    assert folder_of(output) == ["in.safetensors", "out.safetensors"]


def test_a_weight_with_nan_is_refused_by_layer_and_position_and_nothing_is_left(tmp_path, output):
    tensors = some_tensors()
    tensors["fc.weight"][3, 5] = np.nan
    source = save(tmp_path / "in.safetensors", tensors)
    with pytest.raises(DataError, match=r"fc.weight holds nan at \[3, 5\]"):
        qsdk.quantize_file(source, output, "rtn")
    assert folder_of(output) == ["in.safetensors"]


def test_the_output_may_take_the_place_of_the_source(source):
    expected = registry.get("rtn", bits=4).quantize(some_tensors()["fc.weight"])
    size = source.stat().st_size
    report = qsdk.quantize_file(source, source, "rtn", bits=4)
    assert np.array_equal(Container(source)["fc.weight"].codes, expected.codes)
    assert (report.file_bytes_before, report.file_bytes_after) == (size, source.stat().st_size)


def test_names_that_collide_with_the_parts_of_a_layer_are_refused(tmp_path, output):
    weight = some_tensors()["fc.weight"]
    source = save(tmp_path / "in.safetensors", {"w": weight, "w:scale": np.ones(3, np.float32)})
    with pytest.raises(PreflightError, match=r"'w:scale' is named like a part of .* 'w'; rename"):
        qsdk.quantize_file(source, output, "rtn")
    assert not output.exists()
    result = qsdk.quantize_model(source, "rtn")
    with pytest.raises(QsdkError, match="two tensors would be named 'w:scale'"):
        result.model.save(output)
    assert not output.exists()


def test_a_colon_in_a_name_is_no_collision(tmp_path, output):
    weight = some_tensors()["fc.weight"]
    names = ("w:0", "v:0", "a:b:c", "a", ":")
    source = save(tmp_path / "in.safetensors", dict.fromkeys(names, weight))
    qsdk.quantize_file(source, output, Recipe(method="rtn", include=("w:0", "v:0", "a:b:c")))
    qsdk.quantize_file(source, output, "rtn")
    assert set(Container(output)) == set(names)


def test_arrays_that_the_file_cannot_hold_are_found_before_any_work(output, tmp_path):
    np.savez(tmp_path / "in.npz", w=some_tensors()["fc.weight"], names=np.array(["a", "b"]))
    with pytest.raises(PreflightError, match="'names' is <U1, which safetensors cannot hold"):
        qsdk.quantize_file(tmp_path / "in.npz", output, "rtn")
    with pytest.raises(QsdkError, match="'names' is <U1, which safetensors cannot hold"):
        qsdk.quantize_model(tmp_path / "in.npz", "rtn").model.save(output)
    assert not output.exists()


# A plugin of a stranger


def test_a_conflict_that_the_recipe_settles_is_settled_to_the_end(source, output, monkeypatch):
    from qsdk.plugins import Plugin, find_plugins, new_manager
    from qsdk_plugins.rtn import RoundToNearest

    class Other(RoundToNearest):
        name = "rtn"

    def hook():
        return [Other]

    hook.__name__ = "qsdk_quantizers"
    module = type(sys)("fake_other_rtn")
    module.qsdk_quantizers = qsdk.hookimpl(hook)
    monkeypatch.setitem(sys.modules, "fake_other_rtn", module)
    found = [Plugin("rtn", "other", "9.9", "fake_other_rtn"), *find_plugins()]
    monkeypatch.setattr(qsdk.registry.registry, "_plugins", found)
    monkeypatch.setattr(qsdk.registry.registry, "_manager", new_manager())
    with pytest.raises(PreflightError, match=r"claimed by other 9.9 and qsdk"):
        qsdk.quantize_file(source, output, "rtn", bits=4)
    qsdk.quantize_file(source, output, "other:rtn", bits=4)
    (quantizer,) = Container(output).metadata["quantizers"]
    assert quantizer["origin"] == "other 9.9"


def test_an_axis_that_the_model_lacks_is_told_for_every_layer():
    with pytest.raises(PreflightError) as caught:
        qsdk.quantize_model(some_tensors(), "rtn", axis=2)
    assert [p.split(":")[0] for p in caught.value.problems] == ["fc.weight", "last.weight"]
    assert not isinstance(caught.value, SchemeError)


# Memory


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="reads RssAnon from /proc")
@pytest.mark.parametrize("method", ["squant", "rtn"])
def test_memory_is_bounded_by_the_largest_tensor(method):
    command = [sys.executable, BENCH, "--megabytes=80", "--tensors=8", "--method", method, "--json"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    figures = json.loads(done.stdout)
    assert figures["peak_mb"] <= figures["limit_mb"] == 3 * 10 + 150
    # What the run adds to an idle Python with everything imported: no second copy of the file.
    assert figures["peak_mb"] - figures["idle_mb"] <= 8 * 10


def test_a_second_run_keeps_what_the_first_noted_of_its_layers(tmp_path):
    arrays = {name: np.linspace(-1, 1, 24, dtype=np.float32).reshape(4, 6) for name in "ab"}
    first = qsdk.quantize_model(arrays, qsdk.Recipe(method="rtn", include=("a",)), bits=8).model
    first.save(tmp_path / "first.safetensors")
    second = qsdk.quantize_model(tmp_path / "first.safetensors", "squant", bits=4).model
    made = second.metadata
    by = {name: made["quantizers"][noted["quantizer"]] for name, noted in made["layers"].items()}
    assert {name: quantizer["name"] for name, quantizer in by.items()} == {
        "a": "rtn",
        "b": "squant",
    }
