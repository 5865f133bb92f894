"""ADMM: the scale and the codes of least squared error, from projections and a running difference.

Source: Leng et al., "Extremely Low Bit Neural Network: Squeeze the Last Bit Out with ADMM",
arXiv:1707.09870, with ``1/2 |W - W_0|**2`` in the place of the training loss; MNN's quantization
tool, which projects alone. Ours: of all scales seen, the one of least error is kept.
"""

from __future__ import annotations

from typing import Any, ClassVar

import attrs
import numpy as np
from numpy.typing import NDArray

import qsdk
from qsdk.errors import SchemeError
from qsdk.interfaces import AffineQuantizer

Doubles = NDArray[np.float64]

START = 1.25  # MNN starts with a scale so much below that of the largest magnitude
TINY = np.finfo(np.float32).tiny


@attrs.frozen(kw_only=True)
class Admm(AffineQuantizer):
    """``min |W - G|**2`` with ``G = scale * codes``: W, G and the difference U in turn.

    form : dual (Leng et al.) or projection (MNN: W stays)
    rho : weight of ``|W - G + U|**2``, of the dual form
    rounds : how often; a scale that no longer changes ends the projection
    projections : in one round of the dual form
    """

    name: ClassVar[str] = "admm"
    paper: ClassVar[str] = "arXiv:1707.09870"
    capabilities: ClassVar[qsdk.Capabilities] = qsdk.Capabilities(bits=range(2, 9))

    scheme: qsdk.Scheme = attrs.field(
        factory=lambda: qsdk.Scheme(bits=4, symmetric=True, narrow_range=True)
    )
    form: str = attrs.field(default="dual", validator=attrs.validators.in_(("dual", "projection")))
    rho: float = attrs.field(default=0.5, converter=float, validator=attrs.validators.gt(0))
    rounds: int = attrs.field(default=50, validator=attrs.validators.ge(0))
    projections: int = attrs.field(default=3, validator=attrs.validators.ge(1))

    def __attrs_post_init__(self) -> None:
        super().__attrs_post_init__()
        if not self.scheme.symmetric:
            raise SchemeError(
                f"admm has no zero_point to look for; give symmetric=True, not {self.scheme}"
            )

    def lay_grid(
        self, spans: NDArray[np.float32], low: NDArray[np.float32], high: NDArray[np.float32]
    ) -> tuple[NDArray[np.float32], NDArray[np.int32]]:
        first, zero_point = super().lay_grid(spans, low, high)
        # In units of each row's own scale: no square is too large or too small for a double.
        weight = spans / first[:, None].astype(np.float64)
        search = Search(weight, self.scheme)
        search.see(np.ones(len(weight)))
        alpha = np.full(len(weight), 1 / START)
        if self.form == "projection":
            search.project(weight, alpha, self.rounds)
        else:
            self._dual(search, alpha)
        with np.errstate(over="ignore"):  # beyond the largest float: as it was
            scale = np.maximum(first * search.best.astype(np.float32), TINY)
            fits = np.isfinite(scale * np.float32(max(-self.scheme.qmin, self.scheme.qmax)))
        return np.where(fits, scale, first), zero_point

    def _dual(self, search: Search, alpha: Doubles) -> None:
        weight = search.weight
        alpha = search.project(weight, alpha, self.projections)
        copy = search.nearest(weight, alpha) * alpha[:, None]
        dual = np.zeros_like(weight)
        for _ in range(self.rounds):
            moved = (weight + self.rho * (copy - dual)) / (1 + self.rho)
            alpha = search.project(moved + dual, alpha, self.projections)
            copy = search.nearest(moved + dual, alpha) * alpha[:, None]
            dual += moved - copy

    def round(
        self,
        rows: NDArray[np.float32],
        scale: NDArray[np.float32],
        zero_point: NDArray[np.int32],
        kernel_size: int,
    ) -> NDArray[Any]:
        return qsdk.quantize_rows(rows, scale, zero_point, self.scheme)


@attrs.define(eq=False)
class Search:
    """The best scale of each row of ``weight`` (n, length) among those that were seen."""

    weight: Doubles
    scheme: qsdk.Scheme
    best: Doubles = attrs.field(init=False)
    _error: Doubles = attrs.field(init=False)

    def __attrs_post_init__(self) -> None:
        self.best, self._error = np.ones(len(self.weight)), np.full(len(self.weight), np.inf)

    def nearest(self, values: Doubles, alpha: Doubles) -> Doubles:
        return np.clip(np.rint(values / alpha[:, None]), self.scheme.qmin, self.scheme.qmax)

    def project(self, values: Doubles, alpha: Doubles, rounds: int) -> Doubles:
        """Codes for the scale and the scale for the codes, in turn, until neither changes."""
        for _ in range(rounds):
            codes = self.nearest(values, alpha)
            dot, power = qsdk.sum_rows(values * codes), qsdk.sum_rows(codes * codes)
            # Codes that are all zero say nothing of the scale.
            better = np.where(dot > 0, dot / np.maximum(power, 1), alpha)
            if np.array_equal(better, alpha):
                break
            alpha = better
        self.see(alpha)
        return alpha

    def see(self, alpha: Doubles) -> None:
        """Keep what is better than the best."""
        off = self.weight - alpha[:, None] * self.nearest(self.weight, alpha)
        error = qsdk.sum_rows(off * off)
        better = error < self._error
        self.best = np.where(better, alpha, self.best)
        self._error = np.where(better, error, self._error)


@qsdk.hookimpl
def qsdk_quantizers() -> list[type[qsdk.Quantizer]]:
    return [Admm]
