"""Calling a prepared layer in C with as little Python as can be."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from qsdk import native
from qsdk.interfaces import Kernel, NativeCall, Operation, Prepared, most_threads
from qsdk_plugins.kernels.memory import ScratchPool


class NativePrepared(Prepared):
    """A function of the type ``qsdk_run`` (native/kernel/kernel.h) and a context for it.

    run : the C function
    contexts : the dtype of an input to the struct that the function gets with it
    codes : of these dtypes the one that has a record for a row
    scratch_bytes : what a call on so many rows needs; more rows never need less
    keep : whatever the contexts point to
    """

    def __init__(
        self,
        kernel: Kernel,
        operation: Operation,
        *,
        run: Any,
        contexts: Mapping[np.dtype[Any], Any],
        scratch_bytes: Callable[[int], int],
        keep: object,
        threads: int,
        codes: np.dtype[Any] | None = None,
    ):
        super().__init__(kernel, operation)
        self.function, self.contexts, self.codes = run, contexts, codes
        self.native = _native_call(run, contexts, scratch_bytes)
        self.threads = threads
        self._keep = keep
        self._from_buffer = native.library().ffi.from_buffer
        self._out_features, self._in_features = operation.weight.shape[:2]
        self._tail = (self._out_features,)
        self._out_dtype = operation.output.dtype
        self._pool = ScratchPool(scratch_bytes)

    def __call__(self, x: ArrayLike, out: NDArray[Any] | None = None) -> NDArray[Any]:
        # What Prepared does takes longer than a small layer; what fails here, it explains.
        if type(x) is not np.ndarray:
            return super().__call__(x, out)
        dtype, shape = x.dtype, x.shape
        context = self.contexts.get(dtype)
        if context is None:
            return super().__call__(x, out)
        if dtype.names:
            result = shape + self._tail
        elif shape and shape[-1] == self._in_features:
            result = shape[:-1] + self._tail
        else:
            return super().__call__(x, out)
        if out is None:
            out = np.empty(result, self._out_dtype)
        elif type(out) is not np.ndarray or out.dtype != self._out_dtype or out.shape != result:
            return super().__call__(x, out)
        if not x.flags.c_contiguous or not out.flags.carray or not out.size:
            return super().__call__(x, out)
        self._call(context, x, out, out.size // self._out_features)
        return out

    def run(self, x: NDArray[Any], out: NDArray[Any]) -> None:
        self._call(self.contexts[x.dtype], x, out, out.size // self._out_features)

    def _call(self, context: Any, x: NDArray[Any], out: NDArray[Any], rows: int) -> None:
        scratch = self._pool.take(rows)
        self.function(
            context,
            self._from_buffer(x),
            rows,
            self._from_buffer(out),
            scratch[1],
            most_threads(self.threads),
        )
        self._pool.give(scratch)


def _native_call(
    run: Any, contexts: Mapping[np.dtype[Any], Any], scratch_bytes: Callable[[int], int]
) -> NativeCall:
    """The same, as another extension can call it."""
    ffi = native.library().ffi

    def address(pointer: Any) -> int:
        return int(ffi.cast("uintptr_t", pointer))

    function = address(ffi.addressof(native.library().lib, run.__name__))
    return NativeCall(
        function, {dtype: address(context) for dtype, context in contexts.items()}, scratch_bytes
    )
