"""HQQ: a zero of each group under which few weights are far off, found without data.

Source: Badri and Shaji, "Half-Quadratic Quantization of Large Machine Learning Models", 2023
(mobiusml.github.io/hqq_blog). Ours: the zero of least mean error is kept, where the released loop
gives the last; groups are scaled to a root mean square of 1; ranges contain 0.
"""

from __future__ import annotations

from typing import ClassVar

import attrs
import numpy as np
from numpy.typing import ArrayLike, NDArray

import qsdk
from qsdk.errors import SchemeError
from qsdk.interfaces import Layer
from qsdk_plugins.hqq.affine_real_zero import AffineRealZero

Doubles = NDArray[np.float64]

STEP = 2.0**20  # shrinking is rounded to 1/STEP: powers differ in their last bits by machine
LARGEST = np.finfo(np.float32).max * np.float32(1 - 2.0**-20)
GROWTH = 1.01  # of beta, each round


@attrs.frozen(kw_only=True)
class Hqq(qsdk.Quantizer):
    """``min |W - W'|_p`` over the zero, by W' and shrunken errors in turn.

    norm : p, below 1: many small errors rather than few large ones
    beta : how little errors are shrunk, at the start
    rounds : at most
    """

    name: ClassVar[str] = "hqq"
    paper: ClassVar[str] = "mobiusml.github.io/hqq_blog"
    capabilities: ClassVar[qsdk.Capabilities] = qsdk.Capabilities(bits=range(2, 9))

    scheme: qsdk.Scheme = attrs.field(
        factory=lambda: qsdk.Scheme(bits=4, signed=False, granularity="per_group", group_size=64)
    )
    norm: float = attrs.field(
        default=0.7, converter=float, validator=[attrs.validators.gt(0), attrs.validators.lt(1)]
    )
    beta: float = attrs.field(default=10.0, converter=float, validator=attrs.validators.gt(0))
    rounds: int = attrs.field(default=20, validator=attrs.validators.ge(0))

    def __attrs_post_init__(self) -> None:
        super().__attrs_post_init__()
        if self.scheme.symmetric:
            raise SchemeError("hqq looks for the zero, and a symmetric scheme has it at 0")

    def quantize(self, weight: ArrayLike, *, layer: Layer | None = None) -> AffineRealZero:
        array = np.asarray(weight, np.float32)
        slices = qsdk.Slices(self.scheme, array.shape)
        codes, scales, zeros = [], [], []
        for rows in slices.split(array):
            whole = self.scheme.granularity is qsdk.Granularity.PER_TENSOR
            found = self._code(rows.reshape(1, -1) if whole else rows)
            repeats = len(rows) if whole else 1
            codes.append(found[0].reshape(rows.shape))
            scales.append(np.repeat(found[1], repeats))
            zeros.append(np.repeat(found[2], repeats))
        if not codes:
            one = np.ones(slices.params_shape, np.float32)
            joined, scale, zero = array.astype(self.scheme.dtype), one, one * 0
        else:
            joined = slices.join(codes)
            scale, zero = slices.join_params(scales), slices.join_params(zeros)
        return AffineRealZero.of(joined, scale, zero, self.scheme)

    def _code(
        self, rows: NDArray[np.float32]
    ) -> tuple[NDArray[np.uint8], NDArray[np.float32], NDArray[np.float32]]:
        """Codes (n, length), scale and zero (n,) of rows that share them."""
        low, high = rows.min(axis=1), rows.max(axis=1)
        scale, _ = qsdk.scale_and_zero_point(low, high, self.scheme)
        # Wherever the zero goes, decoded values stay finite; only the largest floats meet this.
        scale = np.minimum(scale, LARGEST / np.float32(self.scheme.qmax - self.scheme.qmin))
        steps = rows.astype(np.float64) / scale[:, None]
        zero = self._zero(steps, self._usable(-np.minimum(low, 0) / scale + self.scheme.qmin))
        codes = self._nearest(steps, zero)
        return codes.astype(self.scheme.dtype), scale, zero.astype(np.float32)

    def _zero(self, steps: Doubles, zero: Doubles) -> Doubles:
        """The best zero of each row, from the start given."""
        length = steps.shape[1]
        size = np.sqrt(qsdk.sum_rows(steps * steps) / length)
        size = np.where(size > 0, size, 1)
        best, least, beta = zero, np.full(len(steps), np.inf), self.beta
        for _ in range(self.rounds + 1):
            codes = self._nearest(steps, zero)
            off = steps - (codes - zero[:, None])
            error = qsdk.sum_rows(np.abs(off))
            better = error < least
            best, least = np.where(better, zero, best), np.where(better, error, least)
            shrunken = self._shrink(off / size[:, None], beta) * size[:, None]
            zero = self._usable(qsdk.sum_rows(codes - (steps - shrunken)) / length)
            beta *= GROWTH
        return best

    def _nearest(self, steps: Doubles, zero: Doubles) -> Doubles:
        return np.clip(np.rint(steps + zero[:, None]), self.scheme.qmin, self.scheme.qmax)

    def _usable(self, zero: Doubles) -> Doubles:
        """As the encoding has it: a float32, between the lowest code and the highest."""
        inside = np.clip(zero, self.scheme.qmin, self.scheme.qmax)
        return inside.astype(np.float32).astype(np.float64)

    def _shrink(self, error: Doubles, beta: float) -> Doubles:
        """``sign(e) max(|e| - |e|**(p - 1) / beta, 0)``; no error stays none."""
        size = np.abs(error)
        power = np.where(size > 0, size, 1) ** (self.norm - 1) / beta
        return np.sign(error) * np.maximum(np.rint((size - power) * STEP) / STEP, 0)


@qsdk.hookimpl
def qsdk_quantizers() -> list[type[qsdk.Quantizer]]:
    return [Hqq]
