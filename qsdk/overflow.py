"""Proof that the sums of a layer fit: the worst of each kernel that could run it, and of runtimes.

Nothing is tried: the worst inputs there can be follow from the real weights.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from qsdk.accumulators import worst_pairs, worst_sums
from qsdk.dispatch import kernels
from qsdk.encodings import Affine
from qsdk.errors import QsdkError
from qsdk.interfaces import (
    Accumulator,
    Activations,
    Conv,
    FixedCodes,
    InputForm,
    Kernel,
    Layer,
    Linear,
    Operation,
)

RUNTIMES = "runtimes"  # others, whose kernels nothing is known of but this
BYTE = 255
Sums = Mapping[str, Sequence[Accumulator]]


def overflow_proof(layer: Layer, codes: FixedCodes | None) -> Sums:
    """By the name of the kernel, what it adds up for this layer; empty for floats.

    codes : of the input; None where they are made while the layer runs: then of 8 bits, signed
    A kernel that refuses these weights because a sum would overflow is among them, also one that
    this machine cannot run. Under ``runtimes`` stand sums in 32 bits, the bias in them, and where
    unsigned codes meet signed weights the worst two products, which x86 without VNNI adds in 16.
    """
    encoding = layer.encoding
    if not isinstance(encoding, Affine):
        return {}
    operation = _operation(layer, encoding, codes)
    found: dict[str, Sequence[Accumulator]] = {}
    if operation is not None:
        each = {c.kernel.name: _sums(c.kernel, operation) for c in kernels()}
        found = {name: sums for name, sums in each.items() if sums}
    if codes is not None and encoding.scheme.granularity != "per_group":
        found[RUNTIMES] = _of_runtimes(layer, encoding, codes)
    return found


def _operation(layer: Layer, encoding: Affine, codes: FixedCodes | None) -> Operation | None:
    """The layer as kernels see it; None where none is for it."""
    activations, words = _activations(codes), layer.attributes
    try:
        if layer.operation in ("MatMul", "Gemm"):
            return Linear(weight=encoding, activations=activations)
        if layer.operation != "Conv":
            return None
        axes = len(encoding.shape) - 2
        return Conv(
            weight=encoding,
            activations=activations,
            stride=words.get("strides", [1] * axes),
            padding=words.get("pads", [0] * 2 * axes),
            dilation=words.get("dilations", [1] * axes),
            groups=int(words.get("group", 1)),
        )
    except QsdkError:  # a convolution of three axes
        return None


def _activations(codes: FixedCodes | None) -> Activations:
    if codes is None:
        return Activations(form=InputForm.INT8)
    form = InputForm.FIXED_INT8 if codes.scheme.signed else InputForm.FIXED_UINT8
    return Activations(form=form, scale=codes.scale, zero_point=codes.zero_point)


def _sums(kernel: Kernel, operation: Operation) -> Sequence[Accumulator]:
    """Empty for a kernel that has other reasons to refuse, or adds no codes."""
    if Kernel.refusal(kernel, operation):
        return ()
    sums = kernel.accumulators(operation)
    is_taken = not kernel.refusal(operation)
    return sums if is_taken or not all(accumulator.fits for accumulator in sums) else ()


def _of_runtimes(layer: Layer, weight: Affine, codes: FixedCodes) -> Sequence[Accumulator]:
    rows = weight.codes.reshape(weight.shape[0], -1)
    channels = (weight.shape[0],)
    zero = np.broadcast_to(weight.zero_point, channels).astype(np.int64)
    low, high = (end - codes.zero_point for end in (codes.scheme.qmin, codes.scheme.qmax))
    sums = worst_sums(rows - zero[:, None], low, high) + _bias_steps(layer, weight, codes)
    found = [Accumulator(bits=32, worst=int(sums.max(initial=0)))]
    if weight.scheme.signed and not codes.scheme.signed:
        pairs = worst_pairs(rows, 0, BYTE, neighbours=False)
        found.append(Accumulator(bits=16, worst=int(pairs.max(initial=0)), adds="any two"))
    return found


def _bias_steps(layer: Layer, weight: Affine, codes: FixedCodes) -> Any:
    """Magnitudes of the bias in steps of input times weight, as files hold it."""
    bias = layer.bias
    if bias is None:
        return 0
    scale = np.broadcast_to(weight.scale, bias.shape).astype(np.float64) * codes.scale
    return np.ceil(np.abs(bias) / scale).astype(np.int64)
