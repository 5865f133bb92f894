"""Print the table of ``docs/algorithms/aqn-gru.md``: a trained GRU in 2, 3 and 4 bits.

usage: python docs/examples/gru_table.py FOLDER [--method NAME ...]

FOLDER holds what ``train_gru.py`` has written. All four matrices are quantized, without training
again; then the held-out text is read, as 64 texts side by side that start with a state of zeros.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np

import qsdk

MATRICES = ("embedding", "W", "R", "projection")
BITS, TEXTS = (2, 3, 4), 64


def read(folder: Path) -> tuple[dict[str, np.ndarray], np.ndarray]:
    """Weights by name, and the characters of the text as ids, (length, TEXTS)."""
    file = qsdk.TensorFile(folder / "gru.safetensors")
    net = {name: file.read(name).astype(np.float32) for name in file.tensors}
    text = (folder / "held_out.txt").read_bytes().decode()
    ids = np.array([file.metadata["vocabulary"].index(character) for character in text])
    return net, ids[: len(ids) // TEXTS * TEXTS].reshape(TEXTS, -1).T


def bits_per_character(scores: np.ndarray, targets: np.ndarray) -> float:
    scores = scores - scores.max(axis=-1, keepdims=True)
    chosen = np.take_along_axis(scores, targets[..., np.newaxis], axis=-1)[..., 0]
    return float((np.log(np.exp(scores).sum(axis=-1)) - chosen).mean() / np.log(2))


def figures(net: dict[str, np.ndarray], ids: np.ndarray, method: str, bits: int) -> list[str]:
    """Relative MSE of the weights, and the loss without and with coded activations."""
    quantizer = qsdk.registry.get(method, bits=bits)
    codes = {name: quantizer.quantize(net[name]) for name in MATRICES}
    lost = sum(np.square(codes[name].dequantize() - net[name]).sum() for name in MATRICES)
    error = lost / sum(np.square(net[name]).sum() for name in MATRICES)
    embedding = codes["embedding"]
    losses = []
    for activations, rows in ((None, embedding.dequantize()), (f"binary{bits}", embedding.rows())):
        gru = qsdk.gru(
            codes["W"],
            codes["R"],
            bias=net["B"][np.newaxis],
            linear_before_reset=True,
            activations=activations,
        )
        projection = qsdk.linear(codes["projection"], bias=net["bias"], activations=activations)
        y, _ = gru(rows[ids[:-1]])
        losses.append(bits_per_character(projection(y[:, 0]), ids[1:]))
    return [f"{error:.4f}", *(f"{loss:.3f}" for loss in losses)]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--method", action="append")
    options = parser.parse_args()
    net, ids = read(options.folder)
    print("| method | relative MSE | weights | weights and activations |")
    print("| --- | --- | --- | --- |")
    for method in options.method or ["greedy", "refined", "aqn"]:
        columns = zip(*(figures(net, ids, method, bits) for bits in BITS), strict=True)
        print(f"| `{method}` | " + " | ".join(" / ".join(column) for column in columns) + " |")


if __name__ == "__main__":
    main()
