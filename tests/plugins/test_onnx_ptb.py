"""A trained LSTM in 2 bits, weights and inputs: one file, the same loss in both runtimes."""

from __future__ import annotations

import time
from pathlib import Path

import numpy as np
import onnx
import pytest

import qsdk

from .ptb_onnx import feeds, loss, some_words, word_model


@pytest.fixture(scope="module")
def files(shared: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("ptb")
    onnx.save(word_model(shared / "data" / "ptb"), folder / "float.onnx")
    recipe = qsdk.Recipe(method="greedy", options={"bits": 2}, activations="binary2")
    qsdk.quantize_file(folder / "float.onnx", folder / "w2a2.onnx", recipe)
    return folder


def test_the_file_is_13_times_smaller(files: Path) -> None:
    sizes = [(files / name).stat().st_size for name in ("float.onnx", "w2a2.onnx")]
    assert sizes[0] / sizes[1] > 13


@pytest.mark.usefixtures("native")
def test_onnxruntime_and_the_session_have_one_loss_and_the_session_is_faster(
    files: Path, shared: Path
) -> None:
    words = some_words(shared / "data" / "ptb", 301)
    model = qsdk.load(files / "w2a2.onnx")
    session = qsdk.Session(model, threads=1)
    assert [piece.kernel.split("-")[0] for piece in session.plan] == [
        "linear", "onnxruntime", "linear",
    ]  # fmt: skip
    seconds, losses = {}, {}
    for name, run in {"onnxruntime": model.run, "session": session.run}.items():
        run(feeds(words[:1]))  # onnxruntime opens the file here
        times = []
        for _ in range(3):
            start = time.perf_counter()
            results = run(feeds(words[:-1]))
            times.append(time.perf_counter() - start)
        seconds[name], losses[name] = min(times), loss(results["logits"], words[1:])
    assert losses["session"] == pytest.approx(losses["onnxruntime"], rel=1e-3)
    assert seconds["session"] < seconds["onnxruntime"], seconds
    exact = qsdk.load(files / "float.onnx").run(feeds(words[:-1]))["logits"]
    assert losses["session"] < loss(exact, words[1:]) + 0.8  # greedy in 2 bits, and no training


def test_a_stream_word_by_word_is_the_whole_text_at_once(files: Path, shared: Path) -> None:
    words = some_words(shared / "data" / "ptb", 20)
    session = qsdk.Session(files / "w2a2.onnx", threads=1)
    whole = session.run(feeds(words))
    given, rows = feeds(words[:1]), []
    for word in words:
        given["words"] = np.array([[word]])
        results = session.run(given)
        given |= {"h": results["h_out"], "c": results["c_out"]}
        rows.append(results["logits"])
    np.testing.assert_allclose(np.concatenate(rows), whole["logits"], rtol=1e-4, atol=1e-4)
