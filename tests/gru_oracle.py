"""The trained GRU of ``tests/data/gru``, and what it computes, written down in numpy.

A step is vectorized over texts, never over time. Nothing here is shared with qsdk.
"""

from __future__ import annotations

import itertools
from pathlib import Path

import numpy as np
from safetensors import safe_open

FOLDER = Path(__file__).parent / "data" / "gru"
MATRICES = ("embedding", "W", "R", "projection")
TEXTS = 64  # the held-out text is read as so many, side by side


def stored():
    """(weights by name in float32, held-out ids (length, TEXTS))."""
    with safe_open(FOLDER / "gru.safetensors", "numpy") as file:
        net = {name: file.get_tensor(name).astype(np.float32) for name in file.keys()}  # noqa: SIM118
        places = {character: place for place, character in enumerate(file.metadata()["vocabulary"])}
    text = (FOLDER / "held_out.txt").read_bytes().decode("ascii")
    ids = np.array([places[character] for character in text])
    return net, ids[: len(ids) // TEXTS * TEXTS].reshape(TEXTS, -1).T


def sigmoid(x):
    return 1 / (1 + np.exp(-x))


def step(net, x, h, coded=None, linear_before_reset=True):
    """The next state (rows, hidden) of ONNX's GRU, gates z, r, h.

    coded : what takes the place of the hidden state in its products
    """
    n = h.shape[1]
    w, r = net["W"].T, net["R"].T
    wb, rb = net["B"][: 3 * n], net["B"][3 * n :]
    hidden = h if coded is None else coded(h)
    given = x @ w + wb
    gates = sigmoid(given[:, : 2 * n] + hidden @ r[:, : 2 * n] + rb[: 2 * n])
    z, reset = gates[:, :n], gates[:, n:]
    if linear_before_reset:
        new = np.tanh(given[:, 2 * n :] + reset * (hidden @ r[:, 2 * n :] + rb[2 * n :]))
    else:
        inside = reset * h if coded is None else coded(reset * h)
        new = np.tanh(given[:, 2 * n :] + inside @ r[:, 2 * n :] + rb[2 * n :])
    return (1 - z) * new + z * h


def states(net, ids, coded=None, linear_before_reset=True):
    """The states after each character of ``ids`` (steps, texts): (steps, texts, hidden)."""
    y = np.zeros((len(ids), ids.shape[1], net["R"].shape[1]), np.float32)
    h = y[0]
    for t, row in enumerate(ids):
        y[t] = h = step(net, net["embedding"][row], h, coded, linear_before_reset)
    return y


def bits_per_character(scores, targets):
    """scores (..., symbols), targets (...)"""
    scores = scores - scores.max(axis=-1, keepdims=True)
    chosen = np.take_along_axis(scores, targets[..., None], axis=-1)[..., 0]
    return float((np.log(np.exp(scores).sum(axis=-1)) - chosen).mean() / np.log(2))


def loss(net, ids, coded=None):
    """Bits per character of the text, each text starting from a state of zeros."""
    y = states(net, ids[:-1], coded)
    seen = y if coded is None else coded(y.reshape(-1, y.shape[2])).reshape(y.shape)
    return bits_per_character(seen @ net["projection"].T + net["bias"], ids[1:])


def nearest(rows, alphas):
    """What is nearest to each value of all sums of +-alphas: (values, signs (..., bits))."""
    signs = np.array(list(itertools.product([-1.0, 1.0], repeat=alphas.shape[1])))
    levels = alphas @ signs.T  # (rows, 2**bits)
    order = levels.argsort(axis=1)
    levels = np.take_along_axis(levels, order, axis=1)
    middles = (levels[:, 1:] + levels[:, :-1]) / 2
    place = sum((rows >= middle[:, None]).astype(int) for middle in middles.T)
    values = np.take_along_axis(levels, place, axis=1)
    return values, signs[np.take_along_axis(order, place, axis=1)]


def least_squares(rows, planes, alphas):
    """The best alphas for these signs; as they were where the planes depend on each other."""
    transposed = planes.swapaxes(1, 2)
    gram = transposed @ planes
    depends = np.abs(np.linalg.det(gram)) < 0.5  # a determinant of whole numbers
    gram[depends] = np.eye(planes.shape[2])
    solved = np.linalg.solve(gram, transposed @ rows[..., None])[..., 0]
    return np.where(depends[:, None], alphas, solved)


def coder(bits, cycles=2):
    """Rows (rows, n) as sums of ``bits`` planes: greedy alphas, then alternating, in float64."""

    def code(rows):
        rest = np.abs(rows.astype(np.float64))
        alphas = np.empty((len(rows), bits))
        for i in range(bits):
            alphas[:, i] = rest.mean(axis=1)
            rest = np.abs(rest - alphas[:, i, None])
        values, planes = nearest(rows, alphas)
        for _ in range(cycles):
            alphas = least_squares(rows, planes, alphas)
            values, planes = nearest(rows, alphas)
        return values.astype(np.float32)

    return code
