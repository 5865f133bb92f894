"""What a layer's result must be: the reference's bits, or arithmetic done here in 64 bits."""

from __future__ import annotations

import itertools
import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from qsdk.dispatch import candidates
from qsdk.encodings import Affine
from qsdk.errors import UnknownNameError
from qsdk.interfaces import Activations, Conv, InputForm, Kernel, Operation, code_rows
from qsdk.registry import find
from qsdk.scheme import Granularity, Slices
from qsdk.sign_codes import SignCoder, unpack_words
from qsdk.testing.check import Array, ContractBroken, NotApplicable, require
from qsdk.testing.kernels.bench import same_bits

ROUNDING = 2.0**-24  # of one float32 operation
REQUANTIZED = 0.503  # from the exact product, see qsdk.requantize


def require_right(kernel: Kernel, operation: Operation, x: Array, y: Array) -> None:
    """``y`` must be the result of ``operation`` on ``x``: to the bit where there is a reference."""
    reference = reference_of(kernel, operation)
    if reference is not None:
        expected = reference.prepare(operation)(x)
        require_bits(y, expected, f"as {reference.name} has it")
    elif operation.output.form == "float32":
        _require_close(operation, x, y)
    else:
        _require_integers(operation, x, y)


def require_bits(y: Array, expected: Array, where: str) -> None:
    """Both must be equal to the bit; else the first place where they differ is told."""
    if same_bits(y, expected):
        return
    if y.dtype != expected.dtype or y.shape != expected.shape:
        raise ContractBroken(
            f"the result is {y.dtype} {y.shape}, not {expected.dtype} {expected.shape}"
        )
    bits = [np.ascontiguousarray(a).view(np.uint8).reshape(*a.shape, -1) for a in (y, expected)]
    wrong = np.argwhere((bits[0] != bits[1]).any(axis=-1))
    index = tuple(int(i) for i in wrong[0])
    raise ContractBroken(
        f"{len(wrong)} of {y.size} results are wrong: {y[index]} at {index}, "
        f"not {expected[index]} {where}"
    )


def reference_of(kernel: Kernel, operation: Operation) -> Kernel | None:
    """The kernel that it must equal: the one it names, for integers any reference beside it."""
    if kernel.reference:
        try:
            named: Any = find(f"kernel:{kernel.reference}").target()
        except UnknownNameError as error:
            raise ContractBroken(f"its reference is not registered: {error}") from None
        assert isinstance(named, Kernel)
        return None if named.refusal(operation) or named.name == kernel.name else named
    if operation.output.form == "float32" or kernel.backend == "reference":
        return None
    found = (c.kernel for c in candidates(operation) if c.kernel.backend == "reference")
    return next((k for k in found if not k.refusal(operation)), None)


# -- Arithmetic of its own


def _require_close(operation: Operation, x: Array, y: Array) -> None:
    """Within the rounding of a float32 sum of what the codes decode to."""
    values, weight = decoded(operation, x), operation.weight.dequantize().astype(np.float64)
    total = sums(operation, values, weight)
    size = sums(operation, *_sizes(operation, values, weight))
    if operation.bias is not None:
        bias = _by_channel(operation, operation.bias.astype(np.float64))
        total, size = total + bias, size + np.abs(bias)
    expected = np.clip(total, *operation.output.clip)
    length = int(np.prod(operation.weight.shape[1:]))
    error, limit = np.abs(y - expected), (length + 16) * ROUNDING * size + 1e-30
    worst = error - limit
    if worst.size and not worst.max() <= 0:
        index = np.unravel_index(int(np.argmax(np.nan_to_num(worst, nan=np.inf))), worst.shape)
        where = tuple(int(i) for i in index)
        require(
            False,
            f"the result at {where} is {y[index]}, {error[index]:.3g} from {expected[index]:.9g}; "
            f"rounding explains {limit[index]:.3g}",
        )


def _sizes(
    operation: Operation, values: NDArray[Any], weight: NDArray[Any]
) -> tuple[NDArray[Any], NDArray[Any]]:
    """Magnitudes whose products bound what is summed: planes of signs may nearly cancel in a value,
    but where they add up, they are those of the largest of its row."""
    sizes = np.abs(values), np.abs(weight)
    if operation.activations.form is not InputForm.BINARY:
        return sizes
    kept = 1 if isinstance(operation, Conv) else values.ndim - 1
    largest = sizes[0].max(axis=tuple(range(kept, values.ndim)), keepdims=True, initial=0)
    of_weight = sizes[1].max(axis=tuple(range(1, weight.ndim)), keepdims=True, initial=0)
    return np.broadcast_to(largest, values.shape), np.broadcast_to(of_weight, weight.shape)


def _require_integers(operation: Operation, x: Array, y: Array) -> None:
    weight = operation.weight
    if not isinstance(weight, Affine):
        raise NotApplicable(f"no reference says which integers {weight.name} weights give")
    zero_point = Slices(weight.scheme, weight.shape).expand(weight.zero_point)
    steps = weight.codes.astype(np.int64) - zero_point.astype(np.int64)
    given = operation.activations
    codes = code_rows(rows_of(operation, x), given).steps.reshape(x.shape)
    accumulator = sums(operation, codes, steps)
    if operation.output.form == "int32":
        expected = accumulator.astype(np.int32)
        require(np.array_equal(accumulator, expected), "the accumulators do not fit int32")
        require_bits(y, expected, "in exact arithmetic")
        return
    _require_requantized(operation, accumulator, y)


def _require_requantized(operation: Operation, accumulator: NDArray[Any], y: Array) -> None:
    output, weight = operation.output, operation.weight
    assert isinstance(weight, Affine)
    scale = np.broadcast_to(weight.scale.astype(np.float64), (weight.shape[0],))
    step = _by_channel(operation, float(np.float32(operation.activations.scale)) * scale)
    real = accumulator * step
    slack = REQUANTIZED
    if operation.bias is not None:
        real = real + _by_channel(operation, operation.bias.astype(np.float64))
        slack += 0.5 * float(step.max(initial=0)) / output.scale  # bias is a whole accumulator
    ideal = np.clip(real, *output.clip) / float(np.float32(output.scale)) + output.zero_point
    ideal = np.clip(ideal, output.scheme.qmin, output.scheme.qmax)
    error = np.abs(y - ideal)
    require(
        error.max(initial=0) <= slack + 1e-6 * np.abs(ideal).max(initial=0),
        f"a code is {error.max(initial=0):.4f} steps from its value; rounding explains {slack:.4f}",
    )


def decoded(operation: Operation, x: Array) -> NDArray[np.float64]:
    """What the codes of the input stand for, in its shape."""
    given, weight = operation.activations, operation.weight
    if given.form is InputForm.FLOAT32:
        return x.astype(np.float64)
    if given.form is InputForm.BINARY:
        return _decoded_signs(rows_of(operation, x), given).reshape(x.shape)
    rows, group = rows_of(operation, x), None
    if isinstance(weight, Affine) and weight.scheme.granularity is Granularity.PER_GROUP:
        group = weight.scheme.group_size
    if given.is_fixed or group is None or isinstance(operation, Conv):
        parts = [rows]
    else:
        parts = np.split(rows, range(group, rows.shape[1], group), axis=1)
    values = [code_rows(part, given).dequantize() for part in parts]
    return np.concatenate(values, axis=1).reshape(x.shape).astype(np.float64)


def _decoded_signs(rows: Array, given: Activations) -> NDArray[np.float64]:
    if given.scale_map:
        raise NotApplicable("with a scale map, what a code stands for differs from place to place")
    alpha, planes = SignCoder(bits=given.bits, cycles=given.cycles).reference(rows)
    signs = 2.0 * unpack_words(planes, rows.shape[1]) - 1
    values: NDArray[np.float64] = (alpha.astype(np.float64)[:, :, None] * signs).sum(axis=0)
    return values


def rows_of(operation: Operation, x: Array) -> Array:
    """A matrix whose rows have one scale each where codes are made inside the call."""
    kept = 1 if isinstance(operation, Conv) else x.ndim - 1
    return x.reshape(math.prod(x.shape[:kept]), math.prod(x.shape[kept:]))


def sums(operation: Operation, x: NDArray[Any], weight: NDArray[Any]) -> NDArray[Any]:
    """The products summed, without scale and bias, in the dtype of the arguments."""
    if not isinstance(operation, Conv):
        total: NDArray[Any] = x @ weight.T
        return total
    axes, groups = len(operation.stride), operation.groups
    edges = list(zip(operation.padding[:axes], operation.padding[axes:], strict=True))
    padded = np.pad(x, [(0, 0), (0, 0), *edges])
    shape = operation.out_shape(x.shape)
    out = np.zeros(shape, np.result_type(x, weight))
    ins, outs = weight.shape[1], weight.shape[0] // groups
    for number, place in enumerate(itertools.product(*map(range, weight.shape[2:]))):
        window = tuple(
            slice(at * dilation, at * dilation + (length - 1) * stride + 1 if length else 0, stride)
            for at, dilation, stride, length in zip(
                place, operation.dilation, operation.stride, shape[2:], strict=True
            )
        )
        patch = padded[(slice(None), slice(None), *window)]
        for group in range(groups):
            mine, ours = (
                slice(group * ins, group * ins + ins),
                slice(group * outs, group * outs + outs),
            )
            kernel = weight[ours].reshape(outs, ins, -1)[..., number]
            out[:, ours] += np.moveaxis(np.tensordot(kernel, patch[:, mine], (1, 1)), 0, 1)
    return out


def _by_channel(operation: Operation, values: NDArray[Any]) -> NDArray[Any]:
    beside = len(operation.weight.shape) - 2 if isinstance(operation, Conv) else 0
    return values.reshape(-1, *(1,) * beside)
