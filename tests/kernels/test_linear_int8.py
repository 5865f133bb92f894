"""Kernels of linear on 8-bit codes: each that this machine can run equals the numpy reference."""

from __future__ import annotations

import itertools
import threading
from fractions import Fraction

import numpy as np
import pytest

import qsdk
from qsdk.dispatch import candidates, kernels
from qsdk.errors import DataError, KernelError
from qsdk.interfaces import Activations, Linear, Output

REFERENCE = "linear-int8-reference"
NATIVE = [c for c in kernels() if c.kernel.name.startswith("linear-int8-")]
NATIVE = [c for c in NATIVE if c.kernel.name != REFERENCE]
EVERY = pytest.mark.parametrize(
    "kernel",
    [
        pytest.param(c.kernel.name, marks=[] if c.can_run else pytest.mark.skip(reason=c.reason))
        for c in NATIVE
    ],
)
ROOMY = "-pairs"  # kernels for weights that cannot overflow 16 bits

SHAPES = [
    (1, 1, 1),
    (1, 64, 64),
    (2, 17, 3),
    (5, 63, 65),
    (7, 130, 129),
    (16, 16, 256),
    (33, 48, 64),
]
EMPTY = [(0, 4, 4), (3, 0, 5), (3, 5, 0), (0, 0, 0)]
WEIGHTS = [
    {"bits": 8},
    {"bits": 8, "signed": False, "symmetric": False},
    {"bits": 4, "symmetric": False},
    {"bits": 2, "granularity": "per_tensor"},
]
FIXED = [
    Activations(form="fixed_int8", scale=0.04, zero_point=-3),
    Activations(form="fixed_uint8", scale=0.04, zero_point=200),
]
OUTPUTS = [
    "float32",
    "int32",
    Output(form="int8", scale=7.0, zero_point=-20),
    Output(form="uint8", scale=2.0, zero_point=9, clip=(0.0, 300.0)),
]


def weight_of(rng, outputs, inputs, *, roomy=False, **words):
    words = {"granularity": "per_channel", "symmetric": True, "axis": 0} | words
    if words["granularity"] == "per_tensor":
        del words["axis"]
    scheme = qsdk.Scheme(**words)
    shape = (outputs,) if scheme.granularity == "per_channel" else ()
    limit = 64 if roomy and scheme.bits == 8 else 256
    middle = 128 if scheme.qmax > 127 else 0
    low, high = max(scheme.qmin, middle - limit), min(scheme.qmax, middle + limit - 1)
    codes = rng.integers(low, high, (outputs, inputs), endpoint=True).astype(scheme.dtype)
    scale = rng.uniform(0.01, 1, shape).astype(np.float32)
    zero_point = np.zeros(shape, scheme.dtype)
    if not scheme.symmetric:
        zero_point = rng.integers(scheme.qmin, scheme.qmax, shape, endpoint=True)
    return qsdk.Affine.from_codes(codes, scale, np.asarray(zero_point), scheme)


def input_of(rng, rows, inputs, form="float32"):
    if form != "float32":
        ends = np.iinfo(form)
        return rng.integers(ends.min, ends.max, (rows, inputs), form, endpoint=True)
    x = rng.standard_normal((rows, inputs)).astype(np.float32) * 3
    if rows > 4 and inputs > 2:
        x[1, 1], x[2, 2], x[3] = np.nan, -np.inf, 0
        x[4] *= np.float32(1e-42)
    return x


def check_equals_reference(kernel, x, weight, *, counts=(1,), **words):
    want = qsdk.linear(weight, kernel=REFERENCE, **words)(x)
    for threads in counts:
        layer = qsdk.linear(weight, kernel=kernel, threads=threads, **words)
        assert layer.kernel.name == kernel
        got = layer(x)
        assert got.dtype == want.dtype and got.shape == want.shape
        np.testing.assert_array_equal(got, want)


@EVERY
@pytest.mark.parametrize("words", WEIGHTS, ids=str)
def test_codes_made_in_the_call_give_the_floats_of_the_reference(kernel, words):
    rng = np.random.default_rng(1)
    output = Output(clip=(-50.0, np.inf))
    for rows, outputs, inputs in SHAPES + EMPTY:
        weight = weight_of(rng, outputs, inputs, roomy=ROOMY in kernel, **words)
        bias = rng.standard_normal(outputs).astype(np.float32)
        for form, given in itertools.product(("int8", "uint8"), (None, bias)):
            x = input_of(rng, rows, inputs)
            check_equals_reference(kernel, x, weight, activations=form, bias=given, output=output)


@EVERY
@pytest.mark.parametrize("words", WEIGHTS, ids=str)
def test_fixed_codes_give_every_output_of_the_reference(kernel, words):
    rng = np.random.default_rng(2)
    for rows, outputs, inputs in SHAPES + EMPTY:
        weight = weight_of(rng, outputs, inputs, roomy=ROOMY in kernel, **words)
        bias = rng.standard_normal(outputs).astype(np.float32) * 100
        for activations, output in itertools.product(FIXED, OUTPUTS):
            for form in ("float32", activations.dtype):
                x = input_of(rng, rows, inputs, form)
                check_equals_reference(
                    kernel, x, weight, activations=activations, bias=bias, output=output
                )


@EVERY
@pytest.mark.parametrize("rows", [1, 2, 40])
def test_chunks_of_rows_and_threads_change_no_bit(kernel, rows):
    rng = np.random.default_rng(rows)
    weight = weight_of(rng, 300, 700, roomy=ROOMY in kernel)
    for form in ("int8", "uint8"):
        x = input_of(rng, 20 * rows, 700)
        check_equals_reference(kernel, x, weight, counts=(1, 2, 3), activations=form)


@EVERY
@pytest.mark.parametrize("form", ["int8", "uint8"])
def test_extreme_rows_are_coded_as_the_reference_codes_them(kernel, form):
    largest, least = np.finfo(np.float32).max, np.float32(1e-45)
    halves = np.arange(-127.5, 128, 1, dtype=np.float32)
    rows = np.zeros((8, 256), np.float32)
    rows[0, :3] = largest, -largest, 1
    rows[1, :2] = least, -least
    rows[2] = halves * np.float32(1)  # ties wherever the scale is a power of two
    rows[3] = np.where(halves > 0, halves, 0) * 2
    rows[3, 0] = 254
    rows[4, 5] = -largest
    rows[5] = -0.0
    rows[6, :2] = largest, np.nan
    rows[7] = np.linspace(-1, 2, 256) * 3e38 / 2
    rng = np.random.default_rng(0)
    weight = weight_of(rng, 40, 256, roomy=ROOMY in kernel)
    check_equals_reference(kernel, rows, weight, activations=form)
    rows[2, 0] = 127
    check_equals_reference(kernel, rows[2:4], weight, activations=form)


@EVERY
def test_rows_that_are_not_finite_become_nan_and_the_others_do_not(kernel):
    rng = np.random.default_rng(5)
    weight = weight_of(rng, 20, 33, roomy=ROOMY in kernel)
    x = rng.standard_normal((3, 33)).astype(np.float32)
    x[1, 32] = np.inf
    y = qsdk.linear(weight, activations="uint8", kernel=kernel)(x)
    assert np.isnan(y[1]).all() and np.isfinite(y[[0, 2]]).all()


@EVERY
def test_result_goes_where_out_says_and_any_float_is_taken(kernel):
    rng = np.random.default_rng(6)
    weight = weight_of(rng, 20, 33, roomy=ROOMY in kernel)
    layer = qsdk.linear(weight, activations="int8", kernel=kernel)
    x = rng.standard_normal((2, 3, 33)).astype(np.float32)
    want = layer(x)
    assert want.shape == (2, 3, 20)
    out = np.empty_like(want)
    assert layer(x, out=out) is out and np.array_equal(out, want)
    assert np.array_equal(layer(x.astype(np.float64)), want)
    assert np.array_equal(layer(np.asfortranarray(x)), want)
    unaligned = np.empty(x.nbytes + 1, np.uint8)[1:].view(np.float32).reshape(x.shape)
    unaligned[...] = x
    assert np.array_equal(layer(unaligned), want)


@EVERY
def test_a_wrong_input_or_out_is_refused_with_what_was_given(kernel):
    weight = weight_of(np.random.default_rng(7), 20, 33, roomy=True)
    layer = qsdk.linear(weight, activations="int8", kernel=kernel)
    with pytest.raises(DataError, match=r"\(2, 34\).*33"):
        layer(np.zeros((2, 34), np.float32))
    with pytest.raises(DataError, match="int8"):
        layer(np.zeros((2, 33), np.int8))
    with pytest.raises(DataError, match=r"float64 \(2, 20\)"):
        layer(np.zeros((2, 33), np.float32), out=np.empty((2, 20)))


@EVERY
def test_two_threads_may_call_one_layer(kernel):
    rng = np.random.default_rng(8)
    layer = qsdk.linear(weight_of(rng, 90, 300, roomy=ROOMY in kernel), activations="uint8",
                        kernel=kernel, threads=1)  # fmt: skip
    inputs = [rng.standard_normal((5, 300)).astype(np.float32) for _ in range(2)]
    want = [layer(x) for x in inputs]
    wrong = []

    def call(i):
        for _ in range(200):
            if not np.array_equal(layer(inputs[i]), want[i]):
                wrong.append(i)

    callers = [threading.Thread(target=call, args=(i,)) for i in range(2)]
    for caller in callers:
        caller.start()
    for caller in callers:
        caller.join()
    assert not wrong


def fixed_layer(codes, *, bits=8, activations=FIXED[1], output="int32", **words):
    scheme = qsdk.Scheme(bits=bits, granularity="per_channel", axis=0)
    count = len(codes)
    scale = np.full(count, words.pop("scale", 1.0), np.float32)
    weight = qsdk.Affine.from_codes(
        np.asarray(codes, scheme.dtype), scale, np.zeros(count, scheme.dtype), scheme
    )
    made = output if isinstance(output, Output) else Output(form=output)
    return Linear(weight=weight, activations=activations, output=made, **words)


def reason(name, operation):
    return next(c.reason for c in candidates(operation) if c.kernel.name == name)


@pytest.mark.skipif(not any(c.can_run for c in NATIVE), reason="no kernel in C runs here")
def test_accumulators_that_could_leave_32_bits_are_refused_with_the_output_and_its_reach():
    length = 2**31 // (128 * 200) + 1  # zero_point 200: an input is up to 200 steps from it
    codes = np.full((2, length), 1)
    codes[1] = -128
    enough = fixed_layer(codes[:, :-1])
    assert not reason("linear-int8-portable", enough) and not reason(REFERENCE, enough)
    short = fixed_layer(codes)
    for name in ("linear-int8-portable", REFERENCE):
        assert f"output 1 can reach {length * 128 * 200}" in reason(name, short)
    with pytest.raises(KernelError, match="32 bits"):
        qsdk.linear(short.weight, activations=FIXED[1], output="int32")
    floats = qsdk.linear(short.weight, activations=FIXED[1])
    assert floats.kernel.name == REFERENCE  # its accumulators have 64 bits


@pytest.mark.parametrize(
    ("pair", "fits"),
    [((64, 64), True), ((65, 64), False), ((127, -128), True), ((-64, -65), False)],
)
def test_a_kernel_that_adds_two_products_in_16_bits_takes_pairs_that_fit(pair, fits):
    names = [c.kernel.name for c in NATIVE if ROOMY in c.kernel.name and c.can_run]
    if not names:
        pytest.skip("this CPU has no kernel of pairs")
    operation = fixed_layer([[0, 0, *pair], [1, 1, 1, 1]])
    for name in names:
        if "neon" in name:
            assert bool(reason(name, operation)) == (-128 in pair)
        else:
            assert bool(reason(name, operation)) != fits


@EVERY
def test_the_worst_pairs_and_rows_do_not_saturate(kernel):
    # (255, 255) times (127, 127) is 64770, and vpmaddubsw says 32767
    code = 64 if ROOMY in kernel else 127
    operation = fixed_layer(np.full((3, 70), code), activations=Activations(form="fixed_uint8"))
    layer = qsdk.linear(
        operation.weight, activations=operation.activations, output="int32", kernel=kernel
    )
    assert np.all(layer(np.full((2, 70), 255, np.uint8)) == 70 * 255 * code)


@pytest.mark.parametrize("scale", [1e-30, 1e-20, 1e-9, 1e-6, 0.01, 1.0, 1e4])
@pytest.mark.parametrize("kernel", [REFERENCE, *(c.kernel.name for c in NATIVE if c.can_run)])
def test_a_requantized_result_is_the_nearest_code_whatever_the_bias_is(scale, kernel):
    # Weights that are nothing beside the bias: bias / scale has no 32 bits, nor 64.
    rng = np.random.default_rng(9)
    codes = rng.integers(-40, 40, (24, 30))
    bias = rng.uniform(-300, 300, 24).astype(np.float32)
    activations = Activations(form="fixed_int8", scale=0.5)
    output = Output(form="int8", scale=2.0, zero_point=3)
    operation = fixed_layer(codes, scale=scale)
    layer = qsdk.linear(
        operation.weight, bias=bias, activations=activations, output=output, kernel=kernel
    )
    x = rng.integers(-128, 128, (5, 30)).astype(np.int8)
    step = Fraction(float(np.float32(scale))) / 2
    for row, got in zip(x, layer(x), strict=True):
        for n, code in enumerate(got):
            acc = sum(int(a) * int(b) for a, b in zip(row, codes[n], strict=True))
            exact = (acc * step + Fraction(float(bias[n]))) / 2 + 3
            nearest = min(max(exact, Fraction(-128)), Fraction(127))
            assert abs(int(code) - nearest) <= Fraction(1, 2) + Fraction(1, 16)


@pytest.mark.skipif(not any(c.can_run for c in NATIVE), reason="no kernel in C runs here")
def test_dispatch_takes_the_best_kernel_and_says_what_speaks_against_the_others(monkeypatch):
    operation = fixed_layer(np.ones((8, 8)), output="float32")
    best = next(c.kernel for c in candidates(operation) if c.can_run)
    taken = ",".join(best.features - {"extension"})
    assert qsdk.linear(operation.weight, activations=FIXED[1]).kernel.name == best.name != REFERENCE
    monkeypatch.setenv("QSDK_DISABLE_CPU_FEATURES", taken)
    left = qsdk.linear(operation.weight, activations=FIXED[1]).kernel
    assert left.priority < best.priority or not taken
    assert not taken or "takes away" in reason(best.name, operation)
