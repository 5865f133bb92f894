"""The script behind the page on other tools: each maker makes a sound file and tells its cost."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path

import numpy as np
import pytest

import qsdk

SCRIPT = Path(__file__).parent.parent.parent / "docs" / "examples" / "tool_comparison.py"
DEMO = Path(qsdk.__file__).parent / "demo"


@pytest.fixture(scope="module")
def script():
    spec = importlib.util.spec_from_file_location("tool_comparison", SCRIPT)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def images():
    with np.load(DEMO / "digits.npz") as file:
        return (file["images"] / 16).astype(np.float32)[:, np.newaxis]


@pytest.mark.parametrize("tool", ["qsdk int8", "onnxruntime MinMax", "onnxruntime Percentile"])
def test_a_tool_makes_a_file_in_a_process_of_its_own(tool, script, images, tmp_path):
    pytest.importorskip("onnxruntime", reason="the extra onnx is not installed")
    data, target = tmp_path / "x.npy", tmp_path / "out.onnx"
    np.save(data, images[:32])
    cost = script.made_by(sys.executable, tool, str(DEMO / "digits.onnx"), str(target), str(data))
    assert cost["seconds"] > 0 and 30 < cost["megabytes"] < 2000
    answers = [
        qsdk.load(path).run({"input": images[:200]})["logits"]
        for path in (DEMO / "digits.onnx", target)
    ]
    assert qsdk.metrics.agreement(*answers) > 0.95


def test_a_tool_that_fails_says_why(script, tmp_path):
    words = ["qsdk int8", str(tmp_path / "no.onnx"), str(tmp_path / "out.onnx"), "no.npy"]
    with pytest.raises(RuntimeError, match=r"no\.npy"):
        script.made_by(sys.executable, *words)
