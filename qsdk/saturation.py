"""What a layer of int8 codes loses on x86 without VNNI, where 16 bits take products two by two.

There onnxruntime multiplies unsigned input codes by signed weights with vpmaddubsw, which adds two
neighbouring products in int16 and saturates. Neighbours are k and k + 1, k even, with k counted
over the places of the kernel and, in each, the channels of the group. It has other instructions,
which lose nothing, for signed inputs and for depthwise layers; kernels of qsdk never saturate.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from qsdk.accumulators import INT16, pair_losses, worst_pairs
from qsdk.encodings import Affine
from qsdk.interfaces import FixedCodes, Layer, input_columns


class Saturation:
    """What sums of one layer lose.

    layer : of the float model, for its shape and attributes
    weight : (out, in / groups, kernel...)
    codes : of the input
    """

    def __init__(self, layer: Layer, weight: Affine, codes: FixedCodes):
        self._layer, self._codes = layer, codes
        self._groups = int(layer.attributes.get("group", 1))
        channels, places = layer.shape[1], math.prod(layer.shape[2:])
        self._order = np.arange(channels * places).reshape(channels, places).T.reshape(-1)
        rows = weight.codes.reshape(self._groups, -1, len(self._order))[..., self._order]
        self._weights = rows.astype(np.int16)
        scale = np.broadcast_to(weight.scale, layer.shape[:1]).astype(np.float64)
        self._steps = (scale * codes.scale).reshape(self._groups, -1, 1)

    @classmethod
    def of(cls, layer: Layer, weight: Any, codes: FixedCodes | None) -> Saturation | None:
        """None where no pair of these weights can leave 16 bits, whatever the input."""
        if not _meets_pairs(layer, weight, codes):
            return None
        assert codes is not None
        found = cls(layer, weight, codes)
        worst = (worst_pairs(rows, 0, 255, neighbours=True) for rows in found._weights)
        return found if any(rows.max(initial=0) > INT16.max for rows in worst) else None

    def losses(self, decoded: NDArray[np.float32]) -> NDArray[np.float64]:
        """What the results lose, in their own unit: (groups, out / groups, n).

        decoded : an input of the layer whose values are on the grid of its codes
        """
        columns = input_columns(decoded, self._layer)[:, self._order]
        x = np.rint(columns / np.float32(self._codes.scale)) + self._codes.zero_point
        lost = [
            pair_losses(rows, part.astype(np.uint8))
            for rows, part in zip(self._weights, x, strict=True)
        ]
        return np.stack(lost) * self._steps


def _meets_pairs(layer: Layer, weight: Any, codes: FixedCodes | None) -> bool:
    """Whether vpmaddubsw is what multiplies these weights."""
    if codes is None or codes.scheme.signed or not isinstance(weight, Affine):
        return False
    scheme = weight.scheme
    if not scheme.signed or scheme.granularity == "per_group":
        return False
    if scheme.granularity == "per_channel" and scheme.axis not in (0, -len(weight.shape)):
        return False
    groups = int(layer.attributes.get("group", 1))
    return not (layer.shape[0] == groups > 1 and layer.shape[1] == 1)
