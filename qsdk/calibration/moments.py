"""What a layer's inputs look like to a method that needs more than a range: their second moment.

``H = X X^T / n`` over the columns X that the rows of the weight are multiplied by, of which a
convolution has one per place of its result. Source: Frantar et al. 2022, arXiv:2210.17323, eq. 2.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import attrs
import numpy as np
from numpy.typing import NDArray

from qsdk.calibration.feeds import Data, batches
from qsdk.errors import DataError
from qsdk.interfaces import Layer, Model, input_columns, input_pieces

ROWS = 32  # that the model runs on at a time
MOMENT_BYTES = 2**28  # of moments that are held: so many layers share one pass over the data


@attrs.frozen(eq=False)
class InputMoments:
    """hessian : float64 (groups, K, K); mean : float64 (groups, K), of the same columns

    K is in channels / groups * kernel, in the order of the weight's rows; count is that of columns.
    """

    hessian: NDArray[np.float64]
    mean: NDArray[np.float64]
    count: int


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
