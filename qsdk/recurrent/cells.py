"""One step of an LSTM or a GRU, in numpy: the formulas of ``native/recurrent/recurrent.h``."""

from __future__ import annotations

from typing import Self

import attrs
import numpy as np
from numpy.typing import NDArray

from qsdk.errors import OptionError

Floats = NDArray[np.float32]

LOG2_E = np.float32(1.44269504)
LN2_HIGH, LN2_LOW = np.float32(0.693359375), np.float32(-2.12194440e-4)
TO_WHOLE = np.float32(1.5 * 2**23)  # what is added to it becomes a whole number, half to even
POLYNOMIAL = [
    np.float32(c) for c in (0.00019899392, 0.0013933734, 0.008333298, 0.041666463, 1 / 6, 0.5)
]


@attrs.frozen(kw_only=True)
class Cell:
    """Which step it is.

    gates : of so many times hidden rows are W and R
    kind : the number that C knows it by
    clip : the inputs of gates are held within -clip and clip
    """

    name: str
    kind: int
    gates: int
    functions: tuple[str, ...]
    clip: float = np.inf

    def evolve(self, *, clip: float | None) -> Self:
        limit = np.inf if clip is None else float(clip)
        if not limit > 0:
            raise OptionError(f"clip is {clip}; give a number above 0, or None for no limit")
        return attrs.evolve(self, clip=limit)

    @property
    def has_cell_state(self) -> bool:
        return self.kind == LSTM.kind

    @property
    def products(self) -> tuple[int, ...]:
        """The gates that each product with R gives, in order."""
        return (2, 1) if self.kind == GRU.kind else (self.gates,)

    @property
    def reset_inside(self) -> int:
        """How many of the last gates of R's product the reset gate multiplies."""
        return 1 if self.kind == GRU_LINEAR_BEFORE_RESET.kind else 0

    def held(self, x: Floats) -> Floats:
        limit = np.float32(self.clip)
        held: Floats = np.minimum(np.maximum(x, -limit), limit)
        return held


LSTM: Cell = Cell(name="lstm", kind=0, gates=4, functions=("sigmoid", "tanh", "tanh"))
GRU: Cell = Cell(name="gru", kind=1, gates=3, functions=("sigmoid", "tanh"))
GRU_LINEAR_BEFORE_RESET: Cell = Cell(name="gru", kind=2, gates=3, functions=("sigmoid", "tanh"))


def _reduced(a: Floats) -> tuple[NDArray[np.int32], Floats]:
    """``exp(-a) = 2**n * (1 + m)`` for a from 0: n and m."""
    whole = TO_WHOLE - a * LOG2_E
    n = whole - TO_WHOLE
    r = (-a - n * LN2_HIGH) - n * LN2_LOW
    q = np.full_like(r, POLYNOMIAL[0])
    for coefficient in POLYNOMIAL[1:]:
        q = q * r + coefficient
    return whole.view(np.int32) - TO_WHOLE.view(np.int32), r + r * r * q


def _power_of_2(n: NDArray[np.int32]) -> Floats:
    return ((n + 127) << 23).astype(np.int32).view(np.float32)


def sigmoid(x: Floats) -> Floats:
    """``1 / (1 + exp(-x))``, within 3 units in the last place.

    >>> sigmoid(np.float32([0, -np.inf, np.inf])).tolist()
    [0.5, 0.0, 1.0]
    """
    with np.errstate(all="ignore"):
        a = np.abs(x)
        n, m = _reduced(np.where(a > 104, np.float32(104), a))
        half = n >> 1  # 2**n may be less than the least normal number
        e = (m + np.float32(1)) * _power_of_2(half) * _power_of_2(n - half)
        result: Floats = np.where(x < 0, e, np.float32(1)) / (e + np.float32(1))
    return result


def tanh(x: Floats) -> Floats:
    """The hyperbolic tangent, within 3 units in the last place."""
    with np.errstate(all="ignore"):
        a = np.abs(x)
        a = np.where(a > 10, np.float32(10), a)
        n, m = _reduced(a + a)
        power = _power_of_2(n)
        t = m * power + (power - np.float32(1))  # exp(-2a) - 1
        result: Floats = np.copysign(-t / (t + np.float32(2)), x)
    return result


def lstm_step(cell: Cell, inputs: Floats, products: Floats, c: Floats) -> tuple[Floats, Floats]:
    """The next (h, c).

    inputs, products : (batch, 4 * hidden), of x and of the hidden state
    """
    with np.errstate(over="ignore", invalid="ignore"):
        i, o, f, g = np.split(cell.held(inputs + products), 4, axis=1)
        c = sigmoid(f) * c + sigmoid(i) * tanh(g)
        return sigmoid(o) * tanh(c), c


def gru_reset(
    cell: Cell, inputs: Floats, products: Floats, h: Floats
) -> tuple[Floats, Floats, Floats]:
    """z, r, and r * h.

    inputs : (batch, 3 * hidden)
    products : (batch, at least 2 * hidden)
    """
    hidden = h.shape[1]
    with np.errstate(over="ignore", invalid="ignore"):
        both = sigmoid(cell.held(inputs[:, : 2 * hidden] + products[:, : 2 * hidden]))
        z, r = both[:, :hidden], both[:, hidden:]
        return z, r, r * h


def gru_step(cell: Cell, inputs: Floats, candidate: Floats, z: Floats, h: Floats) -> Floats:
    """The next h.

    candidate : (batch, hidden), what is added to the last gate of ``inputs``
    """
    with np.errstate(over="ignore", invalid="ignore"):
        new = tanh(cell.held(inputs[:, 2 * h.shape[1] :] + candidate))
        step: Floats = (np.float32(1) - z) * new + z * h
    return step
