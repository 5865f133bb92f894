"""The part that all quantizers onto an affine grid share: a range rule, then a rounding."""

from __future__ import annotations

import abc
from typing import Any

import attrs
import numpy as np
from numpy.typing import ArrayLike, NDArray

from qsdk import native
from qsdk.affine import grid_rows, scale_and_zero_point
from qsdk.encodings import Affine
from qsdk.errors import OptionError, did_you_mean
from qsdk.interfaces.model import Layer
from qsdk.interfaces.quantizer import NotFinite, Quantizer, looks_itself
from qsdk.ranges import RANGE_RULES, extremes, find_range
from qsdk.scheme import Granularity, Slices


def _known_rule(instance: object, attribute: object, value: str) -> None:
    if value not in RANGE_RULES:
        raise OptionError(f"no range_rule {value!r}{did_you_mean(value, RANGE_RULES)}")


@attrs.frozen(kw_only=True)
class AffineQuantizer(Quantizer):
    """Lays the grid by ``range_rule``; subclasses say how weights go to its codes.

    range_rule : minmax, absmax, mse (least squared rounding error), percentile or aciq
    keep_percent : what ``percentile`` keeps of each slice, in percent
    """

    range_rule: str = attrs.field(default="minmax", validator=_known_rule)
    keep_percent: float = attrs.field(
        default=99.9,
        converter=float,
        validator=[attrs.validators.gt(50), attrs.validators.le(100)],
    )

    def __attrs_post_init__(self) -> None:
        super().__attrs_post_init__()
        scale_and_zero_point(0, 0, self.scheme)  # refuses a scheme without an affine grid

    @looks_itself
    def quantize(self, weight: ArrayLike, *, layer: Layer | None = None) -> Affine:
        floats = np.asarray(weight)
        slices = Slices(self.scheme, floats.shape)
        if floats.size == 0:
            scale = np.ones(slices.params_shape, np.float32)
            return Affine.from_codes(
                floats.astype(self.scheme.dtype), scale, np.zeros_like(scale), self.scheme
            )
        parts = slices.split(floats)
        if len(parts) == 1 and slices.in_order and self._all_in_c:
            return self._encode(parts[0], slices)
        codes, scales, zeros = [], [], []
        for rows in parts:
            scale, zero_point = self._grid(rows)
            codes.append(self.round(rows, scale, zero_point, slices.kernel_size))
            scales.append(scale)
            zeros.append(zero_point)
        return Affine.from_codes(
            slices.join(codes),
            slices.join_params(scales),
            slices.join_params(zeros),
            self.scheme,
            copy=False,
        )

    def grids(
        self, weight: NDArray[np.float32]
    ) -> tuple[NDArray[np.float32], NDArray[np.int32], Slices]:
        """Scale and zero_point of a weight that is not empty, of ``slices.params_shape``."""
        slices = Slices(self.scheme, weight.shape)
        found = [self._grid(rows) for rows in slices.split(weight)]
        scale, zero_point = (slices.join_params(parts) for parts in zip(*found, strict=True))
        return scale, zero_point, slices

    @property
    def _all_in_c(self) -> bool:
        own_grids = self.scheme.granularity is not Granularity.PER_TENSOR
        return (
            self.stages_in_c is not None
            and self.range_rule == "minmax"
            and own_grids
            and native.available()
        )

    def _encode(self, rows: NDArray[np.float32], slices: Slices) -> Affine:
        """The same in one pass."""
        scheme, stages = self.scheme, self.stages_in_c or ""
        encoded = native.encode_rows(
            rows,
            slices.kernel_size,
            scheme.bits,
            scheme.qmin,
            scheme.qmax,
            symmetric=scheme.symmetric,
            stage_k="K" in stages,
            stage_c="C" in stages,
        )
        if encoded is None:
            raise NotFinite
        scale, zero_point, packed = encoded
        return Affine.from_packed(
            packed,
            slices.join_params([scale]),
            slices.join_params([zero_point]).astype(scheme.dtype),
            slices,
        )

    @property
    def stages_in_c(self) -> str | None:
        """Which stages of SQuant in C give what :meth:`round` does: some of "EKC", or None."""
        return None

    def _grid(self, rows: NDArray[np.float32]) -> tuple[NDArray[np.float32], NDArray[np.int32]]:
        """One scale and zero_point per row; per tensor the same for all rows."""
        whole = self.scheme.granularity is Granularity.PER_TENSOR
        spans = rows.reshape(1, -1) if whole else rows
        low, high, finite = extremes(spans)
        if not finite:
            raise NotFinite
        scale, zero_point = self.lay_grid(spans, low, high)
        if whole:
            return np.repeat(scale, len(rows)), np.repeat(zero_point, len(rows))
        return scale, zero_point

    def lay_grid(
        self, spans: NDArray[np.float32], low: NDArray[np.float32], high: NDArray[np.float32]
    ) -> tuple[NDArray[np.float32], NDArray[np.int32]]:
        """One scale and zero_point for each row of ``spans`` (n, length), which shares them.

        ``low`` and ``high`` are the least and the greatest value of each row.
        """
        if self.range_rule != "minmax":
            low, high = find_range(spans, self.scheme, self.range_rule, self.keep_percent)
        return grid_rows(low, high, self.scheme)

    @abc.abstractmethod
    def round(
        self,
        rows: NDArray[np.float32],
        scale: NDArray[np.float32],
        zero_point: NDArray[np.int32],
        kernel_size: int,
    ) -> NDArray[Any]:
        """Codes of ``rows`` (n, length), which have one scale and zero_point each: a new array,
        that the encoding may keep.

        ``kernel_size`` neighbours in a row belong to one input channel.
        """
