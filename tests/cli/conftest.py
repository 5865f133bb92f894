"""The command line in this process and in others, and small files to give it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import textwrap
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner

import qsdk
from qsdk.cli.main import qsdk as group

# As the installed command does it, but interruptible even where a parent ignores SIGINT.
START = (
    "import signal; signal.signal(signal.SIGINT, signal.default_int_handler);"
    "from qsdk.__main__ import main; main()"
)


@pytest.fixture
def run():
    """Run a verb in this process; ``result.document`` is what --json printed."""

    def call(*words, status=0):
        words = [str(word) for word in words]
        result = CliRunner().invoke(group, words, catch_exceptions=False)
        shown = f"{words}\nstdout: {result.stdout}\nstderr: {result.stderr}"
        assert result.exit_code == status, f"exit status {result.exit_code} of {shown}"
        assert "Traceback" not in result.stderr or "--traceback" in words, shown
        result.document = json.loads(result.stdout) if "--json" in words else None
        return result

    return call


@pytest.fixture
def start():
    """Start a process of the command line, with more environment variables."""

    def call(*words, **environment):
        env = {**os.environ, **{name: str(value) for name, value in environment.items()}}
        return subprocess.Popen(
            [sys.executable, "-c", START, *map(str, words)],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env=env,
        )

    return call


@pytest.fixture
def spawn(start):
    """Run a verb in a process of its own: (exit status, stdout, stderr)."""

    def call(*words, **environment):
        process = start(*words, **environment)
        stdout, stderr = process.communicate(timeout=60)
        return process.returncode, stdout, stderr

    return call


@pytest.fixture(scope="session")
def weights(tmp_path_factory) -> Path:
    """A safetensors file of three layers and a bias."""
    rng = np.random.default_rng(3)
    arrays = {
        "conv.weight": rng.normal(size=(8, 4, 3, 3)),
        "fc.weight": rng.normal(size=(10, 32)),
        "head[red].weight": rng.normal(size=(5, 16)),
        "fc.bias": rng.normal(size=10),
    }
    path = tmp_path_factory.mktemp("weights") / "weights.safetensors"
    qsdk.load({name: array.astype(np.float32) for name, array in arrays.items()}).save(path)
    return path


@pytest.fixture(scope="session")
def digits() -> Path:
    """The network that ships with qsdk."""
    pytest.importorskip("onnxruntime", reason="the extra onnx is not installed")
    return Path(qsdk.__file__).parent / "demo" / "digits.onnx"


@pytest.fixture(scope="session")
def images() -> np.ndarray:
    """What that network takes; see qsdk/demo/SOURCE.md."""
    with np.load(Path(qsdk.__file__).parent / "demo" / "digits.npz") as file:
        return (file["images"] / 16).astype(np.float32)[:, np.newaxis]


@pytest.fixture(scope="session")
def labels() -> np.ndarray:
    with np.load(Path(qsdk.__file__).parent / "demo" / "digits.npz") as file:
        return file["labels"]


@pytest.fixture
def plugin(tmp_path):
    """Install a module as a plugin into a folder for PYTHONPATH: ``plugin(name, code)``."""

    def install(name, code):
        folder = tmp_path / "site"
        info = folder / f"{name}-1.5.dist-info"
        info.mkdir(parents=True)
        (folder / f"{name}.py").write_text(textwrap.dedent(code))
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.5\n")
        (info / "entry_points.txt").write_text(f"[qsdk]\n{name} = {name}\n")
        return folder

    return install
