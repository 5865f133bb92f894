"""``qsdk list`` and ``qsdk describe``: what is registered, and what it takes."""

from __future__ import annotations

import json

import pytest

import qsdk
from qsdk.cli.options import options_of

BROKEN = "raise RuntimeError('no good')\n"

CLAIM = """
    from typing import ClassVar
    import attrs, qsdk

    @attrs.frozen(kw_only=True)
    class Claim(qsdk.Quantizer):
        name: ClassVar[str] = "rtn"
        capabilities: ClassVar = qsdk.Capabilities(bits={4})
        def quantize(self, weight, *, layer=None):
            raise NotImplementedError

    @qsdk.hookimpl
    def qsdk_quantizers():
        return [Claim]
"""


def test_list_names_every_entry_with_its_origin(run):
    text = run("list").stdout
    document = run("list", "--json").document
    assert {e["name"] for e in document["entries"]} >= {"squant", "rtn", "minmax", "onnx"}
    for entry in qsdk.registry.entries():
        row = next(r for r in document["entries"] if r["full_name"] == entry.full_name)
        assert row["version"] == entry.version and row["health"] == "ok"
        assert entry.name in text
    assert document["unhealthy"] == document["conflicts"] == []


def test_list_of_one_kind(run):
    entries = run("list", "quantizer", "--json").document["entries"]
    assert {entry["kind"] for entry in entries} == {"quantizer"}
    assert "did you mean 'quantizer'?" in run("list", "quantizers", status=2).stderr


def test_a_broken_plugin_is_listed_with_its_reason_and_hinders_nothing(spawn, plugin):
    site = plugin("shaky", BROKEN)
    status, text, _ = spawn("list", PYTHONPATH=site)
    assert status == 0 and "squant" in text
    assert "broken: shaky:shaky: RuntimeError: no good" in text
    status, text, _ = spawn("list", "--json", PYTHONPATH=site)
    (plugin,) = json.loads(text)["unhealthy"]
    assert (plugin["name"], plugin["version"], plugin["health"]) == ("shaky", "1.5", "broken")
    status, _, text = spawn("describe", "shaky", PYTHONPATH=site)
    assert status == 5 and "no good" in text and text.count("\n") == 1


def test_a_plugin_that_prints_does_not_spoil_the_document(spawn, plugin):
    site = plugin("noisy", "print('HELLO')\nraise SystemExit\n")
    status, text, errors = spawn("list", "--json", PYTHONPATH=site)
    assert status == 0 and json.loads(text)["unhealthy"][0]["name"] == "noisy"
    assert "HELLO" in errors


def test_nor_does_one_whose_c_code_prints(spawn, plugin):
    code = """
        import ctypes, os
        os.write(1, b"FROM C")
        ctypes.CDLL(None).puts(b"HELD BACK BY C")
        raise SystemExit
    """
    status, text, errors = spawn("list", "--json", PYTHONPATH=plugin("noisy", code))
    assert status == 0 and json.loads(text)["unhealthy"][0]["name"] == "noisy"
    assert "FROM C" in errors and "HELD BACK BY C" in errors


def test_a_disabled_plugin_is_listed(spawn):
    status, text, _ = spawn("list", QSDK_DISABLE_PLUGINS="minmax")
    assert status == 0 and "disabled: qsdk:minmax: named in QSDK_DISABLE_PLUGINS" in text


def test_a_name_claimed_twice_is_a_conflict_that_names_both_with_their_versions(spawn, plugin):
    site = plugin("rival", CLAIM)
    names = ["qsdk:quantizer:rtn", "rival:quantizer:rtn"]
    own = qsdk.__version__
    status, text, _ = spawn("list", PYTHONPATH=site)
    assert status == 0
    assert f"conflict: quantizer 'rtn' is claimed by {names[0]} {own} and {names[1]} 1.5" in text
    status, text, _ = spawn("list", "--json", PYTHONPATH=site)
    (conflict,) = json.loads(text)["conflicts"]
    assert conflict["claims"] == names
    assert conflict["versions"] == {names[0]: own, names[1]: "1.5"}


def test_describe_shows_options_limits_paper_and_an_example(run):
    text = run("describe", "squant").stdout
    assert "squant: quantizer of qsdk" in text and "Rounds, then flips" in text
    assert "arXiv:2202.07471" in text and "int4 per_channel" in text
    assert "> 50, <= 100" in text and "E or EK or EC or EKC" in text
    assert "example: qsdk quantize net.onnx -o net-int4.onnx --method squant --bits 4" in text


@pytest.mark.parametrize("entry", qsdk.registry.entries(), ids=lambda entry: entry.full_name)
def test_everything_registered_can_be_described_by_its_full_name(run, entry):
    document = run("describe", entry.full_name, "--json").document
    assert document["full_name"] == entry.full_name and document["example"]
    if entry.kind == "quantizer":
        for option in document["options"]:
            assert option["meaning"], f"{entry.name}: {option['name']} says nothing of itself"


def test_the_example_of_a_quantizer_runs(run, digits, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "net.onnx").write_bytes(digits.read_bytes())
    example = run("describe", "rtn", "--json").document["example"]
    run(*example.split()[1:])
    assert (tmp_path / "net-int8.onnx").exists()


def test_the_defaults_described_are_those_that_are_used():
    quantizer = qsdk.registry.get("squant")
    for option in options_of(type(quantizer)):
        home = quantizer if hasattr(quantizer, option.name) else quantizer.scheme
        assert getattr(home, option.name) == option.default


def test_describe_shows_what_a_kernel_takes_and_whether_it_runs_here(run):
    document = run("describe", "linear-simulated", "--json").document
    assert (document["operation"], document["encoding"]) == ("linear", "*")
    assert document["activations"] == ["fixed_int8", "fixed_uint8", "float32", "int8", "uint8"]
    assert document["on this machine"] == "runs" and document["options"] == []
    assert (
        'qsdk.linear(weight, kernel="linear-simulated")'
        in run("describe", "linear-simulated").stdout
    )


def test_unknown_and_misspelt_names(run):
    result = run("describe", "sqaunt", status=2)
    assert "no plugin named 'sqaunt'; did you mean 'squant'?" in result.stderr
