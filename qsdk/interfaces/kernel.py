"""What a kernel is: one operation on one encoding, for one set of CPU features."""

from __future__ import annotations

import abc
from collections.abc import Sequence
from typing import Any, ClassVar

import numpy as np
from numpy.typing import ArrayLike, NDArray

from qsdk import cpu
from qsdk.encodings import Affine
from qsdk.errors import DataError
from qsdk.interfaces.accumulator import Accumulator
from qsdk.interfaces.native_call import NativeCall
from qsdk.interfaces.operation import Conv, InputForm, Operation
from qsdk.interfaces.quantizer import CONTRACT
from qsdk.scheme import Granularity

FLOAT32 = np.dtype(np.float32)
ANY = "*"


class Kernel(abc.ABC):
    """What it takes is declared as data, which dispatch reads; it takes nothing else.

    operation : "linear" or "conv"
    encoding : name of the encoding of the weight, or "*"
    bits, granularity, group_multiple : limits on the scheme of an affine weight
    activations : the forms of input it takes
    outputs : the forms of output it gives
    features : CPU features it needs, names of :data:`qsdk.cpu.FEATURES`
    priority : of the kernels that can, the one with the highest runs; the reference has 0
    backend : the platform it belongs to, for tables
    reference : name of the kernel whose results this one equals to the bit, floats too; without
        one only its integers do, and its floats agree within the rounding of a sum

    All kernels of an operation give the same integers, and the same floats where both follow
    one formula; which formula is said by the reference.
    """

    name: ClassVar[str]
    operation: ClassVar[str]
    encoding: ClassVar[str]
    bits: ClassVar[frozenset[int]] = frozenset(range(1, 9))
    granularity: ClassVar[frozenset[str]] = frozenset(Granularity)
    group_multiple: ClassVar[int] = 1
    activations: ClassVar[frozenset[str]]
    outputs: ClassVar[frozenset[str]] = frozenset({"float32"})
    features: ClassVar[frozenset[str]] = frozenset()
    priority: ClassVar[int]
    backend: ClassVar[str] = "numpy"
    reference: ClassVar[str] = ""
    contract: ClassVar[int] = CONTRACT

    def refusal(self, operation: Operation) -> str:
        """Why this kernel does not take ``operation``; empty when it does.

        A kernel may look at the weight here, where its instructions are exact for some only.
        """
        if operation.name != self.operation:
            return f"does {self.operation}, not {operation.name}"
        if self.encoding not in (ANY, operation.weight.name):
            return f"takes {self.encoding} weights, not {operation.weight.name}"
        if operation.activations.form not in self.activations:
            taken = ", ".join(sorted(self.activations))
            return f"takes {taken} activations, not {operation.activations.form}"
        if operation.output.form not in self.outputs:
            return f"gives {', '.join(sorted(self.outputs))}, not {operation.output.form}"
        return self._scheme_refusal(operation)

    def _scheme_refusal(self, operation: Operation) -> str:
        weight = operation.weight
        if not isinstance(weight, Affine):
            return ""
        scheme = weight.scheme
        if scheme.bits not in self.bits:
            return f"takes {', '.join(map(str, sorted(self.bits)))} bits, not {scheme.bits}"
        if scheme.granularity not in self.granularity:
            return f"takes {', '.join(sorted(self.granularity))}, not {scheme.granularity}"
        if scheme.granularity != Granularity.PER_TENSOR and scheme.axis not in (
            0,
            -len(weight.shape),
        ):
            return f"takes channels on axis 0, not {scheme.axis}"
        if scheme.group_size and scheme.group_size % self.group_multiple:
            return f"takes groups of a multiple of {self.group_multiple}, not {scheme.group_size}"
        return ""

    def accumulators(self, operation: Operation) -> Sequence[Accumulator]:
        """What it adds products of codes up in, each with the worst sum of these weights.

        For an operation that it takes, and one that it refuses because of these sums alone. Not
        asked whether the machine can run it. Empty where it adds floats, or has no proof to give.
        """
        return ()

    def unavailable(self) -> str:
        """Why it cannot run on this machine now; empty when it can."""
        return cpu.why_not(self.features)

    @abc.abstractmethod
    def prepare(self, operation: Operation, *, threads: int = 0) -> Prepared:
        """Pack the weight once, for many calls.

        threads : at most so many in a call, 0 for as many as the runtime takes
        """


class Prepared(abc.ABC):
    """A layer ready to run: ``y = layer(x)``, or ``layer(x, out=y)`` to reuse memory.

    Calls are safe from several threads at once. Subclasses define :meth:`run`; those that cannot
    afford what :meth:`__call__` does in Python also define that.

    codes : records that :meth:`run` takes beside floats, one for a row; None for none. See
        :func:`sign_codes_dtype`
    native : how C calls the layer; None where only Python can
    """

    codes: np.dtype[Any] | None = None
    native: NativeCall | None = None

    def __init__(self, kernel: Kernel, operation: Operation):
        self.kernel, self.operation = kernel, operation

    def __call__(self, x: ArrayLike, out: NDArray[Any] | None = None) -> NDArray[Any]:
        """The result for ``x``.

        x : floats of any dtype and layout, never changed; with fixed activations also int8 or
            uint8 codes. linear: (..., in); conv: (batch, channels, length...). Where the layer
            has ``codes`` also these, (...): the result is that of floats with such codes
        out : C-contiguous, of the result's shape and dtype, not overlapping ``x``
        Raises DataError for another shape or dtype.

        A row (conv: an image) with NaN or infinity in it becomes NaN where activations are coded
        inside the call; fixed codes saturate, NaN as the lowest.
        """
        given = self.as_input(x)
        coded = self.codes is not None and given.dtype == self.codes
        length = self.operation.weight.shape[1:]
        shape = self.out_shape((*given.shape, *length) if coded else given.shape)
        if out is None:
            out = np.empty(shape, self.operation.output.dtype)
        else:
            self._check_out(out, shape)
        if out.size:
            self.run(given, out)
        return out

    @abc.abstractmethod
    def run(self, x: NDArray[Any], out: NDArray[Any]) -> None:
        """Fill ``out`` from a C-contiguous ``x``, float32 or codes, both of the right shape."""

    def out_shape(self, shape: tuple[int, ...]) -> tuple[int, ...]:
        """Shape of the result for an input of ``shape``; raises DataError where it does not fit."""
        weight = self.operation.weight.shape
        if isinstance(self.operation, Conv):
            channels = weight[1] * self.operation.groups
            if len(shape) != len(weight) or shape[1] != channels:
                lengths = ", length" * (len(weight) - 2)
                raise DataError(
                    f"the input has shape {shape}; this layer takes (batch, {channels}{lengths})"
                )
            return self.operation.out_shape(shape)
        if not shape or shape[-1] != weight[1]:
            raise DataError(f"the input has shape {shape}; this layer takes (..., {weight[1]})")
        return (*shape[:-1], weight[0])

    def as_input(self, x: ArrayLike) -> NDArray[Any]:
        given = np.asarray(x)
        activations = self.operation.activations
        if given.dtype.names:
            return self._records(given)
        if activations.is_fixed and given.dtype == activations.dtype:
            return np.ascontiguousarray(given)
        if given.dtype.kind != "f" and "float" not in given.dtype.name:
            also = f" or {np.dtype(activations.dtype)} codes" if activations.is_fixed else ""
            raise DataError(f"the input is {given.dtype}; this layer takes floats{also}")
        with np.errstate(over="ignore"):  # too large for float32 is infinity, as IEEE says
            return np.ascontiguousarray(given, FLOAT32)

    def _records(self, given: NDArray[Any]) -> NDArray[Any]:
        if self.codes is None or given.dtype != self.codes:
            takes = "" if self.codes is None else f" or {_described(self.codes)}"
            raise DataError(
                f"the input is {_described(given.dtype)}; this layer takes floats{takes}"
            )
        return np.ascontiguousarray(given).reshape(given.shape)

    def _check_out(self, out: NDArray[Any], shape: tuple[int, ...]) -> None:
        dtype = self.operation.output.dtype
        fits = isinstance(out, np.ndarray) and out.dtype == dtype and out.shape == shape
        if not (fits and out.flags.c_contiguous and out.flags.writeable):
            given = f"{out.dtype} {out.shape}" if isinstance(out, np.ndarray) else repr(out)
            raise DataError(
                f"out is {given}; give a writeable C-contiguous {dtype} array of shape {shape}"
            )

    def __repr__(self) -> str:
        return f"<{self.operation} by {self.kernel.name}>"


def _described(dtype: np.dtype[Any]) -> str:
    try:
        bits, length = dtype["alpha"].shape[0], dtype["length"].shape[1]
    except (KeyError, IndexError):
        return f"records {dtype}"
    return f"codes of {bits} planes of {length} signs"


__all__ = ["ANY", "InputForm", "Kernel", "Prepared"]
