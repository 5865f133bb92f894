"""A recurrent layer ready to run: over sequences, or step by step."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Generic, NamedTuple, TypeVar

import attrs
import numpy as np
from numpy.typing import ArrayLike, NDArray

from qsdk import cpu, native
from qsdk.errors import DataError, OptionError
from qsdk.interfaces import most_threads
from qsdk.recurrent.cells import Cell, gru_reset, gru_step, lstm_step
from qsdk.recurrent.native_run import NativeDirection, NativeSteps
from qsdk.recurrent.weights import Direction

Floats = NDArray[np.float32]


class LstmResult(NamedTuple):
    """What ONNX LSTM gives.

    y : the hidden state after every step, (seq, directions, batch, hidden); 0 behind the end
    y_h, y_c : hidden and cell state after the last step, (directions, batch, hidden)
    """

    y: Floats
    y_h: Floats
    y_c: Floats


class GruResult(NamedTuple):
    """What ONNX GRU gives: as :class:`LstmResult`, without a cell state."""

    y: Floats
    y_h: Floats


Result = TypeVar("Result", bound=tuple[Floats, ...])


@attrs.frozen(eq=False)
class State:
    """Where a stream is: :meth:`Recurrent.step` changes it in place.

    h : (batch, hidden)
    c : of the same shape; of no units where the layer has no cell state
    """

    h: Floats
    c: Floats
    native: NativeSteps | None = attrs.field(default=None, repr=False)


class Recurrent(Generic[Result]):
    """``layer(x)`` over sequences, ``layer.step(x, state)`` over a stream.

    hidden, inputs : lengths of the hidden state and of x
    kernels : names of the kernels that make the products
    """

    def __init__(
        self,
        cell: Cell,
        directions: list[Direction],
        result: Callable[..., Result],
        layout: int,
        threads: int | None,
    ):
        if layout not in (0, 1):
            raise OptionError(f"layout is {layout!r}; give 0, or 1 for the batch first")
        self.cell, self.layout = cell, layout
        self.directions: list[Direction] = directions
        self._result: Callable[..., Result] = result
        self.hidden: int = directions[0].inputs.count // cell.gates
        limit = cpu.threads() if threads is None else threads
        if native.available():
            self._from_buffer = native.library().ffi.from_buffer
            self._c_run = native.library().lib.qsdk_recurrent_run
        self._native = [NativeDirection.of(cell, d, self.hidden, limit) for d in directions]
        self.inputs: int = directions[0].inputs.layer.operation.weight.shape[1]

    @property
    def kernels(self) -> list[str]:
        products = [p for d in self.directions for p in (d.inputs, *d.states)]
        return sorted({product.layer.kernel.name for product in products})

    def __call__(
        self,
        x: ArrayLike,
        *,
        initial_h: ArrayLike | None = None,
        initial_c: ArrayLike | None = None,
        sequence_lens: ArrayLike | None = None,
        out: Floats | None = None,
    ) -> Result:
        """Run over whole sequences.

        x : floats (seq, batch, input), or codes of ``BinaryCoded.rows()`` (seq, batch)
        initial_h, initial_c : (directions, batch, hidden); 0 where not given
        sequence_lens : (batch,), 0 to seq; behind the end of its sequence the state stays
        out : C-contiguous memory for y
        With layout 1 the batch is the first axis of all of them.
        Raises DataError for another shape.

        NaN in x, or where x is coded in the call infinity too, makes the state of its sequence NaN
        from that step on, whichever kernel runs; other sequences are not touched.
        """
        given = self._sequence(x)
        steps, batch = given.shape[:2]
        h = self._initial("initial_h", initial_h, batch)
        c = self._initial("initial_c", initial_c, batch)
        lengths = _lengths(sequence_lens, steps, batch)
        shape = (steps, len(self.directions), batch, self.hidden)
        y = self._memory(out, shape)
        for d, fast in enumerate(self._native):
            whole = (given, h[d], c[d], lengths, y[:, d])
            if fast is None:
                self._run(self.directions[d], *whole)
            else:
                fast.run(*whole)
        if self.layout:
            y, h, c = (np.moveaxis(a, -2, 0) for a in (y, h, c))
            if out is not None:
                out[...] = y
                y = out
        return self._result(y, h, c) if self.cell.has_cell_state else self._result(y, h)

    def state(
        self, batch: int = 1, h: ArrayLike | None = None, c: ArrayLike | None = None
    ) -> State:
        """The start of ``batch`` streams; h and c (batch, hidden), 0 where not given."""
        self._check_forward()
        memory = self._one("h", h, batch), self._one("c", c, batch)
        fast = self._native[0]
        if fast is None:
            return State(*memory)
        return State(*memory, NativeSteps.of(fast, self.inputs, *memory))

    def step(self, x: NDArray[Any], state: State) -> Floats:
        """One step of every stream: x (batch, input), or codes (batch,).

        Returns ``state.h``, which the next step overwrites; allocates nothing where every product
        runs in C and x is C-contiguous float32 or codes.
        """
        fast = state.native
        if fast is None or fast.owner is not self._native[0]:
            return self._step_in_python(x, state)
        known = fast.shapes.get(x.dtype) if type(x) is np.ndarray else None
        if known is None or x.shape != known[1] or not x.flags.c_contiguous or not fast.batch:
            x = self._checked(x, state)
            known = fast.shapes[x.dtype]
        if fast.batch:
            self._c_run(
                known[0],
                self._from_buffer(x),
                known[2],
                1,
                fast.batch,
                fast.null,
                fast.h,
                fast.c,
                fast.null,
                0,
                fast.scratch,
                most_threads(fast.owner.threads),
            )
        return state.h

    def _checked(self, x: ArrayLike, state: State) -> NDArray[Any]:
        """x as one step of this state takes it."""
        if state.h.shape[1:] != (self.hidden,):
            raise DataError(f"the state is of {state.h.shape[1]} units, the layer of {self.hidden}")
        given = self.directions[0].inputs.layer.as_input(x)
        wanted = (len(state.h),) if given.dtype.names else (len(state.h), self.inputs)
        if given.shape != wanted:
            raise DataError(f"x has the shape {given.shape}; this state takes {wanted}")
        return given

    def _step_in_python(self, x: ArrayLike, state: State) -> Floats:
        given = self._checked(x, state)
        new = self._step(self.directions[0], self.directions[0].inputs(given), state.h, state.c)
        state.h[...], state.c[...] = new
        return state.h

    def _run(
        self,
        direction: Direction,
        x: NDArray[Any],
        h: Floats,
        c: Floats,
        lengths: NDArray[np.int64] | None,
        y: Floats,
    ) -> None:
        """All steps of a direction: h and c change in place, y (seq, batch, hidden) is filled."""
        inputs = direction.inputs(x)
        steps = range(len(inputs))
        for t in reversed(steps) if direction.backwards else steps:
            new_h, new_c = self._step(direction, inputs[t], h, c)
            if lengths is None:
                h[...], c[...], y[t] = new_h, new_c, new_h
            else:
                goes_on = (t < lengths)[:, np.newaxis]
                np.copyto(h, new_h, where=goes_on)
                np.copyto(c, new_c, where=goes_on)
                y[t] = np.where(goes_on, new_h, np.float32(0))

    def _step(
        self, direction: Direction, inputs: Floats, h: Floats, c: Floats
    ) -> tuple[Floats, Floats]:
        cell, hidden = self.cell, self.hidden
        products = direction.states[0](h)
        if cell.has_cell_state:
            return lstm_step(cell, inputs, products, c)
        z, r, reset = gru_reset(cell, inputs, products, h)
        if cell.reset_inside:
            with np.errstate(over="ignore", invalid="ignore"):
                candidate = r * products[:, 2 * hidden :]
        else:
            candidate = direction.states[1](reset)
        return gru_step(cell, inputs, candidate, z, h), c

    def _sequence(self, x: ArrayLike) -> NDArray[Any]:
        given = self.directions[0].inputs.layer.as_input(x)
        wanted = "(seq, batch)" if given.dtype.names else f"(seq, batch, {self.inputs})"
        axes = 2 if given.dtype.names else 3
        if given.ndim != axes or given.shape[2:] != (self.inputs,)[: axes - 2]:
            raise DataError(f"x has the shape {given.shape}; this layer takes {wanted}")
        return np.ascontiguousarray(given.swapaxes(0, 1)) if self.layout else given

    def _initial(self, name: str, given: ArrayLike | None, batch: int) -> Floats:
        shape = (len(self.directions), batch, self.hidden)
        if name == "initial_c" and not self.cell.has_cell_state:
            if given is not None:
                raise DataError("initial_c is given; a GRU has no cell state")
            return np.zeros((*shape[:2], 0), np.float32)
        if given is None:
            return np.zeros(shape, np.float32)
        array = np.array(given, np.float32)
        array = array.swapaxes(0, 1) if self.layout and array.ndim == 3 else array
        if array.shape != shape:
            raise DataError(f"{name} has the shape {np.shape(given)}; give {self._order(shape)}")
        return np.ascontiguousarray(array)

    def _one(self, name: str, given: ArrayLike | None, batch: int) -> Floats:
        shape = (batch, self.hidden if name == "h" or self.cell.has_cell_state else 0)
        if given is None:
            return np.zeros(shape, np.float32)
        array = np.array(given, np.float32)
        if array.shape != shape:
            raise DataError(f"{name} has the shape {array.shape}; give {shape}")
        return array

    def _memory(self, out: Floats | None, shape: tuple[int, ...]) -> Floats:
        wanted = (shape[2], shape[0], shape[1], shape[3]) if self.layout else shape
        y = np.empty(shape, np.float32) if out is None or self.layout else out
        if out is not None and (
            out.dtype != np.float32 or out.shape != wanted or not out.flags.carray
        ):
            raise DataError(
                f"out is {out.dtype} {out.shape}; "
                f"give a writeable C-contiguous float32 array of shape {wanted}"
            )
        return y

    def _order(self, shape: tuple[int, ...]) -> tuple[int, ...]:
        return (shape[1], shape[0], *shape[2:]) if self.layout else shape

    def _check_forward(self) -> None:
        if len(self.directions) > 1 or self.directions[0].backwards:
            raise OptionError("a stream runs forward; this layer needs the end of its sequences")

    def __repr__(self) -> str:
        return f"<{self.cell.name} of {self.hidden} units by {', '.join(self.kernels)}>"


def _lengths(given: ArrayLike | None, steps: int, batch: int) -> NDArray[np.int64] | None:
    if given is None:
        return None
    array = np.asarray(given)
    fits = array.dtype.kind in "iu" and array.shape == (batch,)
    if not fits or (array < 0).any() or (array > steps).any():
        raise DataError(
            f"sequence_lens is {array.tolist()}; give {batch} whole numbers from 0 to {steps}"
        )
    return array.astype(np.int64)
