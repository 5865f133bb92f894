"""Recurrent layers that run: ``qsdk.lstm`` and ``qsdk.gru``, as ONNX defines them."""

from __future__ import annotations

from collections.abc import Sequence

from numpy.typing import ArrayLike

from qsdk.errors import OptionError
from qsdk.operations import Form
from qsdk.recurrent.cells import GRU, GRU_LINEAR_BEFORE_RESET, LSTM, Cell
from qsdk.recurrent.layer import GruResult, LstmResult, Recurrent, State
from qsdk.recurrent.weights import Weight, directions

__all__ = ["GruResult", "LstmResult", "Recurrent", "State", "gru", "lstm"]


def lstm(
    w: Weight,
    r: Weight,
    *,
    bias: ArrayLike | None = None,
    direction: str = "forward",
    activations: Form | tuple[Form, Form] = None,
    clip: float | None = None,
    layout: int = 0,
    functions: Sequence[str] | None = None,
    peepholes: ArrayLike | None = None,
    input_forget: bool = False,
    kernel: str | None = None,
    threads: int | None = None,
) -> Recurrent[LstmResult]:
    """An ONNX LSTM: ``y, y_h, y_c = layer(x)``; gates in the order i, o, f, c.

    w : W as one matrix (directions * 4 * hidden, input), of any encoding, or a sequence of one
        encoding (4 * hidden, input) for each direction
    r : R in the same way, (directions * 4 * hidden, hidden)
    bias : B, (directions, 8 * hidden): of the input's product, then of the hidden state's
    direction : "forward", "reverse" or "bidirectional"
    activations : how x and the hidden state are coded, as :func:`qsdk.linear` takes it; or a pair,
        one for x and one for the hidden state
    clip : the inputs of the gates are held within -clip and clip
    layout : 1 for arrays that begin with the batch, as ONNX has it
    kernel, threads : of the products, as in :func:`qsdk.linear`
    functions, peepholes, input_forget : what ONNX has beside sigmoid, tanh, tanh is not supported
    Returns a :class:`Recurrent`. Raises KernelError, OptionError.
    """
    if peepholes is not None or input_forget:
        given = "input_forget" if peepholes is None else "peepholes"
        raise OptionError(f"{given} is given; qsdk.lstm has neither peepholes nor coupled gates")
    cell = LSTM.evolve(clip=clip)
    given_forms = activations if isinstance(activations, tuple) else (activations, activations)
    _check_functions(functions, cell, direction)
    parts = directions(cell, w, r, bias, direction, given_forms, kernel, threads)
    return Recurrent(cell, parts, LstmResult, layout, threads)


def gru(
    w: Weight,
    r: Weight,
    *,
    bias: ArrayLike | None = None,
    direction: str = "forward",
    linear_before_reset: bool = False,
    activations: Form | tuple[Form, Form] = None,
    clip: float | None = None,
    layout: int = 0,
    functions: Sequence[str] | None = None,
    kernel: str | None = None,
    threads: int | None = None,
) -> Recurrent[GruResult]:
    """An ONNX GRU: ``y, y_h = layer(x)``; gates in the order z, r, h.

    w, r, bias : with 3 gates, the rest as in :func:`lstm`
    linear_before_reset : the reset gate is applied to the product of the hidden state (as PyTorch
        does it), not to the hidden state; the latter is coded for its product once more
    """
    cell = (GRU_LINEAR_BEFORE_RESET if linear_before_reset else GRU).evolve(clip=clip)
    given_forms = activations if isinstance(activations, tuple) else (activations, activations)
    _check_functions(functions, cell, direction)
    parts = directions(cell, w, r, bias, direction, given_forms, kernel, threads)
    return Recurrent(cell, parts, GruResult, layout, threads)


def _check_functions(functions: Sequence[str] | None, cell: Cell, direction: str) -> None:
    if functions is None:
        return
    count = 2 if direction == "bidirectional" else 1
    given, known = [word.lower() for word in functions], [*cell.functions] * count
    if given != known:
        raise OptionError(f"functions is {[*functions]}; only {known} are supported")
