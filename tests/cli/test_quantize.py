"""``qsdk quantize``: what it writes, what it says, and what it refuses."""

from __future__ import annotations

import json

import numpy as np
import pytest

import qsdk


def test_writes_the_file_and_tells_every_layer(run, weights, tmp_path):
    target = tmp_path / "out.safetensors"
    text = run("quantize", weights, "-o", target, "--method", "rtn", "--bits", "4").stdout
    assert [layer.stored for layer in qsdk.load(target).layers] == ["int4 per_channel"] * 3
    for name in ("conv.weight", "fc.weight", "head[red].weight"):
        assert name in text
    assert "8x4x3x3" in text and "float32 -> int4 per_channel" in text
    assert "3 layers quantized" in text and "bits per weight" in text
    assert "worst: " in text and " dB)" in text
    assert "weights.safetensors" in text and "out.safetensors" in text


def test_what_the_table_says_is_what_the_file_holds(run, weights, tmp_path):
    target = tmp_path / "out.safetensors"
    document = run("quantize", weights, "-o", target, "--bits", "3", "--json").document
    before = {layer.name: layer for layer in qsdk.load(weights).layers}
    for layer, row in zip(qsdk.load(target).layers, document["layers"], strict=True):
        original = before[row["name"]].weight
        assert row["name"] == layer.name and row["nbytes_after"] == layer.nbytes
        assert row["sqnr_db"] == pytest.approx(qsdk.metrics.sqnr_db(original, layer.weight))
        assert row["max_error"] == pytest.approx(np.abs(original - layer.weight).max())
    assert document["schema_version"] == 1 and document["recipe"]["options"] == {"bits": 3}
    assert document["file_bytes_after"] == target.stat().st_size
    ordered = sorted(document["layers"], key=lambda row: row["sqnr_db"])
    assert document["worst"] == [row["name"] for row in ordered]


def test_the_default_is_squant_with_its_own_bits(run, weights, tmp_path):
    document = run("quantize", weights, "-o", tmp_path / "o.safetensors", "--json").document
    assert {row["method"] for row in document["layers"]} == {"squant"}
    assert {row["stored_after"] for row in document["layers"]} == {"int4 per_channel"}


def test_words_of_the_command_line_win_over_the_recipe_file(run, weights, tmp_path):
    recipe = tmp_path / "recipe.toml"
    recipe.write_text(
        'method = "squant"\nexclude = ["head*"]\n[options]\nbits = 8\nrange_rule = "absmax"\n'
    )
    document = run(
        "quantize", weights, "-o", tmp_path / "o.safetensors", "--recipe", recipe,
        "--method", "rtn", "--bits", "5", "--exclude", "conv*", "--symmetric",
        "--group-size", "8", "--option", "range_rule=mse", "--json",
    ).document  # fmt: skip
    assert [row["name"] for row in document["layers"]] == ["fc.weight"]
    assert document["layers"][0]["stored_after"] == "int5 per_group of 8 symmetric"
    assert document["layers"][0]["method"] == "rtn"
    assert document["recipe"]["options"]["range_rule"] == "mse"
    assert document["kept"].keys() == {"conv.weight", "head[red].weight"}


def test_include_and_kept_layers_are_summarised(run, weights, tmp_path):
    target = tmp_path / "o.safetensors"
    text = run("quantize", weights, "-o", target, "--include", "fc.weight").stdout
    assert "kept: 2 left out by the recipe: conv.weight, head[red].weight" in text
    assert "1 layer quantized, 2 kept" in text


def test_output_may_take_the_place_of_the_input(run, weights, tmp_path):
    both = tmp_path / "both.safetensors"
    both.write_bytes(weights.read_bytes())
    run("quantize", both, "-o", both)
    assert not any(layer.is_float for layer in qsdk.load(both).layers)
    assert [path.name for path in tmp_path.iterdir()] == ["both.safetensors"]


def test_a_second_run_changes_nothing_and_says_so(run, weights, tmp_path):
    target = tmp_path / "o.safetensors"
    run("quantize", weights, "-o", target)
    before = target.read_bytes()
    result = run("quantize", target, "-o", target, status=1)
    assert "no layer would be quantized" in result.stderr
    assert "already int4 per_channel" in result.stderr
    assert target.read_bytes() == before


def test_min_sqnr_names_the_layers_below_and_the_file_is_written(run, weights, tmp_path):
    target = tmp_path / "o.safetensors"
    rows = run("quantize", weights, "-o", target, "--json").document["layers"]
    worst, *others = sorted(rows, key=lambda row: row["sqnr_db"])
    target.unlink()
    limit = (worst["sqnr_db"] + others[0]["sqnr_db"]) / 2
    result = run("quantize", weights, "-o", target, "--min-sqnr", limit, status=3)
    assert target.exists()
    assert worst["name"] in result.stderr and f"{limit:g} dB" in result.stderr
    assert not any(other["name"] in result.stderr for other in others)


def test_min_sqnr_with_json_is_still_one_document(run, weights, tmp_path):
    target = tmp_path / "o.safetensors"
    document = run("quantize", weights, "-o", target, "--min-sqnr", 99, "--json", status=3).document
    assert document["error"]["type"] == "QualityError" and len(document["below"]) == 3
    assert len(document["layers"]) == 3
    assert run("quantize", weights, "-o", target, "--min-sqnr", 1).exit_code == 0


def test_quiet_prints_nothing(run, weights, tmp_path):
    result = run("quantize", weights, "-o", tmp_path / "o.safetensors", "--quiet")
    assert result.stdout == result.stderr == ""
    again = run("quantize", weights, "-o", tmp_path / "o.safetensors", "--quiet", "--json")
    assert again.stderr == "" and again.document["layers"]


REFUSALS = {
    "unknown method": (
        ["--method", "sqant"],
        "no quantizer named 'sqant'; did you mean 'squant' or 'easyquant'?",
    ),
    "method of another kind": (["--method", "observer:minmax"], "minmax"),
    "bits too high": (["--bits", "12"], "bits is 12; codes have 1 to 8 bits"),
    "bits no number": (["--bits", "four"], "'four' is not a valid integer"),
    "unknown option": (["--option", "range_rul=mse"], "did you mean 'range_rule'?"),
    "option out of range": (["--option", "keep_percent=10"], "keep_percent"),
    "option without value": (["--option", "bits"], "'bits' has no '='"),
    "option said twice": (["--bits", "4", "--option", "bits=5"], "bits is given as 5 and as 4"),
    "glob of nothing": (["--include", "cnov*"], "'cnov*' matches no layer"),
    "activations of no graph": (["--activations", "binary2"], "cannot say how inputs are coded"),
    "exclude of nothing": (["--exclude", "x"], "'x' matches no layer"),
    "group of zero": (["--group-size", "0"], "group_size is 0"),
    "no recipe": (["--recipe", "nowhere.toml"], "nowhere.toml cannot be read"),
    "wrong suffix": (["-o", "out.onnx"], "written as .safetensors"),
    "no folder": (["-o", "nowhere/out.safetensors"], "there is no folder"),
}


@pytest.mark.parametrize("case", REFUSALS)
@pytest.mark.parametrize("dry_run", [[], ["--dry-run"]], ids=["", "dry"])
def test_wrong_use_is_refused_before_anything_is_written(
    run, weights, tmp_path, monkeypatch, case, dry_run
):
    words, expected = REFUSALS[case]
    monkeypatch.chdir(tmp_path)
    result = run("quantize", weights, "-o", "out.safetensors", *words, *dry_run, status=2)
    assert expected in result.stderr
    assert result.stdout == "" and list(tmp_path.iterdir()) == []


def test_several_problems_stand_on_lines_of_their_own(run, weights, tmp_path):
    words = ["--include", "aaa", "--exclude", "bbb", "--include", "*"]
    result = run("quantize", weights, "-o", tmp_path / "o.safetensors", *words, status=2)
    lines = result.stderr.splitlines()
    assert lines[0] == "error: 2 problems found before starting:"
    assert "'aaa'" in lines[1] and "'bbb'" in lines[2] and len(lines) == 3


def test_what_is_wrong_with_all_layers_is_said_once(run, weights, tmp_path):
    words = ["quantize", weights, "-o", tmp_path / "o.safetensors", "--method", "sqant"]
    text = run(*words, status=2).stderr
    assert text.count("no quantizer named 'sqant'") == 1 and len(text.splitlines()) == 1
    assert "conv.weight, fc.weight, head[red].weight: no quantizer" in text
    error = run(*words, "--json", status=2).document["error"]
    assert error["type"] == "PreflightError" and error["exit_status"] == 2 and error["problems"]


def test_unknown_key_of_a_recipe_file_names_the_nearest(run, weights, tmp_path):
    recipe = tmp_path / "r.toml"
    recipe.write_text('methd = "rtn"')
    result = run("quantize", weights, "--dry-run", "--recipe", recipe, status=2)
    assert "'methd'; did you mean 'method'?" in result.stderr


def test_output_is_asked_for(run, weights):
    assert "-o is missing" in run("quantize", weights, status=2).stderr


def test_dry_run_shows_the_plan_and_writes_nothing(run, weights, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    text = run("quantize", weights, "--dry-run", "--bits", "3").stdout
    assert "float32 -> int3 per_channel" in text and "nothing was written" in text
    assert list(tmp_path.iterdir()) == []


def test_dry_run_estimates_the_bytes_that_are_written(run, weights, tmp_path):
    words = ["--bits", "3", "--group-size", "10", "--json"]
    plan = run("quantize", weights, "--dry-run", *words).document
    done = run("quantize", weights, "-o", tmp_path / "o.safetensors", *words).document
    assert plan["dry_run"] is True
    for word in ("name", "shape", "stored_before", "stored_after", "nbytes_before", "nbytes_after"):
        assert [row[word] for row in plan["layers"]] == [row[word] for row in done["layers"]]


def test_onnx_networks_are_quantized_too(run, digits, tmp_path):
    target = tmp_path / "digits.onnx"
    document = run("quantize", digits, "-o", target, "--bits", "4", "--json").document
    assert len(document["layers"]) == 15 and document["file_bytes_after"] < 50_000
    assert json.dumps(document["notes"]).count("opset")
    assert not any(layer.is_float for layer in qsdk.load(target).layers)


def test_inputs_are_coded_where_the_command_line_says_so(run, digits, tmp_path):
    target = tmp_path / "out.onnx"
    words = ["--method", "greedy", "--bits", "2", "--include", "fc", "--activations", "greedy"]
    more = ["--activation-bits", "3", "--activation-option", "cycles=1"]
    text = run("quantize", digits, "-o", target, *words, *more).stdout
    assert "note: fc: binary3 codes of the input" in text
    table = run("inspect", target).stdout
    assert "binary2 per_channel, input binary3" in table
    forms = {
        x["name"]: x["activations"] for x in run("inspect", target, "--json").document["layers"]
    }
    assert forms.pop("fc") == "binary3" and set(forms.values()) == {"float32"}
    document = run("quantize", digits, "-o", target, *words, *more, "--json").document
    assert document["recipe"]["activations"] == "greedy"
    assert document["recipe"]["activation_options"] == {"bits": 3, "cycles": 1}


def test_files_with_coded_inputs_are_compared(run, digits, tmp_path):
    target = tmp_path / "out.onnx"
    words = ["--method", "greedy", "--bits", "4", "--include", "fc", "--activations", "binary4"]
    run("quantize", digits, "-o", target, *words)
    data = tmp_path / "data.npy"
    np.save(data, np.random.default_rng(0).standard_normal((4, 1, 8, 8)).astype(np.float32))
    document = run("compare", digits, target, "--data", data, "--json").document
    assert document["schema_version"] == 1


def test_bits_of_activations_need_activations(run, digits, tmp_path):
    done = run("quantize", digits, "-o", tmp_path / "o.onnx", "--activation-bits", "2", status=2)
    assert "--activations is missing" in done.stderr
