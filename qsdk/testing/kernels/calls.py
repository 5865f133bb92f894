"""How a layer may be called: layouts, dtypes, ``out``, threads, and what is refused."""

from __future__ import annotations

import math
import os
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import ml_dtypes
import numpy as np

from qsdk.errors import DataError
from qsdk.testing import corpus
from qsdk.testing.check import Array, NotApplicable, refused_with, require, tells
from qsdk.testing.kernels import inputs
from qsdk.testing.kernels.bench import Bench, same_bits
from qsdk.testing.kernels.cases import promise
from qsdk.testing.same import bits_of

CALLS = 6  # of each of two threads


# -- The input


@promise(inputs.some)
def check_a_layer_takes_any_memory_layout(bench: Bench, x: Array) -> None:
    """Order, strides, byte order, alignment and protection of the input change no bit."""
    layer, x = bench.layer(x)
    expected = layer(x)
    for layout, same in corpus.layouts(x).items():
        require(same_bits(layer(same), expected), f"{layout} gives other bits than C order")


@promise(inputs.some)
def check_a_layer_takes_any_float_type(bench: Bench, x: Array) -> None:
    """Half, double and bfloat16 give the bits of the same values in float32."""
    layer, x = bench.layer(x)
    if x.dtype != np.float32:
        raise NotApplicable("codes have one type")
    for dtype in (np.float16, np.float64, ml_dtypes.bfloat16):
        typed = x.astype(dtype)
        same = same_bits(layer(typed), layer(typed.astype(np.float32)))
        require(same, f"{np.dtype(dtype)} gives other bits than float32 of the same values")


@promise(inputs.some)
def check_a_layer_leaves_its_input_unchanged(bench: Bench, x: Array) -> None:
    """Neither the values nor the flags of the input are touched."""
    layer, x = bench.layer(x)
    given = x.copy()
    layer(given)
    require(given.flags.writeable, "the input was made read-only")
    require(same_bits(given, x), "the input was changed")


@promise(inputs.one)
def check_a_wrong_input_is_refused(bench: Bench, x: Array) -> None:
    """Another length, a scalar, and what is neither floats nor codes: DataError, which tells the
    shape or the dtype."""
    layer, x = bench.layer(x)
    axis = x.ndim - 1 if bench.kernel.operation == "linear" else 1
    for length in (x.shape[axis] + 1, x.shape[axis] - 1):
        shape = (*x.shape[:axis], length, *x.shape[axis + 1 :])
        message = refused_with(DataError, f"an input {shape}", layer, np.zeros(shape, np.float32))
        require(tells(message, list(shape)), f"an input {shape} is refused without it: {message}")
    refused_with(DataError, "a scalar", layer, np.float32(1))
    others = [np.int16, np.int64, np.bool_, np.complex64]
    fixed = layer.operation.activations
    others += [np.uint8 if fixed.is_fixed and fixed.dtype == np.int8 else np.int8]
    for dtype in map(np.dtype, others):
        message = refused_with(DataError, f"an input of {dtype}", layer, np.ones(x.shape, dtype))
        require(str(dtype) in message, f"an input of {dtype} is refused without it: {message}")


# -- The output


@promise(inputs.some)
def check_out_is_filled_and_returned(bench: Bench, x: Array) -> None:
    """``layer(x, out=y)`` gives y itself, every time, with what ``layer(x)`` gives."""
    layer, x = bench.layer(x)
    expected = layer(x)
    out = np.full_like(expected, 77)
    for _ in range(2):
        require(layer(x, out=out) is out, "it does not give the array that it was given")
        require(same_bits(out, expected), "it holds something else than without out=")
        out.fill(78)
    first = layer(x)
    kept = first.copy()
    layer(x[::-1])
    require(same_bits(first, kept), "a later call changes an earlier result")


@promise(inputs.one)
def check_a_wrong_out_is_refused(bench: Bench, x: Array) -> None:
    """Another shape or dtype, strides, read-only memory, no array: DataError, which says what
    shape and dtype it must have; nothing is written."""
    layer, x = bench.layer(x)
    shape, dtype = layer.out_shape(x.shape), layer.operation.output.dtype
    for what, out in _wrong_outs(shape, dtype).items():
        before = np.array(out, copy=True)
        message = refused_with(DataError, what, lambda out=out: layer(x, out=out))
        told = tells(message, list(shape)) and str(dtype) in message
        require(told, f"{what} is refused without shape and dtype to give: {message}")
        require(np.array_equal(before, np.asarray(out)), f"{what} is refused, and written to")


def _wrong_outs(shape: tuple[int, ...], dtype: np.dtype[Any]) -> dict[str, Any]:
    other = np.float64 if dtype == np.float32 else np.float32
    wide = np.zeros((*shape[:-1], 2 * shape[-1]), dtype)
    locked = np.zeros(shape, dtype)
    locked.flags.writeable = False
    return {
        f"out of {np.dtype(other)}": np.zeros(shape, other),
        "out of one row more": np.zeros((shape[0] + 1, *shape[1:]), dtype),
        "out with one axis more": np.zeros((1, *shape), dtype),
        "out with the same values in one axis": np.zeros(math.prod(shape), dtype),
        "out with strides": wide[..., ::2],
        "read-only out": locked,
        "a list for out": locked.tolist(),
    }


# -- Again, and at once


@promise(inputs.some)
def check_each_call_gives_the_same_bits(bench: Bench, x: Array) -> None:
    """One layer twice, a call on something else between, and a second layer of the same weight."""
    layer, x = bench.layer(x)
    first = layer(x)
    require(same_bits(layer(x), first), "the second call gives other bits")
    layer(np.zeros_like(x))
    require(same_bits(layer(x), first), "a call on something else changes the next one")
    again = bench.kernel.prepare(layer.operation, threads=1)
    require(same_bits(again(x), first), "a second layer of the same weight gives other bits")


@promise(inputs.some)
def check_two_threads_may_call_at_once(bench: Bench, x: Array) -> None:
    """Both get what one alone would."""
    layer, x = bench.layer(x)
    other = x[::-1].copy()
    expected = [layer(x), layer(other)]

    def calls(given: Array, result: Array) -> bool:
        return all(same_bits(layer(given), result) for _ in range(CALLS))

    with ThreadPoolExecutor(2) as pool:
        both = list(pool.map(calls, (x, other), expected))
    require(all(both), "two calls at once disturb each other")


@promise(inputs.large)
def check_the_number_of_threads_changes_no_bit(bench: Bench, x: Array) -> None:
    """1, 2 and as many as there are, on enough work for all."""
    operation, x = bench.job(x)
    counts = (1, 2) if os.cpu_count() == 2 else (1, 2, 0)  # 0 is all of them
    layers = [bench.kernel.prepare(operation, threads=count) for count in counts]
    first, *others = (layer(x) for layer in layers)
    for other in others:
        require(same_bits(first, other), "another number of threads gives other bits")


@promise(inputs.some)
def check_the_weight_is_left_unchanged(bench: Bench, x: Array) -> None:
    """Preparing and calling change neither the encoding nor the bias."""
    operation, x = bench.job(x)
    bias = None if operation.bias is None else operation.bias.copy()
    before = bits_of(operation.weight)
    bench.kernel.prepare(operation, threads=1)(x)
    require(bits_of(operation.weight) == before, "the encoding was changed")
    if bias is not None and operation.bias is not None:
        require(same_bits(bias, operation.bias), "the bias was changed")
