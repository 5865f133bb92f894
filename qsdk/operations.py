"""Layers that run: ``qsdk.linear`` and ``qsdk.conv`` over any encoding, on numpy arrays."""

from __future__ import annotations

from collections.abc import Sequence

from numpy.typing import ArrayLike

from qsdk import cpu
from qsdk.dispatch import choose
from qsdk.encodings import Encoding
from qsdk.errors import OptionError, did_you_mean
from qsdk.interfaces import (
    Activations,
    Conv,
    InputForm,
    Linear,
    Operation,
    Output,
    Prepared,
    Quantizer,
)

Form = Activations | Quantizer | str | None


def linear(
    weight: Encoding,
    *,
    bias: ArrayLike | None = None,
    activations: Form = None,
    output: Output | str = "float32",
    kernel: str | None = None,
    threads: int | None = None,
) -> Prepared:
    """A layer ``y = x @ weight.T + bias``, packed once for the best kernel of this CPU.

    weight : (out, in), of any encoding
    bias : (out,) in real units
    activations : how the input is coded: None for floats; "int8" or "uint8" for codes made per
        row inside the call; "binary2" for 2 planes of signs (1 to 4); an :class:`Activations`
        for fixed ones; or a quantizer that has :meth:`activations`
    output : "float32", "int32", or an :class:`Output` for requantized codes and clipping
    kernel : name of the kernel to use instead of the best one
    threads : at most so many; by default QSDK_NUM_THREADS, else what OpenMP takes
    Returns a callable: ``layer(x)``, or ``layer(x, out=y)``; ``layer.kernel`` says which runs.
    Raises KernelError, OptionError.
    """
    operation = Linear(
        weight=weight, bias=bias, activations=as_activations(activations), output=_output(output)
    )
    return _prepare(operation, kernel, threads)


def conv(
    weight: Encoding,
    *,
    bias: ArrayLike | None = None,
    stride: int | Sequence[int] = 1,
    padding: int | Sequence[int] = 0,
    dilation: int | Sequence[int] = 1,
    groups: int = 1,
    activations: Form = None,
    output: Output | str = "float32",
    kernel: str | None = None,
    threads: int | None = None,
) -> Prepared:
    """A 2-D or 1-D convolution as ONNX defines it, packed once for the best kernel of this CPU.

    weight : (out, in / groups, kernel...)
    stride, dilation : one number, or one per spatial axis
    padding : one number, one per spatial axis, or ONNX pads (all begins, then all ends)
    The rest as in :func:`linear`; activations coded inside the call have one scale per image.
    Input (batch, in, length...), result (batch, out, length...).
    """
    axes = len(weight.shape) - 2
    ends = [padding] if isinstance(padding, int) else list(padding)
    operation = Conv(
        weight=weight,
        bias=bias,
        stride=_per_axis(stride, axes),
        padding=_per_axis(ends * 2 if len(ends) == axes else padding, 2 * axes),
        dilation=_per_axis(dilation, axes),
        groups=groups,
        activations=as_activations(activations),
        output=_output(output),
    )
    return _prepare(operation, kernel, threads)


def _prepare(operation: Operation, kernel: str | None, threads: int | None) -> Prepared:
    return choose(operation, kernel).prepare(operation, threads=thread_limit(threads))


def thread_limit(threads: int | None) -> int:
    """What ``threads=`` says, QSDK_NUM_THREADS where it says nothing; raises OptionError."""
    limit = cpu.threads() if threads is None else threads
    if isinstance(limit, bool) or not isinstance(limit, int) or limit < 0:
        raise OptionError(
            f"threads is {threads!r}; give a whole number, 0 for as many as there are"
        )
    return limit


def _per_axis(value: int | Sequence[int], count: int) -> Sequence[int]:
    return [value] * count if isinstance(value, int) else value


def as_activations(form: Form) -> Activations:
    """What is said of a layer's input, as :func:`linear` takes it; raises OptionError."""
    if form is None:
        return Activations()
    if isinstance(form, Activations):
        return form
    if isinstance(form, Quantizer):
        return form.activations()
    word = str(form)
    if word.startswith("binary") and word[6:].isdecimal():
        return Activations(form=InputForm.BINARY, bits=int(word[6:]))
    words = {"float32", "int8", "uint8", "binary"}  # the fixed ones need a scale
    if word not in words:
        raise OptionError(
            f"no activations {word!r}{did_you_mean(word, words)}; "
            "fixed ones are Activations(form='fixed_int8', scale=..., zero_point=...)"
        )
    return Activations(form=InputForm(word))


def _output(output: Output | str) -> Output:
    return output if isinstance(output, Output) else Output(form=output)
