"""Calling a prepared convolution in C with as little Python as can be."""

from __future__ import annotations

import abc
from typing import Any

import attrs
import numpy as np
from numpy.typing import ArrayLike, NDArray

from qsdk import native
from qsdk.interfaces import Conv, Kernel, Operation, Prepared, most_threads
from qsdk_plugins.kernels.memory import ScratchPool

REMEMBERED = 64  # sizes of images that a layer is prepared for at the same time


def two_axes(operation: Conv) -> dict[str, tuple[int, ...]]:
    """Stride, dilation and padding of a 2-D convolution that does the same."""
    axes = len(operation.stride)
    more = 2 - axes
    return {
        "stride": (1,) * more + operation.stride,
        "dilation": (1,) * more + operation.dilation,
        "begin": (0,) * more + operation.padding[:axes],
        "end": (0,) * more + operation.padding[axes:],
    }


@attrs.frozen(eq=False)
class Fitted:
    """A context for images of one size and dtype.

    keep : what the context points to
    result : shape of the result of one image
    pool : scratch for its calls
    """

    context: Any
    keep: object
    result: tuple[int, ...]
    pool: ScratchPool


class ConvPrepared(Prepared):
    """Has a context for each size of images that it met.

    function : in C, of the type ``qsdk_run`` (native/kernel/kernel.h)

    Calls may run at once: each takes scratch of its own from the pool of its context.
    """

    def __init__(self, kernel: Kernel, operation: Operation, function: Any, threads: int):
        super().__init__(kernel, operation)
        self.threads = threads
        self._function = function
        self._from_buffer = native.library().ffi.from_buffer
        self._dtype = operation.output.dtype
        self._fitted: dict[tuple[Any, tuple[int, ...]], Fitted] = {}

    @abc.abstractmethod
    def fit(self, x: NDArray[Any], result: tuple[int, ...]) -> Fitted:
        """A context for images like those of ``x``, whose results have the shape ``result``."""

    def __call__(self, x: ArrayLike, out: NDArray[Any] | None = None) -> NDArray[Any]:
        # What Prepared does takes longer than a small layer; what fails here, it explains.
        if type(x) is not np.ndarray:
            return super().__call__(x, out)
        shape = x.shape
        fitted = self._fitted.get((x.dtype, shape[1:]))
        if fitted is None or not shape[0] or not x.flags.c_contiguous:
            return super().__call__(x, out)
        result = (shape[0], *fitted.result)
        if out is None:
            out = np.empty(result, self._dtype)
        elif (
            type(out) is not np.ndarray
            or out.dtype != self._dtype
            or out.shape != result
            or not out.flags.carray
        ):
            return super().__call__(x, out)
        self._run(fitted, x, out)
        return out

    def run(self, x: NDArray[Any], out: NDArray[Any]) -> None:
        key = (x.dtype, x.shape[1:])
        fitted = self._fitted.get(key)
        if fitted is None:
            fitted = self.fit(x, out.shape[1:])
            if len(self._fitted) >= REMEMBERED:
                self._fitted = {}
            self._fitted[key] = fitted
        self._run(fitted, x, out)

    def _run(self, fitted: Fitted, x: NDArray[Any], out: NDArray[Any]) -> None:
        scratch = fitted.pool.take(len(x))
        self._function(
            fitted.context,
            self._from_buffer(x),
            len(x),
            self._from_buffer(out),
            scratch[1],
            most_threads(self.threads),
        )
        fitted.pool.give(scratch)
