"""What a layer's inputs look like to a method that needs more than a range: their second moment.

``H = X X^T / n`` over the columns X that the rows of the weight are multiplied by, of which a
convolution has one per place of its result. Source: Frantar et al. 2022, arXiv:2210.17323, eq. 2.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import attrs
import numpy as np
from numpy.typing import NDArray

from qsdk.calibration.feeds import Data, batches
from qsdk.errors import DataError
from qsdk.interfaces import Layer, Model

ROWS = 32  # that the model runs on at a time
COLUMN_BYTES = 2**24  # of columns that are made at a time
MOMENT_BYTES = 2**28  # of moments that are held: so many layers share one pass over the data


@attrs.frozen(eq=False)
class InputMoments:
    """hessian : float64 (groups, K, K); mean : float64 (groups, K), of the same columns

    K is in channels / groups * kernel, in the order of the weight's rows; count is that of columns.
    """

    hessian: NDArray[np.float64]
    mean: NDArray[np.float64]
    count: int


def refusal(layer: Layer) -> str:
    """Why the columns of this layer's inputs cannot be told; empty when they can."""
    words = layer.attributes
    plain = {"Conv": True, "MatMul": True, "Gemm": not words.get("transA", 0)}
    if not layer.input_name or not plain.get(layer.operation, False):
        return f"nothing tells which inputs meet the weight of {layer.operation or 'an array'}"
    if words.get("auto_pad", "NOTSET") not in ("NOTSET", "VALID"):
        return f"auto_pad {words['auto_pad']} is not known here; write the pads out"
    return ""


class Moments:
    """Moments of layers, taken when they are asked for: one pass for as many as fit in memory.

    layers : in the order in which they will be asked for
    data : gone through more than once
    """

    def __init__(self, model: Model, layers: Sequence[Layer], data: Data):
        self._model, self._layers, self._data = model, list(layers), data
        self._found: dict[str, InputMoments] = {}

    def of(self, name: str) -> InputMoments:
        if name not in self._found:
            self._found = {}
            self._found = self._pass(self._next(name))
        return self._found[name]

    def _next(self, name: str) -> list[Layer]:
        """The layer and those behind it whose moments fit beside."""
        start = [layer.name for layer in self._layers].index(name)
        chosen, held = [self._layers[start]], _nbytes(self._layers[start])
        for layer in self._layers[start + 1 :]:
            held += _nbytes(layer)
            if held > MOMENT_BYTES:
                break
            chosen.append(layer)
        return chosen

    def _pass(self, layers: list[Layer]) -> dict[str, InputMoments]:
        sums = {layer.name: _Sum(layer) for layer in layers}
        fetch = list(dict.fromkeys(layer.input_name for layer in layers))
        given = set(self._model.inputs)
        for batch in batches(self._data, self._model):
            for _, part in batch.parts(ROWS if self._is_free() else 0):
                wanted = [name for name in fetch if name not in given]
                values: Mapping[str, Any] = self._model.run(part, wanted) if wanted else {}
                for layer in layers:
                    sums[layer.name].add(np.asarray({**part, **values}[layer.input_name]))
        return {name: found.moments() for name, found in sums.items()}

    def _is_free(self) -> bool:
        types = self._model.input_types.values()
        return all(t.shape is not None and t.shape[:1] == (None,) for t in types)


class _Sum:
    """Sums over columns, in doubles; products of one part in float32."""

    def __init__(self, layer: Layer):
        self._layer = layer
        groups, length = _shape(layer)
        self._second = np.zeros((groups, length, length))
        self._first = np.zeros((groups, length))
        self._count = 0

    def add(self, x: NDArray[Any]) -> None:
        if not np.isfinite(x).all():
            raise DataError(f"the input of {self._layer.name} holds NaN or infinity on this data")
        for piece in input_pieces(x, self._layer):
            columns = input_columns(piece, self._layer)
            for group, part in enumerate(columns):
                self._second[group] += part @ part.T
            self._first += columns.sum(axis=2, dtype=np.float64)
            self._count += columns.shape[2]

    def moments(self) -> InputMoments:
        n = max(self._count, 1)
        return InputMoments(self._second / n, self._first / n, self._count)


def _shape(layer: Layer) -> tuple[int, int]:
    """(groups, K)."""
    return int(layer.attributes.get("group", 1)), math.prod(layer.shape[1:])


def _nbytes(layer: Layer) -> int:
    groups, length = _shape(layer)
    return 8 * groups * length * (length + 1)


def input_pieces(x: NDArray[Any], layer: Layer) -> Iterator[NDArray[Any]]:
    """Some samples at a time, so that their columns stay small."""
    if layer.operation != "Conv":
        x = x.reshape(-1, x.shape[-1])
    one = x[:1].nbytes * math.prod(layer.shape[2:])
    step = max(COLUMN_BYTES // max(one, 1), 1)
    for start in range(0, len(x), step):
        yield x[start : start + step]


def input_columns(x: NDArray[Any], layer: Layer) -> NDArray[np.float32]:
    """What the rows of a weight are multiplied by: float32 (groups, K, n).

    x : the input tensor as the operator takes it
    """
    groups, length = _shape(layer)
    floats = np.asarray(x, np.float32)
    if layer.operation != "Conv":
        return np.ascontiguousarray(floats.reshape(1, -1, length).transpose(0, 2, 1))
    axes, words = len(layer.shape) - 2, layer.attributes
    pads = words.get("pads", [0] * 2 * axes)
    stride, dilation = words.get("strides", [1] * axes), words.get("dilations", [1] * axes)
    ends = [(pads[i], pads[axes + i]) for i in range(axes)]
    padded = np.pad(floats, [(0, 0), (0, 0), *ends])
    reach = [d * (k - 1) + 1 for d, k in zip(dilation, layer.shape[2:], strict=True)]
    windows = np.lib.stride_tricks.sliding_window_view(padded, reach, tuple(range(2, 2 + axes)))
    places = tuple(slice(None, None, s) for s in stride)
    taps = tuple(slice(None, None, d) for d in dilation)
    cut = windows[(slice(None), slice(None), *places, *taps)]  # (n, channels, places..., kernel...)
    kernel = range(2 + axes, 2 + 2 * axes)
    columns = cut.transpose(1, *kernel, 0, *range(2, 2 + axes))
    return columns.reshape(groups, length, -1)
