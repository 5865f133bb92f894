"""Uniform multi-bit: a grid of equal steps up to the largest magnitude, as binary codes.

The baseline that Xu et al., ICLR 2018, arXiv:1802.00150, compare with: the k-bit grid of Hubara et
al., "Quantized Neural Networks", arXiv:1609.07061, on weights scaled into [-1, 1].
"""

from __future__ import annotations

from typing import Any, ClassVar, Literal

import attrs
import numpy as np
from numpy.typing import NDArray

import qsdk
from qsdk.interfaces import Layer
from qsdk_plugins.binary.binary_coded import BinaryCoded
from qsdk_plugins.binary.slices import code_slices

Levels = NDArray[np.int64]


@attrs.frozen(kw_only=True)
class UniformMultibit(qsdk.Quantizer):
    """The nearest of ``D (2 t - (2^k - 1))``, t = 0 to 2^k - 1, with ``D = max|w| / (2^k - 1)``.

    No level is 0. As binary codes: ``alpha_i = D 2^i`` and b_i from bit i of the level t.
    """

    name: ClassVar[str] = "uniform_multibit"
    paper: ClassVar[str] = "arXiv:1609.07061"
    capabilities: ClassVar[qsdk.Capabilities] = qsdk.Capabilities(bits=range(1, 9))

    scheme: qsdk.Scheme = attrs.field(factory=lambda: qsdk.Scheme(bits=2))

    def quantize(self, weight: Any, *, layer: Layer | None = None) -> BinaryCoded:
        bits = self.scheme.bits
        digits, alpha = code_slices(weight, self.scheme, bits, self._code)
        planes = qsdk.pack_words(digits > 0)
        return BinaryCoded.from_planes(planes, alpha, weight.shape, self.scheme)

    def _code(self, rows: NDArray[np.float64]) -> tuple[NDArray[np.float32], NDArray[np.int8]]:
        top = 2**self.scheme.bits - 1
        largest = np.abs(rows).max(axis=1)
        levels = self._levels(rows / np.where(largest > 0, largest, 1)[:, None], top)
        powers = np.arange(self.scheme.bits)[::-1, None]
        alpha = (self._step(rows, levels, top) * 2.0**powers).astype(np.float32)
        digits = 2 * (levels >> powers[..., None] & 1) - 1
        return alpha, digits.astype(np.int8)

    def _levels(self, scaled: NDArray[np.float64], top: int) -> Levels:
        """The level of each value, 0 to ``top``; ``scaled`` is rows within [-1, 1]."""
        return np.rint((scaled + 1) / 2 * top).astype(np.int64)

    def _step(self, rows: NDArray[np.float64], levels: Levels, top: int) -> NDArray[np.float64]:
        """D of each row."""
        largest: NDArray[np.float64] = np.abs(rows).max(axis=1)
        return largest / top


@attrs.frozen(kw_only=True)
class Balanced(UniformMultibit):
    """The grid of ``uniform_multibit``, its levels filled with equally many values of a slice.

    Of n values, that of rank r (0 is the lowest) has the level ``r 2^k // n``, whatever its size.
    Where several levels would do, because values are equal or 2^k does not divide n, all equal
    values take the one that is nearest to them.

    scale : what D is; "fitted": that with the least squared error; "largest": as in
        ``uniform_multibit``, and too far apart where most values gather around 0
    """

    name: ClassVar[str] = "balanced"
    paper: ClassVar[str] = "arXiv:1706.07145"

    scale: Literal["fitted", "largest"] = attrs.field(
        default="fitted", validator=attrs.validators.in_(("fitted", "largest"))
    )

    def _levels(self, scaled: NDArray[np.float64], top: int) -> Levels:
        order = np.argsort(scaled, axis=1, kind="stable")
        first, beyond = _runs(np.take_along_axis(scaled, order, axis=1))
        count, length = top + 1, scaled.shape[1]
        nearest = np.take_along_axis(super()._levels(scaled, top), order, axis=1)
        by_rank = np.clip(nearest, first * count // length, (beyond * count - 1) // length)
        levels = np.empty_like(by_rank)
        np.put_along_axis(levels, order, by_rank, axis=1)
        return levels

    def _step(self, rows: NDArray[np.float64], levels: Levels, top: int) -> NDArray[np.float64]:
        if self.scale == "largest":
            return super()._step(rows, levels, top)
        odd = 2.0 * levels - top
        return np.maximum(qsdk.sum_rows(rows * odd) / qsdk.sum_rows(odd * odd), 0)


def _runs(ordered: NDArray[np.float64]) -> tuple[Levels, Levels]:
    """Of each value in rows that ascend, the first rank of its equals and the one behind them."""
    rank = np.arange(ordered.shape[1])
    edge = np.ones((len(ordered), len(rank) + 1), np.bool_)
    edge[:, 1:-1] = ordered[:, 1:] != ordered[:, :-1]
    first = np.maximum.accumulate(np.where(edge[:, :-1], rank, 0), axis=1)
    behind = np.where(edge[:, 1:], rank + 1, len(rank))[:, ::-1]
    return first, np.minimum.accumulate(behind, axis=1)[:, ::-1]


@qsdk.hookimpl
def qsdk_quantizers() -> list[type[qsdk.Quantizer]]:
    return [UniformMultibit, Balanced]
