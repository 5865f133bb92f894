"""The products of a recurrent layer: which rows of which weight give which gates."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import attrs
import numpy as np
from numpy.typing import ArrayLike, NDArray

from qsdk.encodings import Encoding
from qsdk.errors import OptionError, did_you_mean
from qsdk.interfaces import Prepared
from qsdk.operations import Form, linear
from qsdk.recurrent.cells import Cell

Weight = Encoding | Sequence[Encoding]
DIRECTIONS = {"forward": (False,), "reverse": (True,), "bidirectional": (False, True)}


@attrs.frozen(eq=False)
class Product:
    """Some gates: ``count`` results of ``layer``, from ``start``.

    They are all its results, unless its weight is of an encoding that cannot be cut.
    """

    layer: Prepared
    start: int
    count: int

    @property
    def width(self) -> int:
        """Results of the layer."""
        return self.layer.operation.weight.shape[0]

    def __call__(self, x: NDArray[Any]) -> NDArray[np.float32]:
        y: NDArray[np.float32] = self.layer(x)[..., self.start : self.start + self.count]
        return y


@attrs.frozen(eq=False)
class Direction:
    """One pass over the sequence.

    inputs : the product of x, all gates
    states : the products of the hidden state, in the order in which the cell needs them
    """

    backwards: bool
    inputs: Product
    states: tuple[Product, ...]


def directions(
    cell: Cell,
    w: Weight,
    r: Weight,
    bias: ArrayLike | None,
    direction: str,
    forms: tuple[Form, ...],
    kernel: str | None,
    threads: int | None,
) -> list[Direction]:
    """The products of every direction, packed; arguments as those of ``qsdk.lstm``."""
    if direction not in DIRECTIONS:
        raise OptionError(
            f"direction is {direction!r}{did_you_mean(direction, DIRECTIONS)}; "
            f"give {', '.join(DIRECTIONS)}"
        )
    if len(forms) != 2:
        raise OptionError(f"{len(forms)} activations are given; give one, or a pair for x and h")
    backwards = DIRECTIONS[direction]
    hidden = _hidden(cell, w, r, len(backwards))
    rows = cell.gates * hidden
    of_x, of_h = _biases(cell, bias, len(backwards), hidden)

    def product(
        weight: Weight, d: int, start: int, count: int, b: NDArray[np.float32] | None, form: Form
    ) -> Product:
        whole, first = (weight, d * rows) if isinstance(weight, Encoding) else (weight[d], 0)
        given = None if b is None else b[d, start : start + count]
        return _product(whole, first + start, count, given, form, kernel, threads)

    found = []
    for d, is_backwards in enumerate(backwards):
        start, states = 0, []
        for gates in cell.products:
            states.append(product(r, d, start, gates * hidden, of_h, forms[1]))
            start += gates * hidden
        inputs = product(w, d, 0, rows, of_x, forms[0])
        found.append(Direction(is_backwards, inputs, tuple(states)))
    return found


def _product(
    weight: Encoding,
    start: int,
    count: int,
    bias: NDArray[np.float32] | None,
    form: Form,
    kernel: str | None,
    threads: int | None,
) -> Product:
    part = weight if count == weight.shape[0] else weight.part(start, start + count)
    if part is not None:
        layer = linear(part, bias=bias, activations=form, kernel=kernel, threads=threads)
        return Product(layer, 0, count)
    all_bias = None
    if bias is not None:
        all_bias = np.zeros(weight.shape[0], np.float32)
        all_bias[start : start + count] = bias
    layer = linear(weight, bias=all_bias, activations=form, kernel=kernel, threads=threads)
    return Product(layer, start, count)


def _hidden(cell: Cell, w: Weight, r: Weight, count: int) -> int:
    """Units of the layer, from the shapes of its weights."""
    hidden = (r if isinstance(r, Encoding) else r[0]).shape[-1]
    for name, weight in (("w", w), ("r", r)):
        whole = isinstance(weight, Encoding)
        parts = [weight] if isinstance(weight, Encoding) else [*weight]
        rows = cell.gates * hidden * (count if whole else 1)
        columns = parts[0].shape[-1] if parts else 0
        shapes = [part.shape for part in parts]
        if len(parts) != (1 if whole else count) or set(shapes) != {(rows, columns)}:
            raise OptionError(
                f"{name} has the shape {shapes[0] if whole else shapes}; {hidden} units in {count} "
                f"direction{'s' * (count > 1)} need ({count * cell.gates * hidden}, "
                f"{hidden if name == 'r' else 'input'}), or one encoding for each direction"
            )
    if not hidden:
        raise OptionError("the weights are of 0 units; a recurrent layer has at least 1")
    return hidden


def _biases(
    cell: Cell, bias: ArrayLike | None, count: int, hidden: int
) -> tuple[NDArray[np.float32] | None, NDArray[np.float32] | None]:
    """What is added to the product of x and to that of h, each (directions, gates * hidden)."""
    if bias is None:
        return None, None
    given, rows = np.asarray(bias, np.float32), cell.gates * hidden
    if given.shape != (count, 2 * rows):
        raise OptionError(f"bias has the shape {given.shape}; give ({count}, {2 * rows})")
    of_x, of_h = given[:, :rows].copy(), given[:, rows:].copy()
    inside = cell.reset_inside * hidden  # what the reset gate multiplies stays with its product
    of_x[:, : rows - inside] += of_h[:, : rows - inside]
    of_h[:, : rows - inside] = 0
    return of_x, of_h if inside else None
