"""The word model of the shared data as ONNX, and text to feed it."""

from __future__ import annotations

import lzma
from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper
from safetensors.numpy import load_file

HIDDEN, WORDS = 300, 10_000


def onnx_gates(rows: np.ndarray) -> np.ndarray:
    """From the file's i, f, g, o to ONNX's i, o, f, c."""
    i, f, g, o = np.split(rows, 4)
    return np.concatenate([i, o, f, g])


def word_model(folder: Path) -> onnx.ModelProto:
    """Embedding, LSTM, projection: words (time, batch) and a state in, logits and a state out."""
    arrays = load_file(folder / "ptb_lstm300.safetensors")
    tensors = {
        "embedding": arrays["embedding"],
        "w": onnx_gates(arrays["W_ih"])[None],
        "r": onnx_gates(arrays["W_hh"])[None],
        "b": np.concatenate([onnx_gates(arrays[n]) for n in ("b_ih", "b_hh")])[None],
        "softmax": np.ascontiguousarray(arrays["softmax_W"].T),
        "softmax.b": arrays["softmax_b"],
        "direction": np.array([1]),
    }
    nodes = [
        helper.make_node("Gather", ["embedding", "words"], ["e"], name="embedding"),
        helper.make_node(
            "LSTM", ["e", "w", "r", "b", "", "h", "c"], ["y", "h_out", "c_out"],
            name="lstm", hidden_size=HIDDEN,
        ),
        helper.make_node("Squeeze", ["y", "direction"], ["s"], name="squeeze"),
        helper.make_node("MatMul", ["s", "softmax"], ["m"], name="softmax"),
        helper.make_node("Add", ["m", "softmax.b"], ["logits"], name="softmax.bias"),
    ]  # fmt: skip
    states = [info(name, 1, "batch", HIDDEN) for name in ("h", "c", "h_out", "c_out")]
    words = helper.make_tensor_value_info("words", TensorProto.INT64, ["time", "batch"])
    graph = helper.make_graph(
        nodes,
        "words",
        [words, *states[:2]],
        [info("logits", "time", "batch", WORDS), *states[2:]],
        [numpy_helper.from_array(array, name) for name, array in tensors.items()],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 21)], ir_version=10)


def info(name: str, *shape: int | str) -> onnx.ValueInfoProto:
    return helper.make_tensor_value_info(name, TensorProto.FLOAT, shape)


def some_words(folder: Path, count: int) -> np.ndarray:
    """The first words of the test text, by number."""
    number = {w: i for i, w in enumerate((folder / "ptb_vocab.txt").read_text().split())}
    with lzma.open(folder / "ptb.test.txt.xz", "rt") as file:
        text = file.read().replace("\n", " <eos> ").split()
    return np.array([number[word] for word in text[:count]])


def feeds(words: np.ndarray) -> dict[str, np.ndarray]:
    zero = np.zeros((1, 1, HIDDEN), np.float32)
    return {"words": words[:, None], "h": zero, "c": zero}


def loss(logits: np.ndarray, targets: np.ndarray) -> float:
    """Mean of -log p, in nats a word."""
    x = logits[:, 0].astype(np.float64)
    x -= x.max(axis=1, keepdims=True)
    return float(np.mean(np.log(np.exp(x).sum(axis=1)) - x[np.arange(len(x)), targets]))
