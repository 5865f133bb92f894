"""Kernels that crash, hang or differ are found by the doctor, and do not run any more."""

from __future__ import annotations

import json
import os
import textwrap

import pytest

from qsdk import quarantine
from qsdk.cli import kernel_trial

CODE = """
    import ctypes, os, time
    import numpy as np
    import qsdk
    from qsdk.interfaces import Kernel, Prepared

    class Layer(Prepared):
        def run(self, x, out):
            weight = self.operation.weight.dequantize().astype(np.float64)
            y = x.reshape(out.size // out.shape[-1], x.shape[-1]).astype(np.float64) @ weight.T
            if self.operation.bias is not None:
                y += self.operation.bias
            out[...] = np.clip(y, *self.operation.output.clip).reshape(out.shape)
            if not os.environ.get("MENDED"):
{fault}

    class {name}(Kernel):
        name = "linear-{name}"
        operation = "linear"
        encoding = "affine"
        activations = frozenset({{"float32"}})
        priority = 99
        def prepare(self, operation, *, threads=0):
            return Layer(self, operation)

    @qsdk.hookimpl
    def qsdk_kernels():
        return [{name}]
"""
FAULTS = {
    "crashes": "ctypes.string_at(0)",
    "exits": "os._exit(3)",
    "hangs": "time.sleep(60)",
    "differs": "out *= 2",
    "raises": "raise OSError('no')",
    "reads": "ctypes.string_at(x.ctypes.data + x.nbytes, 1)",
    "writes": "ctypes.memset(out.ctypes.data + out.nbytes, 0, 1)",
    "sound": "pass",
}
REASONS = {
    "crashes": "the process that tried it was killed by SIGSEGV",
    "exits": "the process that tried it ended with exit status 3",
    "hangs": "the process that tried it said nothing for 5 s",
    "differs": "rounding explains",
    "raises": "OSError: no",
    "reads": "the process that tried it was killed by SIGSEGV",
    "writes": "the process that tried it was killed by SIGSEGV",
}


def module(name: str) -> str:
    return CODE.format(name=name, fault=textwrap.indent(FAULTS[name], " " * 16))


@pytest.fixture
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("QSDK_CACHE_DIR", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture(scope="module")
def tried(tmp_path_factory):
    """What the trial says of every one of them, side by side."""
    folder = tmp_path_factory.mktemp("kernels")
    for name in FAULTS:
        info = folder / f"{name}-1.5.dist-info"
        info.mkdir()
        (folder / f"kernel_{name}.py").write_text(textwrap.dedent(module(name)))
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.5\n")
        (info / "entry_points.txt").write_text(f"[qsdk]\n{name} = kernel_{name}\n")
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(folder)
        patch.setattr(kernel_trial, "SECONDS", 5.0)
        names = [f"{name}:kernel:linear-{name}" for name in FAULTS]
        found = kernel_trial.findings([*names, "qsdk:kernel:linear-int8-reference"])
    return {name.rpartition("linear-")[2]: finding for name, finding in found.items()}


@pytest.mark.parametrize("name", REASONS)
def test_the_reason_is_told(tried, name):
    health, reason = tried[name]
    assert health == "quarantined" and REASONS[name] in reason


def test_those_beside_them_are_found_sound(tried):
    assert tried["sound"][0] == tried["int8-reference"][0] == "ok"


def test_a_kernel_in_quarantine_does_not_run_until_it_is_sound_again(spawn, plugin, cache):
    site = plugin("differs", module("differs"))
    status, text, _ = spawn("doctor", "--json", PYTHONPATH=site)
    found = {k["name"]: k for k in json.loads(text)["kernels"]}
    assert status == 5 and found["linear-differs"]["health"] == "quarantined"
    assert found["linear-simulated"]["health"] == "ok"
    assert [path.name for path in cache.iterdir()] == ["quarantine.json"]

    status, text, _ = spawn("cpu", PYTHONPATH=site)
    assert status == 0 and "linear-differs" in text
    assert "in quarantine, because `qsdk doctor` found: " in text
    status, text, _ = spawn("doctor", PYTHONPATH=site)
    assert status == 5 and "in quarantine, and not used here: linear-differs" in text

    status, text, _ = spawn("doctor", PYTHONPATH=site, MENDED=1)
    assert status == 0 and "all is well" in text
    status, text, _ = spawn("cpu", "--json", PYTHONPATH=site)
    mine = [k for k in json.loads(text)["kernels"] if k["kernel"] == "linear-differs"]
    assert mine and all(kernel["runs"] for kernel in mine)


def test_an_isolated_doctor_tries_kernels_without_importing_them(spawn, plugin, cache):
    site = plugin("crashes", module("crashes"))
    status, text, _ = spawn("doctor", "--isolate", "--json", PYTHONPATH=site)
    found = {k["name"]: k["reason"] for k in json.loads(text)["kernels"]}
    assert status == 5 and REASONS["crashes"] in found["linear-crashes"]


def test_a_kernel_that_this_machine_cannot_run_is_skipped_and_said(run, monkeypatch, cache):
    monkeypatch.setenv("QSDK_DISABLE_NATIVE", "1")
    monkeypatch.delenv("QSDK_REQUIRE_NATIVE", raising=False)
    kernels = run("doctor", "--json").document["kernels"]
    for kernel in kernels:
        assert kernel["health"] == "ok" or "C extension is not in use" in kernel["reason"]


def test_a_sound_machine_writes_nothing(run, cache):
    run("doctor")
    assert not cache.exists()


@pytest.mark.skipif(os.name != "posix" or os.geteuid() == 0, reason="root may write anywhere")
def test_a_folder_that_cannot_be_written_is_told(spawn, plugin, cache):
    cache.mkdir(mode=0o500)
    status, _, errors = spawn("doctor", PYTHONPATH=plugin("differs", module("differs")))
    assert status == 5 and "could not be written" in errors


def test_a_cache_that_is_a_file_is_told(spawn, plugin, cache):
    cache.write_text("in the way")
    status, _, errors = spawn("doctor", PYTHONPATH=plugin("differs", module("differs")))
    assert status == 5 and "could not be written" in errors
    assert not quarantine.reason("differs:kernel:linear-differs", "1.5")
