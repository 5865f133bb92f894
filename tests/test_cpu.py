"""CPU features: found, taken away with all that builds on them, and why a kernel cannot run."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from qsdk import cpu
from qsdk.errors import OptionError

CPUINFO = Path("/proc/cpuinfo")


@pytest.fixture
def of(monkeypatch):
    """Pretend that the CPU has these features, and the user takes those away."""

    def set_to(found, disabled="", available=True):
        monkeypatch.setattr(cpu, "_found", lambda: frozenset(found))
        monkeypatch.setattr(cpu.native, "available", lambda: available)
        monkeypatch.setattr(cpu.native, "reason", lambda: "" if available else "it is not built")
        monkeypatch.setenv("QSDK_DISABLE_CPU_FEATURES", disabled)

    return set_to


ZEN = {"extension", "avx2", "fma", "avx512f", "avx512bw", "avx512vnni"}


def test_every_feature_that_is_found_has_a_name_known_everywhere(native):
    assert cpu.found() <= set(cpu.FEATURES) and cpu.EXTENSION in cpu.found()
    for name in cpu.found():
        assert cpu.FEATURES[name] <= cpu.found()


@pytest.mark.skipif(not CPUINFO.exists(), reason="no /proc/cpuinfo to compare with")
def test_what_is_found_is_what_the_operating_system_says(native):
    said_here = CPUINFO.read_text(encoding="utf-8").splitlines()
    lines = [line for line in said_here if line.startswith(("flags", "Features"))]
    if not lines:
        pytest.skip("this kernel lists no features")
    flags = {flag.replace("_", "") for flag in lines[0].split(":")[1].split()}
    said = {"neon": "asimd", "dotprod": "asimddp"}
    for name in set(cpu.FEATURES) - {cpu.EXTENSION}:
        flag = said.get(name, name).replace("_", "")
        if name in cpu.found():
            assert flag in flags, name
        elif flag in flags and not name.startswith("amx"):  # those need a permission besides
            raise AssertionError(f"{name} is there and was not found")


def test_without_the_extension_there_is_nothing(without_native):
    assert cpu.found() == cpu.features() == frozenset()
    assert "C extension is not in use: switched off by QSDK" in cpu.why_not(
        frozenset({"extension"})
    )
    assert cpu.why_not(frozenset()) == ""


@pytest.mark.parametrize(
    ("words", "gone"),
    [
        ("avx512vnni", {"avx512vnni"}),
        (" AVX512F , ", {"avx512f", "avx512bw", "avx512vnni"}),
        ("avx2", {"avx2", "fma", "avx512f", "avx512bw", "avx512vnni"}),
        ("extension", {"extension"}),
        ("", set()),
    ],
)
def test_what_is_taken_away_takes_all_that_builds_on_it(of, words, gone):
    of(ZEN, words)
    assert cpu.features() == ZEN - gone
    assert cpu.disabled() & ZEN == gone


def test_an_unknown_feature_is_warned_of_and_the_rest_taken_away(of):
    of(ZEN, "avx51,avx512vnni")
    with pytest.warns(UserWarning, match=r"avx51, which is no feature; known: extension, avx2"):
        assert "avx512vnni" not in cpu.features()


def test_taking_away_never_adds(of):
    of({"extension"}, "i8mm")
    assert cpu.features() == {"extension"}


def test_the_reason_names_what_is_missing_or_taken_away(of):
    of(ZEN, "avx512vnni")
    assert cpu.why_not(frozenset({"avx512vnni"})) == (
        "QSDK_DISABLE_CPU_FEATURES takes away avx512vnni"
    )
    assert cpu.why_not(frozenset({"amx_int8", "avx2"})) == "this CPU has no amx_int8"
    assert cpu.why_not(frozenset({"avx2", "extension"})) == ""


@pytest.mark.parametrize(("text", "expected"), [("", 0), ("1", 1), (" 12 ", 12)])
def test_the_number_of_threads_is_read(monkeypatch, text, expected):
    monkeypatch.setenv("QSDK_NUM_THREADS", text)
    assert cpu.threads() == expected


@pytest.mark.parametrize("text", ["0", "-1", "two", "1.5"])
def test_another_number_of_threads_is_refused(monkeypatch, text):
    monkeypatch.setenv("QSDK_NUM_THREADS", text)
    with pytest.raises(OptionError, match=f"QSDK_NUM_THREADS is '{text}'; give a whole number"):
        cpu.threads()


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no fork")
def test_a_forked_child_uses_one_thread():
    read, write = os.pipe()
    child = os.fork()
    if child == 0:
        os.write(write, bytes([cpu.most_threads()]))
        os._exit(0)
    os.waitpid(child, 0)
    assert os.read(read, 1) == b"\x01" and cpu.most_threads() == 0


FORKS = """
import os, sys, numpy as np, qsdk
from qsdk import Scheme

rng = np.random.default_rng(0)
codes = rng.integers(-128, 128, (2048, 2048)).astype(np.int8)
weight = qsdk.Affine.from_codes(codes, np.ones(2048), np.zeros(2048, int), Scheme(symmetric=True))
layer = qsdk.linear(weight, activations="int8", threads=2)
x = rng.normal(size=(64, 2048)).astype(np.float32)
y = layer(x)
if os.fork() == 0:
    os._exit(0 if np.array_equal(layer(x), y) else 3)
sys.exit(os.waitstatus_to_exitcode(os.wait()[1]))
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no fork")
def test_a_layer_that_used_threads_runs_in_a_forked_child():
    # GNU OpenMP would wait for ever: for the threads of a pool that the child does not have.
    done = subprocess.run([sys.executable, "-W", "ignore", "-c", FORKS], timeout=60)
    assert done.returncode == 0
