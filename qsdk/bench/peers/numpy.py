"""numpy: its BLAS for products, and the few lines that one writes without a library."""

from __future__ import annotations

from collections.abc import Iterable
from typing import ClassVar

import numpy as np

from qsdk.bench.peers.base import FLOAT, READ, SAME, Candidate, Peer
from qsdk.bench.timing import Call
from qsdk.bench.works import Floats, Product, Values, Weights


class Numpy(Peer):
    name: ClassVar[str] = "numpy"

    def version(self) -> str:
        return np.__version__

    def product(self, work: Product) -> Iterable[Candidate]:
        def build() -> Call:
            x, transposed = work.x, work.w.T
            y = np.empty(work.out_shape, np.float32)
            return lambda: np.matmul(x, transposed, out=y)

        yield Candidate("matmul", FLOAT, build)

    def quantize(self, work: Weights, kind: str) -> Iterable[Candidate]:
        rows = [weight.reshape(len(weight), -1) for weight in work.arrays]
        yield Candidate("rint", kind, lambda: lambda: [_round(weight) for weight in rows])
        yield Candidate("max", READ, lambda: lambda: [weight.max() for weight in rows])

    def observe(self, work: Values, plugin: str) -> Iterable[Candidate]:
        x = work.array
        yield Candidate("max", READ, lambda: x.max)
        if plugin == "minmax":
            yield Candidate("min and max", SAME, lambda: lambda: (x.min(), x.max()))
        else:
            yield Candidate("histogram", SAME, lambda: lambda: np.histogram(x, 2048, (-8, 8)))


def _round(rows: Floats) -> object:
    scale = np.abs(rows).max(axis=1, keepdims=True) / np.float32(127)
    return np.clip(np.rint(rows / scale), -127, 127).astype(np.int8)
