"""Whatever goes wrong: one line, an exit status, and the old file as it was."""

from __future__ import annotations

import errno
import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import qsdk

SLOW = """
    import sys, time
    from typing import ClassVar
    import attrs, qsdk
    from qsdk.registry import get

    @attrs.frozen(kw_only=True)
    class Slow(qsdk.Quantizer):
        name: ClassVar[str] = "slow"
        capabilities: ClassVar = qsdk.Capabilities(bits=range(1, 9))
        def quantize(self, weight, *, layer=None):
            print("at", layer.name, file=sys.stderr, flush=True)
            if layer.name.startswith("fc"):
                time.sleep(60)
            return get("quantizer:rtn").quantize(weight)

    @qsdk.hookimpl
    def qsdk_quantizers():
        return [Slow]
"""


def snapshot(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir() if path.is_file()}


def test_interrupt_leaves_the_old_file_whole(start, plugin, weights, tmp_path):
    site = plugin("slow", SLOW)
    folder = tmp_path / "out"
    folder.mkdir()
    target = folder / "old.safetensors"
    target.write_bytes(weights.read_bytes())
    before = snapshot(folder)
    process = start("quantize", target, "-o", target, "--method", "slow", PYTHONPATH=site)
    while "at fc" not in (line := process.stderr.readline()):
        assert line, process.communicate()
    process.send_signal(signal.SIGINT)
    stdout, stderr = process.communicate(timeout=20)
    assert process.returncode == 130
    assert stderr.strip() == "interrupted; nothing was written" and stdout == ""
    assert snapshot(folder) == before


def test_interrupt_after_the_file_was_written_says_so(run, weights, tmp_path, monkeypatch):
    def interrupted(*args):
        raise KeyboardInterrupt

    pytest.importorskip("matplotlib", reason="the extra report is not installed")
    monkeypatch.setattr("qsdk.html_report.write_report", interrupted)
    target = tmp_path / "o.safetensors"
    words = ["-o", target, "--report", tmp_path / "r.html"]
    result = run("quantize", weights, *words, status=130)
    assert f"interrupted; {target} was written whole, nothing after it" in result.stderr
    assert not qsdk.load(target).layers[0].is_float


def test_interrupt_with_json_is_a_document(run, weights, monkeypatch):
    def interrupted(*args):
        raise KeyboardInterrupt

    monkeypatch.setattr("qsdk.pipeline.load", interrupted)
    error = run("inspect", weights, "--json", status=130).document["error"]
    assert error == {
        "type": "Interrupted",
        "message": "interrupted; nothing was written",
        "exit_status": 130,
    }


@pytest.mark.parametrize("call", ["fsync", "replace"])
def test_full_disk_leaves_the_old_file_whole(run, weights, tmp_path, monkeypatch, call):
    target = tmp_path / "old.safetensors"
    target.write_bytes(b"old")

    def full(*args):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(target))

    monkeypatch.setattr(*((os, "fsync") if call == "fsync" else (Path, "replace")), full)
    result = run("quantize", weights, "-o", target, status=1)
    assert result.stderr == f"error: No space left on device: {target}\n"
    assert snapshot(tmp_path) == {"old.safetensors": b"old"}


def test_a_file_that_cannot_grow_leaves_the_old_one_whole(weights, tmp_path):
    target = tmp_path / "old.safetensors"
    target.write_bytes(b"old")
    code = (
        "import resource; resource.setrlimit(resource.RLIMIT_FSIZE, (400, 400));"
        "from qsdk.__main__ import main; main()"
    )
    result = subprocess.run(
        [sys.executable, "-c", code, "quantize", str(weights), "-o", str(target)],
        capture_output=True,
        text=True,
    )
    assert result.returncode == 1
    assert result.stderr.startswith("error: File too large") and result.stderr.count("\n") == 1
    assert snapshot(tmp_path) == {"old.safetensors": b"old"}


@pytest.mark.parametrize("words", [["list"], ["list", "--json"], ["--version"]], ids=" ".join)
def test_standard_output_that_is_full_is_one_line(words):
    buffered = {k: v for k, v in os.environ.items() if k != "PYTHONUNBUFFERED"}
    for environment in (buffered, {**buffered, "PYTHONUNBUFFERED": "1"}):
        with open("/dev/full", "w") as full:
            result = subprocess.run(
                [sys.executable, "-m", "qsdk", *words],
                stdout=full,
                stderr=subprocess.PIPE,
                text=True,
                env=environment,
            )
        assert result.returncode == 1
        assert result.stderr == "error: No space left on device\n"


def test_a_reader_that_goes_away_is_no_error():
    command = f"{sys.executable} -m qsdk list | head -1; exit ${{PIPESTATUS[1]}}"
    result = subprocess.run(["bash", "-c", command], capture_output=True, text=True)
    assert result.returncode == 0 and result.stderr == "" and result.stdout.startswith("kind")


def test_a_fault_is_one_line_and_traceback_shows_where(run, weights, monkeypatch):
    def fault(*args):
        raise ZeroDivisionError("by\nzero")

    monkeypatch.setattr("qsdk.pipeline.load", fault)
    text = run("inspect", weights, status=1).stderr
    assert text.startswith("error: ZeroDivisionError: by zero; this is a fault in qsdk")
    assert text.count("\n") == 1
    text = run("inspect", weights, "--traceback", status=1).stderr
    assert "Traceback" in text and "in fault" in text
    text = run("--traceback", "inspect", weights, status=1).stderr
    assert "in fault" in text


def test_errors_do_not_carry_control_characters_to_the_terminal(run, tmp_path):
    text = run("inspect", tmp_path / "a\x1b[2J.onnx", status=4).stderr
    assert "\x1b" not in text and "[2J.onnx" in text


def mutations(data: bytes, count: int):
    rng = np.random.default_rng(0)
    for n in sorted({0, 1, 7, 8, 9, len(data) // 2, len(data) - 1}):
        yield data[:n]
    head = min(len(data), 4000)
    for _ in range(count):
        changed = bytearray(data)
        for position in rng.integers(0, head, rng.integers(1, 8)):
            changed[position] = rng.integers(0, 256)
        yield bytes(changed)


@pytest.mark.parametrize("kind", ["safetensors", "quantized", "onnx", "npz"])
def test_damaged_files_are_refused_with_a_reason(run, weights, digits, tmp_path, kind):
    """A mutated file may still be one; whatever it is, it is no fault of qsdk."""
    if kind == "onnx":
        source = digits
    elif kind == "npz":
        source = tmp_path / "weights.npz"
        np.savez(source, w=np.ones((3, 4), np.float32))
    else:
        source = weights
    if kind == "quantized":
        run("quantize", weights, "-o", source := tmp_path / "q.safetensors")
    damaged = tmp_path / f"damaged{source.suffix}"
    refused = 0
    for data in mutations(source.read_bytes(), 25):
        damaged.write_bytes(data)
        result = run_any(run, "inspect", damaged)
        if result.exit_code:
            refused += 1
            assert "damaged" in result.stderr or len(result.stderr) > 30
    assert refused >= 7


def run_any(run, *words):
    try:
        return run(*words)
    except AssertionError:
        return run(*words, status=4)


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("text.onnx", b"this is no model\n" * 9),
        ("empty.onnx", b""),
        ("zeros.safetensors", bytes(100)),
        ("text.npz", b"PK nothing"),
        ("model.pt", b"\x80\x04pickle"),
    ],
)
def test_a_file_that_is_no_model_is_refused(run, tmp_path, name, content):
    path = tmp_path / name
    path.write_bytes(content)
    for words in (["inspect", path], ["quantize", path, "-o", tmp_path / "o.safetensors"]):
        result = run(*words, status=4)
        assert result.stderr.startswith("error: ") and name in result.stderr
        assert result.stderr.count("\n") == 1


def test_a_file_that_is_not_there_is_refused(run, tmp_path):
    assert "there is no file" in run("inspect", tmp_path / "x.onnx", status=4).stderr
    assert "is not a file" in run("inspect", tmp_path, status=4).stderr


def test_an_npz_with_a_pickle_is_never_unpickled(run, tmp_path):
    class Bomb:
        def __reduce__(self):
            return (Path.touch, (tmp_path / "exploded",))

    np.savez(tmp_path / "p.npz", w=np.array([Bomb()], dtype=object), allow_pickle=True)
    assert "p.npz" in run("inspect", tmp_path / "p.npz", status=4).stderr
    assert not (tmp_path / "exploded").exists()


def test_json_errors_have_the_schema_version_of_all_documents(run, tmp_path, monkeypatch):
    monkeypatch.setattr("qsdk.cli.output.SCHEMA_VERSION", 7)
    document = run("inspect", tmp_path / "x.onnx", "--json", status=4).document
    assert list(document) == ["schema_version", "error"] and document["schema_version"] == 7


def test_json_errors_name_their_type(run, tmp_path):
    error = run("inspect", tmp_path / "x.onnx", "--json", status=4).document["error"]
    assert error["type"] == "FileRefusedError" and "x.onnx" in error["message"]
    assert json.dumps(error)
