"""``qsdk demo``: the numbers of qsdk/demo/SOURCE.md, in seconds."""

from __future__ import annotations

import time

import pytest


def test_demo_shows_what_squant_keeps_and_rounding_loses(run, digits):
    start = time.perf_counter()
    document = run("demo", "--json").document
    assert time.perf_counter() - start < 10
    plain, rtn, squant = document["rows"]
    assert document["images"] == 899 and document["bits"] == 4
    assert plain["top1"] > squant["top1"] > rtn["top1"] > 0.9
    assert plain["top1"] == pytest.approx(0.9844, abs=0.002)
    assert rtn["top1"] == pytest.approx(0.9555, abs=0.002)
    assert squant["top1"] == pytest.approx(0.9789, abs=0.002)
    assert squant["ratio"] > 4.5 and squant["file_bytes"] < 45_000


def test_demo_says_how_to_do_it_on_ones_own_model(run, digits):
    text = run("demo", "--bits", "8").stdout
    assert "8-bit round to nearest" in text and "8-bit SQuant" in text
    assert "qsdk quantize MODEL.onnx -o OUT.onnx --method squant --bits 8" in text


def test_demo_without_the_extra_says_what_to_install(run, monkeypatch):
    import sys

    monkeypatch.setitem(sys.modules, "onnx", None)
    result = run("demo", status=5)
    assert result.stderr == "error: onnx is not installed; type: pip install 'qsdk[onnx]'\n"


def test_bits_that_there_are_not(run):
    assert "9 is not in the range 1<=x<=8" in run("demo", "--bits", "9", status=2).stderr
