"""All steps of a recurrent layer in one call in C, where every product has a function for it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, Self

import attrs
import numpy as np
from numpy.typing import NDArray

from qsdk import cpu, native
from qsdk.interfaces import NativeCall, most_threads
from qsdk.recurrent.cells import Cell
from qsdk.recurrent.weights import Direction, Product

Floats = NDArray[np.float32]
FLOAT32 = np.dtype(np.float32)
ALIGNMENT = 64


@attrs.frozen(eq=False)
class NativeDirection:
    """A ``qsdk_recurrent`` for each dtype of x.

    keep : what its addresses need
    """

    contexts: dict[np.dtype[Any], Any]
    backwards: bool
    threads: int
    scratch_bytes: Callable[[int, int], int]
    keep: object

    @classmethod
    def of(cls, cell: Cell, direction: Direction, hidden: int, threads: int) -> Self | None:
        """None where C is off, or a product is one that only Python can make."""
        inputs = direction.inputs.layer.native
        states = [product.layer.native for product in direction.states]
        if inputs is None or not all(states) or cpu.EXTENSION not in cpu.features():
            return None
        ffi, lib = native.library().ffi, native.library().lib

        def product(of: Product, call: Any, dtype: np.dtype[Any]) -> dict[str, Any]:
            return {
                "run": ffi.cast("qsdk_run *", call.function),
                "layer": ffi.cast("void *", call.contexts[dtype]),
                "start": of.start,
                "width": of.width,
            }

        fields = {
            "set": instruction_set(),
            "kind": cell.kind,
            "backwards": direction.backwards,
            "hidden": hidden,
            "clip": cell.clip,
            "states": [
                product(of, call, FLOAT32)
                for of, call in zip(direction.states, states, strict=True)
            ],
        }
        contexts = {
            dtype: ffi.new(
                "qsdk_recurrent *", {**fields, "inputs": product(direction.inputs, inputs, dtype)}
            )
            for dtype in inputs.contexts
        }
        any_context = contexts[FLOAT32]

        def scratch_bytes(steps: int, batch: int) -> int:
            own = lib.qsdk_recurrent_scratch(any_context, steps, batch)
            first = inputs.scratch_bytes(lib.qsdk_recurrent_rows(steps, batch))
            return int(own) + max(first, *(_needs(call, batch) for call in states))

        return cls(contexts, direction.backwards, threads, scratch_bytes, direction)

    def run(
        self, x: NDArray[Any], h: Floats, c: Floats, lengths: NDArray[np.int64] | None, y: Floats
    ) -> None:
        """As :meth:`Recurrent._run`: h and c (batch, hidden) change, y (seq, batch, hidden) is
        filled, whose steps may lie apart."""
        steps, batch = x.shape[:2]
        if not steps or not batch:
            return
        ffi, lib = native.library().ffi, native.library().lib
        memory, scratch = aligned(self.scratch_bytes(steps, batch))
        lib.qsdk_recurrent_run(
            self.contexts[x.dtype],
            ffi.from_buffer(x),
            x.nbytes // (steps * batch),
            steps,
            batch,
            ffi.NULL if lengths is None else ffi.from_buffer("int64_t[]", lengths),
            ffi.from_buffer("float[]", h),
            ffi.from_buffer("float[]", c),
            ffi.cast("float *", y.ctypes.data),
            y.strides[0] // y.itemsize,
            scratch,
            most_threads(self.threads),
        )
        del memory  # until here it had to live


@attrs.frozen(eq=False)
class NativeSteps:
    """The arguments of a step that stay: contexts by dtype, memory, and addresses in it."""

    owner: NativeDirection
    shapes: dict[np.dtype[Any], tuple[Any, tuple[int, ...], int]]
    batch: int
    h: Any
    c: Any
    scratch: Any
    null: Any
    keep: object

    @classmethod
    def of(cls, owner: NativeDirection, inputs: int, h: Floats, c: Floats) -> Self:
        """inputs : floats of a row of x; records have one element"""
        ffi, batch = native.library().ffi, len(h)
        shapes: dict[np.dtype[Any], tuple[Any, tuple[int, ...], int]] = {}
        for dtype, context in owner.contexts.items():
            shape = (batch,) if dtype.names else (batch, inputs)
            shapes[dtype] = context, shape, dtype.itemsize * (1 if dtype.names else inputs)
        memory, scratch = aligned(owner.scratch_bytes(1, batch))
        h_at, c_at = (ffi.from_buffer("float[]", state) for state in (h, c))
        return cls(owner, shapes, batch, h_at, c_at, scratch, ffi.NULL, memory)


def _needs(call: NativeCall | None, batch: int) -> int:
    return 0 if call is None else call.scratch_bytes(batch)


def instruction_set() -> Any:
    """The fastest gates that this CPU runs."""
    usable = cpu.features()
    return next(table for _, features, table in instruction_sets() if features <= usable)


def instruction_sets() -> Iterator[tuple[str, frozenset[str], Any]]:
    """Name, needed features and functions of each set of this build, the fastest first."""
    ffi, lib = native.library().ffi, native.library().lib
    number = 0
    while (table := lib.qsdk_recurrent_set(number)) != ffi.NULL:
        name, features = (ffi.string(text).decode() for text in (table.name, table.features))
        yield name, frozenset(features.split()), table
        number += 1


def aligned(nbytes: int) -> tuple[NDArray[np.uint8], Any]:
    """Memory from the start of a cache line, and its address."""
    block = np.empty(nbytes + ALIGNMENT, np.uint8)
    start = block.ctypes.data + -block.ctypes.data % ALIGNMENT
    return block, native.library().ffi.cast("void *", start)
