"""The 8-bit codes of a layer's input, in numpy: what every kernel makes inside its call."""

from __future__ import annotations

from typing import Any

import attrs
import numpy as np
from numpy.typing import NDArray

from qsdk.affine import dequantize, quantize, scale_and_zero_point
from qsdk.encodings import Affine, Encoding
from qsdk.interfaces.operation import Activations, InputForm


@attrs.frozen(eq=False)
class InputCodes:
    """``rows ≈ scale * (codes - zero_point)``.

    codes : int8 or uint8, (rows, length)
    scale : float32, (rows,), or (rows, groups) where there is a group_size; NaN for all of a row
        with NaN or infinity in it, whose codes mean nothing
    zero_point : int32, shape of ``scale``
    group_size : so many neighbours in a row share a scale, the last ones may be fewer
    """

    codes: NDArray[Any]
    scale: NDArray[np.float32]
    zero_point: NDArray[np.int32]
    group_size: int | None = None

    @property
    def steps(self) -> NDArray[np.int64]:
        """``codes - zero_point``: what is multiplied and summed."""
        steps: NDArray[np.int64] = self.codes.astype(np.int64) - self._expand(self.zero_point)
        return steps

    def dequantize(self) -> NDArray[np.float32]:
        """The floats that the codes stand for."""
        return dequantize(self.codes, self._expand(self.scale), self._expand(self.zero_point))

    def _expand(self, params: NDArray[Any]) -> NDArray[Any]:
        if self.group_size is None:
            return params[:, None]
        return np.repeat(params, self.group_size, axis=1)[:, : self.codes.shape[1]]


def input_group_size(weight: Encoding) -> int | None:
    """How many values of an input row share a scale when the weight (out, in) has groups."""
    if not isinstance(weight, Affine) or weight.scheme.axis not in (0, -len(weight.shape)):
        return None
    return weight.scheme.group_size


def code_rows(
    rows: NDArray[Any], activations: Activations, group_size: int | None = None
) -> InputCodes:
    """Code rows (n, length) of float32, or of codes already, in one of the 8-bit forms.

    group_size : of the weight, for a scale per group of a row; the fixed forms have one for all
    """
    if group_size is not None and not activations.is_fixed:
        return _code_groups(rows, activations, min(group_size, max(rows.shape[1], 1)))
    count = len(rows)
    if activations.is_fixed:
        scale = np.full(count, activations.scale, np.float32)
        zero_point = np.full(count, activations.zero_point, np.int32)
        if rows.dtype != np.float32:
            return InputCodes(rows, scale, zero_point)
        held = np.where(np.isnan(rows), np.float32(-np.inf), rows)  # NaN: the lowest code
    else:
        finite = np.isfinite(rows).all(axis=1)
        held = np.where(finite[:, None], rows, 0)
        scale, zero_point = scale_and_zero_point(*_range(held, activations), activations.scheme)
        scale[~finite] = np.nan
    divisor = np.where(np.isnan(scale), np.float32(1), scale)[:, None]
    codes = quantize(held, divisor, zero_point[:, None], activations.scheme)
    return InputCodes(codes, scale, zero_point)


def _code_groups(rows: NDArray[Any], activations: Activations, group_size: int) -> InputCodes:
    count, length = rows.shape
    groups = -(-length // group_size)
    padded = np.zeros((count, groups * group_size), np.float32)  # zeros widen no range
    padded[:, :length] = rows
    coded = code_rows(padded.reshape(count * groups, group_size), activations)
    scale = coded.scale.reshape(count, groups)
    scale[np.isnan(scale).any(axis=1)] = np.nan
    codes = coded.codes.reshape(padded.shape)[:, :length]
    return InputCodes(codes, scale, coded.zero_point.reshape(scale.shape), group_size)


def _range(rows: NDArray[Any], activations: Activations) -> tuple[NDArray[Any], NDArray[Any]]:
    if rows.shape[1] == 0:
        return np.zeros(len(rows), np.float32), np.zeros(len(rows), np.float32)
    if activations.form is InputForm.INT8:
        size = np.abs(rows).max(axis=1)
        return -size, size
    return rows.min(axis=1), rows.max(axis=1)
