"""The 8-bit codes of a layer's input, in numpy: what every kernel makes inside its call."""

from __future__ import annotations

from typing import Any

import attrs
import numpy as np
from numpy.typing import NDArray

from qsdk.affine import dequantize, quantize, scale_and_zero_point
from qsdk.interfaces.operation import Activations, InputForm


@attrs.frozen(eq=False)
class InputCodes:
    """``rows ≈ scale * (codes - zero_point)``.

    codes : int8 or uint8, (rows, length)
    scale : float32, (rows,); NaN for a row with NaN or infinity in it, whose codes mean nothing
    zero_point : int32, (rows,)
    """

    codes: NDArray[Any]
    scale: NDArray[np.float32]
    zero_point: NDArray[np.int32]

    @property
    def steps(self) -> NDArray[np.int64]:
        """``codes - zero_point``: what is multiplied and summed."""
        return self.codes.astype(np.int64) - self.zero_point[:, None]

    def dequantize(self) -> NDArray[np.float32]:
        """The floats that the codes stand for."""
        return dequantize(self.codes, self.scale[:, None], self.zero_point[:, None])


def code_rows(rows: NDArray[Any], activations: Activations) -> InputCodes:
    """Code rows (n, length) of float32, or of codes already, in one of the 8-bit forms."""
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


def _range(rows: NDArray[Any], activations: Activations) -> tuple[NDArray[Any], NDArray[Any]]:
    if rows.shape[1] == 0:
        return np.zeros(len(rows), np.float32), np.zeros(len(rows), np.float32)
    if activations.form is InputForm.INT8:
        size = np.abs(rows).max(axis=1)
        return -size, size
    return rows.min(axis=1), rows.max(axis=1)
