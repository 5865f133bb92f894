"""What the C functions on arrays should give, by slow oracles, and the inputs to try them on.

The oracles go one value at a time, with Python's own integers and round(), which takes halves to
even; they share no code with qsdk.
"""

from __future__ import annotations

import contextlib
import os
from unittest import mock

import numpy as np
import pytest

from qsdk import cpu, native

REQUIRED = os.environ.get("QSDK_REQUIRE_NATIVE") == "1"
needs_c = pytest.mark.skipif(
    not native.available() and not REQUIRED, reason=f"no C extension: {native.reason()}"
)

ONE = 2**20
GRIDS = [(-8, 7), (-7, 7), (0, 15), (-2, 1), (0, 1), (-128, 127), (0, 255)]


# Oracles: one value at a time, Python's own integers and round(), which takes halves to even.


def steps_of(u, zero_point, qmin, qmax):
    return min(max(round(float(u)), qmin - zero_point), qmax - zero_point)


def quantize_oracle(x, scale, zero_point, qmin, qmax):
    return [[steps_of(v / s, z, qmin, qmax) + z for v in row]
            for row, s, z in zip(x, scale, zero_point.tolist(), strict=True)]  # fmt: skip


def error_of(u, steps, fraction_bits, limit):
    error = round(float(np.float32(steps) - u) * 2**fraction_bits)
    return min(max(error, -limit), limit)


def squared_error_oracle(x, scale, zero_point, qmin, qmax):
    return [sum(error_of(v / s, steps_of(v / s, z, qmin, qmax), 10, 2**20) ** 2 for v in row)
            for row, s, z in zip(x, scale, zero_point.tolist(), strict=True)]  # fmt: skip


class Row:
    """SQuant on one row, after the words of the header: lists, one sort per flip step."""

    def __init__(self, u, zero_point, qmin, qmax):
        steps = [steps_of(v, zero_point, qmin, qmax) for v in u]
        self.codes = [s + zero_point for s in steps]
        self.e = [error_of(v, s, 20, 2**30) for v, s in zip(u, steps, strict=True)]
        self.qmin, self.qmax = qmin, qmax

    def direction(self, i):
        if self.e[i] < 0 and self.codes[i] < self.qmax:
            return +1
        if self.e[i] > 0 and self.codes[i] > self.qmin:
            return -1
        return 0

    def flip(self, candidates, total):
        """Moves what the flip step moves; returns the order and how many of it moved."""
        direction = (total < 0) - (total > 0)
        order = [i for i in candidates if direction and self.direction(i) == direction]
        order.sort(key=lambda i: (-abs(self.e[i]), i))
        wanted = round(abs(total) / ONE)  # a float64 is exact here
        for i in order[:wanted]:
            self.codes[i] += direction
            self.e[i] += direction * ONE
        return order, min(wanted, len(order))

    def stage_k(self, kernel_size):
        """Returns the candidates left for stage C."""
        left = []
        for start in range(0, len(self.e), kernel_size):
            kernel = range(start, start + kernel_size)
            total = sum(self.e[i] for i in kernel)
            order, moved = self.flip(kernel, total)
            if total == 0:
                continue
            left += order[moved - 1 : moved] if moved * ONE >= abs(total) else order[moved:][:1]
        return left

    def stage_c(self, candidates):
        self.flip(candidates, sum(self.e))


def squant_oracle(x, kernel_size, scale, zero_point, qmin, qmax, stage_k, stage_c):
    codes = []
    for values, s, z in zip(x, scale, zero_point.tolist(), strict=True):
        row = Row(values / s, z, qmin, qmax)
        candidates = range(len(values))
        if stage_k and kernel_size > 1:
            candidates = row.stage_k(kernel_size)
        if stage_c:
            row.stage_c(candidates)
        codes.append(row.codes)
    return codes


# Inputs, in steps from zero_point. Quarters make exact zeros, halves and ties common; errors that
# differ by half a unit of 2^-20 make its rounding decide which code moves.

KINDS = {
    "normal": lambda rng, low, high, shape: (
        (low + high) / 2 + (high - low + 1) / 6 * rng.standard_normal(shape)
    ),
    "quarters": lambda rng, low, high, shape: (
        rng.integers(4 * low - 2, 4 * high + 2, shape, endpoint=True) / 4
    ),
    "errors of one sign": lambda rng, low, high, shape: (
        rng.integers(low, high, shape, endpoint=True) + rng.choice([0, 0.25, 0.25, 0.5], shape)
    ),
    "nearly equal errors": lambda rng, low, high, shape: (
        (100_000 + rng.integers(0, 8, shape) / 2) / ONE
    ),
    "clipped": lambda rng, low, high, shape: (
        np.where(rng.random(shape) < 0.3, low, high) + rng.choice([0, 0.25, -0.75, 3.5, 2e3], shape)
    ),
    "on the grid": lambda rng, low, high, shape: rng.integers(low, high, shape, endpoint=True),
    "zeros": lambda rng, low, high, shape: np.zeros(shape),
}


def rows_of(kind, shape, qmin, qmax, seed=0):
    """float32 rows, and for each a scale and a zero point."""
    rng = np.random.default_rng(seed)
    zero_point = rng.integers(qmin, qmax, shape[0], dtype=np.int32, endpoint=True)
    scale = np.float32(2.0) ** rng.integers(-6, 3, shape[0]).astype(np.float32)
    if kind == "normal":
        scale *= np.float32(1.1)  # no power of two: the division rounds
    low, high = (limit - zero_point[:, None] for limit in (qmin, qmax))
    u = KINDS[kind](rng, low, high, shape)
    return (u * scale[:, None]).astype(np.float32), scale, zero_point


# Instruction sets.

SETS = native.array_sets() if native.available() else {}


@contextlib.contextmanager
def using(name):
    """Within it the functions of that set are called; skips where the CPU cannot run them."""
    if why := cpu.why_not(SETS[name]):
        pytest.skip(f"{name}: {why}")
    faster = [features for other, features in SETS.items() if other != name]
    disabled = frozenset().union(*faster[: list(SETS).index(name)]) - SETS[name]
    with mock.patch.dict(os.environ, QSDK_DISABLE_CPU_FEATURES=",".join(sorted(disabled))):
        assert native.array_set() == name
        yield


on_every_grid = pytest.mark.parametrize("grid", GRIDS, ids=str)
on_every_kind = pytest.mark.parametrize("kind", KINDS)
with_stages = pytest.mark.parametrize(
    "stages",
    [{"stage_k": k, "stage_c": c} for k in (False, True) for c in (False, True)],
    ids=["E", "E+C", "E+K", "E+K+C"],
)
