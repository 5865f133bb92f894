"""LSTM and GRU as ONNX defines them, step by step in float64, with inputs and states coded."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import attrs
import numpy as np

Array = np.ndarray
Coder = Callable[[Array], Array]  # (rows, length) to what its codes decode to


def sigmoid(x: Array) -> Array:
    return 1 / (1 + np.exp(-x))


def as_it_is(rows: Array) -> Array:
    return rows


@attrs.frozen(kw_only=True)
class Oracle:
    """The inputs of the operator; ``lengths`` all of X where None."""

    operation: str
    w: Array
    r: Array
    b: Array
    direction: str = "forward"
    reset_after: bool = False
    code_x: Coder = as_it_is
    code_h: Coder = as_it_is

    def __call__(
        self, x: Array, lengths: Any = None, h: Array | None = None, c: Array | None = None
    ) -> list[Array]:
        """Y, Y_h and for LSTM Y_c."""
        batch, hidden = x.shape[1], self.r.shape[2]
        lengths = np.full(batch, len(x)) if lengths is None else np.asarray(lengths)
        states = np.zeros((len(self.w), batch, hidden))
        h, c = (np.array(states if s is None else s, np.float64) for s in (h, c))
        y = np.zeros((len(x), len(self.w), batch, hidden))
        for number in range(len(self.w)):
            backwards = self.direction == "reverse" or number == 1
            for b in range(batch):
                steps = range(lengths[b])
                for t in reversed(steps) if backwards else steps:
                    row, state = x[t, b], h[number, b]
                    h[number, b], c[number, b] = self._step(number, row, state, c[number, b])
                    y[t, number, b] = h[number, b]
        results = [y, h, c] if self.operation == "LSTM" else [y, h]
        return [array.astype(np.float32) for array in results]

    def _step(self, number: int, x: Array, h: Array, c: Array) -> tuple[Array, Array]:
        w, r = self.w[number].astype(np.float64), self.r[number].astype(np.float64)
        of_x, of_h = self.b[number].astype(np.float64).reshape(2, -1)
        a = w @ one(self.code_x, x) + of_x
        u = r @ one(self.code_h, h) + of_h
        if self.operation == "LSTM":
            i, o, f, g = np.split(a + u, 4)
            c = sigmoid(f) * c + sigmoid(i) * np.tanh(g)
            return sigmoid(o) * np.tanh(c), c
        (a_z, a_r, a_h), (u_z, u_r, u_h) = np.split(a, 3), np.split(u, 3)
        z, reset = sigmoid(a_z + u_z), sigmoid(a_r + u_r)
        if not self.reset_after:
            n = len(h)
            u_h = r[2 * n :] @ one(self.code_h, reset * h) + of_h[2 * n :]
        new = np.tanh(a_h + (reset * u_h if self.reset_after else u_h))
        return (1 - z) * new + z * h, c


def one(code: Coder, row: Array) -> Array:
    return code(row[np.newaxis].astype(np.float32))[0].astype(np.float64)
