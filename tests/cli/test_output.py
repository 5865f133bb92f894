"""Tables, notes and progress on a terminal and in a log."""

from __future__ import annotations

import os
import re
import subprocess
import sys

import numpy as np
import pytest

from qsdk.cli.output import Output, plain, plain_table
from qsdk.cli.progress import lines

pty = pytest.importorskip("pty", reason="no pseudo-terminals on this system")


def on_a_terminal(*words, **environment):
    """What a terminal of 100 columns is sent."""
    here, there = pty.openpty()
    process = subprocess.Popen(
        [sys.executable, "-m", "qsdk", *map(str, words)],
        stdin=subprocess.DEVNULL,
        stdout=there,
        stderr=there,
        env={**os.environ, "TERM": "xterm-256color", "COLUMNS": "100", **environment},
    )
    os.close(there)
    sent = b""
    try:
        while data := os.read(here, 65536):
            sent += data
    except OSError:  # the other end is closed
        pass
    os.close(here)
    assert process.wait(30) == 0
    return sent.decode()


def test_a_terminal_gets_a_bar_and_a_table_with_whole_names(weights, tmp_path):
    text = on_a_terminal("quantize", weights, "-o", tmp_path / "o.safetensors")
    assert "\x1b[" in text and "quantizing" in text
    assert "head[red].weight" in text and "int4 per_channel" in text


def test_no_color_is_respected(weights, tmp_path):
    text = on_a_terminal("quantize", weights, "-o", tmp_path / "o.safetensors", NO_COLOR="1")
    assert not re.search(r"\x1b\[[0-9;]*3[0-9]m", text) and "head[red].weight" in text


def test_a_narrow_terminal_folds_but_loses_nothing(tmp_path):
    np.savez(tmp_path / "m.npz", **{"[j]" * 60: np.ones((2, 3), np.float32)})
    text = on_a_terminal("inspect", tmp_path / "m.npz", COLUMNS="60", NO_COLOR="1")
    text = re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]", "", text)
    assert text.count("j") == text.count("[") == 60
    assert max(map(len, text.splitlines()[:8])) <= 60
    assert "2x3" in text and "float32" in text


def test_quiet_on_a_terminal_is_quiet(weights, tmp_path):
    assert on_a_terminal("quantize", weights, "-o", tmp_path / "o.safetensors", "--quiet") == ""


def test_a_log_gets_plain_lines(run, weights, tmp_path):
    result = run("quantize", weights, "-o", tmp_path / "o.safetensors")
    assert "\x1b" not in result.stdout + result.stderr


def test_progress_in_a_log_comes_in_few_lines(capsys):
    with lines("working", between=0.0) as advance:
        advance(1, 5, "a\x1b")
    with lines("working", between=60.0) as advance:
        for done in range(1000):
            advance(done, 1000, "b")
    with lines("running", between=0.0) as advance:
        advance(3, 0, "batches")
    assert capsys.readouterr().err == "working: 1 of 5, 0 s left a\\x1b\nrunning: 3 batches\n"


def test_json_has_no_number_that_is_none():
    value = {"a": np.float32(1.5), "b": [np.inf, -np.inf, np.nan], "c": (np.int64(3), True, None)}
    assert plain(value) == {"a": 1.5, "b": [None, None, None], "c": [3, True, None]}
    assert plain({"x": frozenset([2]), "y": np.arange(2)}) == {"x": [2], "y": [0, 1]}


def test_an_empty_table_is_its_heads():
    assert plain_table(["a", ">b"], []) == "a  b"


def test_an_output_for_json_prints_nothing_but_the_document(capsys):
    output = Output(as_json=True)
    output.say("text")
    output.table(["a"], [["b"]])
    output.note("beside")
    output.document({"x": 1})
    captured = capsys.readouterr()
    assert captured.out == '{\n  "schema_version": 1,\n  "x": 1\n}\n' and captured.err == "beside\n"
