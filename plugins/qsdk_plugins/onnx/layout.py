"""Between a file's layout of a weight and (out channels, in channels / groups, kernel...)."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import attrs
import numpy as np
from numpy.typing import NDArray

from qsdk.errors import FileRefusedError


@attrs.frozen
class Layout:
    """``canonical = file.reshape(view).transpose(order).reshape(shape)``."""

    file_shape: tuple[int, ...]
    view: tuple[int, ...]
    order: tuple[int, ...]
    shape: tuple[int, ...]

    @classmethod
    def permuted(cls, file_shape: tuple[int, ...], order: tuple[int, ...]) -> Layout:
        return cls(file_shape, file_shape, order, tuple(file_shape[axis] for axis in order))

    @property
    def permuted_view(self) -> tuple[int, ...]:
        """Shape between transposing and the last reshape."""
        return tuple(self.view[axis] for axis in self.order)

    @property
    def inverse(self) -> tuple[int, ...]:
        return tuple(int(axis) for axis in np.argsort(self.order))

    @property
    def is_permutation(self) -> bool:
        """Whether each canonical axis is an axis of the file."""
        return self.view == self.file_shape and self.permuted_view == self.shape

    def to_canonical(self, array: NDArray[Any]) -> NDArray[Any]:
        return array.reshape(self.view).transpose(self.order).reshape(self.shape)

    def to_file(self, array: NDArray[Any]) -> NDArray[Any]:
        permuted = array.reshape(self.permuted_view)
        return permuted.transpose(self.inverse).reshape(self.file_shape)


def _as_it_is(shape: tuple[int, ...], attributes: Mapping[str, Any]) -> Layout:
    return Layout.permuted(shape, tuple(range(len(shape))))


def _columns(shape: tuple[int, ...], attributes: Mapping[str, Any]) -> Layout:
    return Layout.permuted(shape, (1, 0))


def _gemm(shape: tuple[int, ...], attributes: Mapping[str, Any]) -> Layout:
    return (_as_it_is if attributes.get("transB", 0) else _columns)(shape, attributes)


def _conv_transpose(shape: tuple[int, ...], attributes: Mapping[str, Any]) -> Layout:
    """File (in, out / groups, kernel...)."""
    groups, kernel = attributes.get("group", 1), shape[2:]
    if groups == 1:
        return Layout.permuted(shape, (1, 0, *range(2, len(shape))))
    if groups < 1 or shape[0] % groups:
        raise FileRefusedError(f"a ConvTranspose of {shape[0]} channels has {groups} groups")
    inputs, outputs = shape[0] // groups, shape[1]
    view = (groups, inputs, outputs, *kernel)
    order = (0, 2, 1, *range(3, len(view)))
    return Layout(shape, view, order, (groups * outputs, inputs, *kernel))


def _directions(shape: tuple[int, ...], attributes: Mapping[str, Any]) -> Layout:
    """Recurrent weights (directions, gates * hidden, inputs): one row per gate and unit."""
    rows = (shape[0] * shape[1], shape[2])
    return Layout(shape, rows, (0, 1), rows)


@attrs.frozen
class Slot:
    """An input of an operator that holds a weight.

    part : what to call it beside the operator's name when there are several
    dims : how many axes it must have; None for any number from 3
    always_weight : whether the operator is expected to have a constant there
    """

    index: int
    dims: int | None
    layout: Callable[[tuple[int, ...], Mapping[str, Any]], Layout]
    part: str = ""
    always_weight: bool = True

    def fits(self, shape: tuple[int, ...]) -> bool:
        return len(shape) == self.dims if self.dims else len(shape) >= 3


SLOTS: dict[str, tuple[Slot, ...]] = {
    "Conv": (Slot(1, None, _as_it_is),),
    "ConvTranspose": (Slot(1, None, _conv_transpose),),
    "Gemm": (Slot(1, 2, _gemm, always_weight=False),),
    "MatMul": (
        Slot(1, 2, _columns, always_weight=False),
        Slot(0, 2, _as_it_is, always_weight=False),
    ),
    "LSTM": (Slot(1, 3, _directions, "W"), Slot(2, 3, _directions, "R")),
    "GRU": (Slot(1, 3, _directions, "W"), Slot(2, 3, _directions, "R")),
    "RNN": (Slot(1, 3, _directions, "W"), Slot(2, 3, _directions, "R")),
    "Gather": (Slot(0, 2, _as_it_is, always_weight=False),),
}
