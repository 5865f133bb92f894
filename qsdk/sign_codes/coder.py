"""Coding rows: how, in C where it is there, and in numpy."""

from __future__ import annotations

import attrs
import numpy as np
from numpy.typing import ArrayLike, NDArray

from qsdk import cpu, native
from qsdk.errors import DataError, OptionError, did_you_mean
from qsdk.sign_codes.levels import Floats, Levels
from qsdk.sign_codes.rows import Doubles, Rows, lane_sums
from qsdk.sign_codes.words import WORD, Words, pack_words

STARTS = ("greedy", "refined", "uniform")  # in the order of the header's numbers
MOST_PLANES = 8
ROOT = np.float32(1.41421354)  # from one candidate of the uniform start to the next
NEARER = [np.float32(x) for x in (1.18920708, 0.840896428, 1.09050775, 0.917004049)]
AT_ONCE = 2**18  # values that are coded at a time


@attrs.frozen(kw_only=True)
class SignCoder:
    """How rows become planes of signs.

    bits : planes, 1 to 8
    start : greedy (mean of what the planes before have left), refined (all alphas by least squares
        after each plane) or uniform (evenly spaced levels, their step by a search)
    nearest : the start's codes are those of the nearest level, or its own where False
    cycles : so often least squares for the alphas, then the nearest levels
    final : least squares once more, for the codes that are kept
    """

    bits: int
    start: str = "greedy"
    nearest: bool = True
    cycles: int = 2
    final: bool = False

    def __attrs_post_init__(self) -> None:
        if not 1 <= self.bits <= MOST_PLANES:
            raise OptionError(f"bits is {self.bits}; there are 1 to {MOST_PLANES} planes of signs")
        if self.start not in STARTS:
            raise OptionError(
                f"start is {self.start!r}{did_you_mean(self.start, STARTS)}; "
                f"known: {', '.join(STARTS)}"
            )
        if not 0 <= self.cycles < 2**31:
            raise OptionError(f"cycles is {self.cycles}; give 0 or more")

    def code(self, rows: ArrayLike, threads: int = 0) -> tuple[Floats, Words]:
        """Alphas and planes of each row, in C where it is there.

        rows : floats, (rows, length)
        threads : at most so many, 0 for as many as ``QSDK_NUM_THREADS`` or OpenMP says
        Returns alpha, float32 (bits, rows), not negative, the largest of each row first; and
        planes, uint64 (bits, rows, words), 1 for +1, as :func:`pack_words` has them. The sign of 0
        is +1. A row whose sum of magnitudes, or an alpha, is no finite float32 has alpha
        NaN and planes of 0.

        >>> alpha, planes = SignCoder(bits=2).code(np.float32([[3, -1, 1, -3]]))
        >>> alpha.tolist(), planes.tolist()
        ([[2.0], [1.0]], [[[5]], [[3]]])
        """
        if not native.available():
            return self.reference(rows)
        return native.sign_codes(
            _matrix(rows),
            self.bits,
            STARTS.index(self.start),
            nearest=self.nearest,
            cycles=self.cycles,
            final=self.final,
            threads=cpu.most_threads(threads or cpu.threads()),
        )

    def reference(self, rows: ArrayLike) -> tuple[Floats, Words]:
        """The same in numpy: normative, and slow."""
        x = _matrix(rows)
        count, length = x.shape
        alpha = np.empty((self.bits, count), np.float32)
        planes = np.empty((self.bits, count, -(-length // WORD)), np.uint64)
        step = max(AT_ONCE // max(length, 1), 1)
        with np.errstate(over="ignore", invalid="ignore", divide="ignore", under="ignore"):
            for first in range(0, count, step):
                part = slice(first, first + step)
                alpha[:, part], signs = self._code(x[part])
                planes[:, part] = pack_words(signs)
        return alpha, planes

    def _code(self, x: Floats) -> tuple[Floats, NDArray[np.bool_]]:
        """Alphas, and True for +1, (bits, rows, length)."""
        finite = np.isfinite(lane_sums(np.abs(x)).astype(np.float32))[:, None]
        rows = Rows.of(np.where(finite, x, 0))
        levels = self._levels(rows)
        finite = finite & np.isfinite(levels.alpha).all(axis=1, keepdims=True)
        signs = np.take_along_axis(levels.signs, rows.interval(levels)[:, :, None], axis=1)
        signs = np.where(finite, signs.transpose(2, 0, 1) ^ (x < 0), False)
        alpha = np.where(finite, levels.alpha, np.float32(np.nan))
        return alpha.T, signs

    def _levels(self, rows: Rows) -> Levels:
        levels = Levels.first(rows.mean(rows.total))
        if self.bits == 1:
            return levels
        levels = getattr(self, f"_{self.start}")(rows, levels)
        if self.nearest or self.start == "uniform":
            levels = Levels.nearest(np.abs(levels.alpha))
        for _ in range(self.cycles):
            exact, depends = rows.least_squares(levels)
            stay = np.any(depends, axis=1, keepdims=True)
            alpha = np.where(stay, levels.alpha, exact.astype(np.float32))
            levels = Levels.nearest(np.abs(alpha))
        if self.final:
            levels = rows.fitted(levels)
        return levels.normal()

    def _greedy(self, rows: Rows, levels: Levels) -> Levels:
        rest = rows.size
        for i in range(1, self.bits):
            rest = np.abs(rest - levels.alpha[:, i - 1, None])
            levels = levels.cut(rows.mean(lane_sums(rest)))
        return levels

    def _refined(self, rows: Rows, levels: Levels) -> Levels:
        for _ in range(1, self.bits):
            levels = rows.fitted(levels.cut(np.zeros(len(rows.size), np.float32)))
        return levels

    def _uniform(self, rows: Rows, levels: Levels) -> Levels:
        least = levels.alpha[:, 0] / np.float32(2**self.bits - 1)
        best = least, np.full(len(least), np.inf)
        step = least
        for _ in range(4 * self.bits):
            best = self._better(rows, best, step)
            step = step * ROOT
        for pair in (NEARER[:2], NEARER[2:]):
            middle = best[0]
            for factor in pair:
                best = self._better(rows, best, middle * factor)
        powers = np.float32(2) ** np.arange(self.bits - 1, -1, -1, dtype=np.float32)
        return Levels.nearest(best[0][:, None] * powers)

    def _better(
        self, rows: Rows, best: tuple[Floats, Doubles], step: Floats
    ) -> tuple[Floats, Doubles]:
        """Step of each row and its error, of the best so far and one more candidate."""
        t = rows.size * (np.float32(0.5) / step)[:, None]
        top = np.float32(2 ** (self.bits - 1) - 1)
        off = t - (np.floor(np.where(t < top, t, top)) + np.float32(0.5))
        width = 2 * step.astype(np.float64)
        error = width * width * lane_sums(off * off)
        better = (error < best[1]) & np.isfinite(step * np.float32(2**self.bits))
        return np.where(better, step, best[0]), np.where(better, error, best[1])


def _matrix(rows: ArrayLike) -> Floats:
    given = np.asarray(rows)
    if given.ndim != 2 or given.dtype.kind != "f":
        raise DataError(
            f"rows are {given.dtype} of shape {given.shape}; give floats of (rows, length)"
        )
    return np.ascontiguousarray(given, np.float32)
