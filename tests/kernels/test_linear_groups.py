"""Grouped 2 to 8 bit weights: every kernel equals the reference, and the reference is right."""

from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

import qsdk
from qsdk import dispatch
from qsdk.errors import DataError, KernelError
from qsdk.interfaces import Activations, Linear, code_rows, input_group_size

REFERENCE = "linear-groups-reference"
SETS = ("portable", "avx2", "avxvnni", "avx512vnni", "neon", "dotprod")
KERNELS = tuple(f"linear-groups-{name}" for name in SETS)
NARROW = {"linear-groups-avx2", "linear-groups-neon", "linear-groups-dotprod"}  # at most 7 bits


@pytest.fixture
def rng():
    return np.random.default_rng(0)


@pytest.fixture(params=KERNELS)
def kernel(request):
    reasons = {c.kernel.name: c.reason for c in dispatch.kernels()}
    if reasons[request.param]:
        pytest.skip(f"{request.param}: {reasons[request.param]}")
    return request.param


def scheme_of(bits, group_size, **words):
    if group_size:
        return qsdk.Scheme(bits=bits, granularity="per_group", group_size=group_size, **words)
    return qsdk.Scheme(bits=bits, granularity="per_channel", **words)


def weight_of(rng, out, length, scheme, codes=None):
    params = qsdk.Slices(scheme, (out, length)).params_shape
    if codes is None:
        codes = rng.integers(scheme.qmin, scheme.qmax + 1, (out, length))
    zero_point = rng.integers(scheme.qmin, scheme.qmax + 1, params) * (not scheme.symmetric)
    scale = rng.uniform(0.1, 1, params).astype(np.float32)
    return qsdk.Affine.from_codes(
        codes.astype(scheme.dtype), scale, zero_point.astype(scheme.dtype), scheme
    )


def rows_of(rng, *shape):
    """Rows of very different size, so that each has its own scale."""
    size = np.exp(rng.uniform(-8, 8, (*shape[:-1], 1)))
    return (rng.standard_normal(shape) * size).astype(np.float32)


def equal(a, b):
    return a.dtype == b.dtype and np.array_equal(a, b, equal_nan=True)


# What is right.


def test_two_groups_worked_by_hand():
    scheme = scheme_of(4, 2)
    weight = qsdk.Affine.from_codes(
        np.int8([[1, 2, 7]]), np.float32([[0.5, 2]]), np.int8([[1, -1]]), scheme
    )
    layer = qsdk.linear(weight, bias=[10], activations="int8", kernel=REFERENCE)
    # groups (0, 1 | 8) x: scales 127/127 and 254/127, codes (127, -64 | 127), ties to even;
    # sums 127 * 0 - 64 * 1 and 127 * 8
    y = layer(np.float32([[127, -63.5, 254]]))
    assert y.tolist() == [[-64 * 0.5 + 127 * 8 * (2 * 2) + 10]]


@pytest.mark.parametrize("bits", [2, 3, 4, 8])
def test_the_reference_is_what_fake_quantization_predicts(rng, bits):
    weight = weight_of(rng, 9, 70, scheme_of(bits, 32))
    x = rows_of(rng, 6, 70)
    x[2, 5] = np.nan
    exact = qsdk.linear(weight, activations="int8", kernel="linear-simulated")(x)
    y = qsdk.linear(weight, activations="int8", kernel=REFERENCE)(x)
    size = np.abs(x) @ np.abs(weight.dequantize()).T
    assert np.isnan(y[2]).all() and np.isnan(exact[2]).all()
    assert (np.abs(y - exact) <= 1e-5 * size)[[0, 1, 3, 4, 5]].all()


@pytest.mark.parametrize("form", ["int8", "uint8"])
def test_each_group_of_a_row_is_coded_like_a_row_of_its_own(rng, form):
    rows, activations = rows_of(rng, 5, 70), Activations(form=form)
    whole = code_rows(rows, activations, group_size=32)
    assert whole.scale.shape == whole.zero_point.shape == (5, 3)
    for group, part in enumerate((slice(0, 32), slice(32, 64), slice(64, 70))):
        alone = code_rows(rows[:, part], activations)
        assert np.array_equal(whole.codes[:, part], alone.codes)
        assert np.array_equal(whole.scale[:, group], alone.scale)
        assert np.array_equal(whole.zero_point[:, group], alone.zero_point)
        assert np.array_equal(whole.dequantize()[:, part], alone.dequantize())


def test_nan_in_one_group_spoils_all_scales_of_its_row_and_no_other(rng):
    rows = rows_of(rng, 3, 40)
    rows[1, 39] = np.inf
    scale = code_rows(rows, Activations(form="int8"), group_size=16).scale
    assert np.isnan(scale).tolist() == [[False] * 3, [True] * 3, [False] * 3]


def test_fixed_codes_have_one_scale_for_all_groups(rng):
    activations = Activations(form="fixed_int8", scale=0.5)
    assert code_rows(rows_of(rng, 3, 40), activations, group_size=16).scale.shape == (3,)


def test_only_groups_along_the_rows_of_the_weight_group_the_input(rng):
    assert input_group_size(weight_of(rng, 4, 32, scheme_of(4, 16))) == 16
    assert input_group_size(weight_of(rng, 4, 32, scheme_of(4, None))) is None
    assert input_group_size(weight_of(rng, 32, 4, scheme_of(4, 16, axis=1))) is None


# Every kernel.


@pytest.mark.parametrize("bits", range(2, 9))
@pytest.mark.parametrize(
    ("out", "length", "group_size"),
    [(1, 1, 16), (16, 32, 32), (17, 33, 16), (5, 48, 64), (33, 131, 32), (48, 384, 128)],
)
def test_coded_inputs_give_the_same_floats_as_the_reference(
    rng, kernel, bits, out, length, group_size
):
    if bits == 8 and kernel in NARROW:
        pytest.skip(f"{kernel} refuses 8 bits")
    for signed, symmetric in ((True, True), (True, False), (False, False)):
        scheme = scheme_of(bits, group_size, signed=signed, symmetric=symmetric)
        weight, bias = weight_of(rng, out, length, scheme), rng.standard_normal(out)
        clip = qsdk.Output(clip=(-1, np.inf))
        words = {"bias": bias, "activations": "int8", "output": clip}
        layer = qsdk.linear(weight, kernel=kernel, **words)
        reference = qsdk.linear(weight, kernel=REFERENCE, **words)
        assert layer.kernel.name == kernel
        for count in (1, 2, 3, 4, 7, 8, 9, 17):
            x = rows_of(rng, count, length)
            assert equal(layer(x), reference(x)), (scheme, count)


@pytest.mark.parametrize("bits", [2, 3, 4])
def test_one_scale_per_row_gives_the_same_floats_as_the_int8_reference(rng, kernel, bits):
    for out, length in ((20, 1), (7, 100), (16, 513)):
        weight = weight_of(rng, out, length, scheme_of(bits, None))
        x = rows_of(rng, 5, length)
        layer = qsdk.linear(weight, activations="int8", kernel=kernel)
        reference = qsdk.linear(weight, activations="int8", kernel="linear-int8-reference")
        assert equal(layer(x), reference(x))


@pytest.mark.parametrize("end", ["lowest", "highest"])
@pytest.mark.parametrize("bits", [2, 4, 7])
def test_weights_and_inputs_at_the_end_of_their_grids_do_not_saturate(rng, kernel, bits, end):
    scheme = scheme_of(bits, 128, signed=False)
    codes = np.full((3, 256), scheme.qmin if end == "lowest" else scheme.qmax)
    weight = weight_of(rng, 3, 256, scheme, codes)
    largest = np.finfo(np.float32).max
    x = np.float32([[1] * 256, [-1] * 256, [-largest] * 256, [largest] * 256])  # -128 in one
    layer = qsdk.linear(weight, activations="int8", kernel=kernel)
    assert equal(layer(x), qsdk.linear(weight, activations="int8", kernel=REFERENCE)(x))
    assert code_rows(x, Activations(form="int8"), 128).codes.min() == -128


@pytest.mark.parametrize("bits", range(2, 9))
@pytest.mark.parametrize("group_size", [16, 64, None])
def test_float_inputs_stay_within_the_rounding_of_a_sum(rng, kernel, bits, group_size):
    if bits == 8 and kernel in NARROW:
        pytest.skip(f"{kernel} refuses 8 bits")
    for symmetric in (True, False):
        out, length = 19, 150
        weight = weight_of(rng, out, length, scheme_of(bits, group_size, symmetric=symmetric))
        bias = rng.standard_normal(out).astype(np.float32)
        layer = qsdk.linear(weight, bias=bias, kernel=kernel)
        expanded = qsdk.Slices(weight.scheme, weight.shape)
        steps = weight.codes.astype(np.float64) - expanded.expand(weight.zero_point)
        w = steps * expanded.expand(weight.scale)
        for count in (1, 2, 5, 8, 11):
            x = rows_of(rng, count, length)
            exact = x.astype(np.float64) @ w.T + bias
            size = np.abs(x.astype(np.float64)) @ np.abs(w).T + np.abs(bias)
            roundings = (group_size or 160) + -(-length // (group_size or length)) + 3
            assert (np.abs(layer(x) - exact) <= 1.01 * roundings * 2.0**-24 * size).all()


def test_a_row_with_nan_or_infinity_becomes_nan_and_others_stay(rng, kernel):
    weight = weight_of(rng, 18, 96, scheme_of(4, 32))
    x = rows_of(rng, 9, 96)
    clean = qsdk.linear(weight, activations="int8", kernel=kernel)(x)
    x[1, 95], x[4, 0], x[8, 40] = np.nan, np.inf, -np.inf
    y = qsdk.linear(weight, activations="int8", kernel=kernel, output=qsdk.Output(clip=(0, 1)))(x)
    spoilt = [1, 4, 8]
    assert np.isnan(y[spoilt]).all()
    others = np.delete(np.arange(9), spoilt)
    assert np.array_equal(y[others], np.clip(clean[others], 0, 1))


@pytest.mark.parametrize("form", ["int8", "float32"])
def test_one_thread_and_two_give_the_same_bits(rng, kernel, form):
    weight = weight_of(rng, 1030, 512, scheme_of(4, 64))
    x = rows_of(rng, 150, 512)  # more rows than are coded at a time
    one, two = (
        qsdk.linear(weight, activations=form, kernel=kernel, threads=threads)(x)
        for threads in (1, 2)
    )
    assert equal(one, two)


@pytest.mark.parametrize("form", ["int8", "float32"])
def test_rows_do_not_depend_on_their_neighbours(rng, kernel, form):
    weight = weight_of(rng, 40, 96, scheme_of(4, 32))
    x = rows_of(rng, 13, 96)
    layer = qsdk.linear(weight, activations=form, kernel=kernel)
    alone = np.concatenate([layer(row[None]) for row in x])
    if form == "int8":
        assert equal(layer(x), alone)
    else:  # the order of a sum may depend on how many rows there are
        size = np.abs(x) @ np.abs(weight.dequantize()).T
        assert (np.abs(layer(x) - alone) <= 1e-5 * size).all()


def test_calls_from_several_threads_do_not_disturb_each_other(rng, kernel):
    layer = qsdk.linear(
        weight_of(rng, 64, 256, scheme_of(4, 32)), activations="int8", kernel=kernel
    )
    inputs = [rows_of(rng, 1 + i % 9, 256) for i in range(40)]
    expected = [layer(x) for x in inputs]
    with ThreadPoolExecutor(8) as pool:
        assert all(map(equal, pool.map(layer, inputs), expected))


def test_out_is_filled_and_any_float_input_is_taken(rng, kernel):
    layer = qsdk.linear(weight_of(rng, 20, 64, scheme_of(4, 32)), activations="int8", kernel=kernel)
    x = rows_of(rng, 2, 3, 64)
    y, out = layer(x), np.empty((2, 3, 20), np.float32)
    assert layer(x, out=out) is out and equal(out, y)
    assert equal(layer(x.astype(np.float64)), y)
    assert equal(layer(np.asfortranarray(x)), y)
    assert equal(layer(x.tolist()), y)
    assert equal(layer(x[0, 0]), y[0, 0])


def test_a_wrong_input_or_out_is_refused_with_its_shape(rng, kernel):
    layer = qsdk.linear(weight_of(rng, 20, 64, scheme_of(4, 32)), kernel=kernel)
    with pytest.raises(DataError, match=r"\(2, 63\)"):
        layer(np.zeros((2, 63), np.float32))
    with pytest.raises(DataError, match="int32"):
        layer(np.zeros((2, 64), np.int32))
    with pytest.raises(DataError, match=r"\(2, 19\)"):
        layer(np.zeros((2, 64), np.float32), out=np.empty((2, 19), np.float32))


@pytest.mark.parametrize("form", ["int8", "float32"])
def test_nothing_in_gives_nothing_or_the_bias(rng, kernel, form):
    layer = qsdk.linear(weight_of(rng, 20, 64, scheme_of(4, 32)), activations=form, kernel=kernel)
    assert layer(np.empty((0, 64), np.float32)).shape == (0, 20)
    no_inputs = weight_of(rng, 20, 0, scheme_of(4, None))
    layer = qsdk.linear(no_inputs, bias=np.arange(20), activations=form, kernel=kernel)
    assert layer(np.empty((2, 0), np.float32)).tolist() == [list(range(20))] * 2
    no_outputs = weight_of(rng, 0, 64, scheme_of(4, 32))
    layer = qsdk.linear(no_outputs, activations=form, kernel=kernel)
    assert layer(np.zeros((2, 64), np.float32)).shape == (2, 0)


# What is refused.


@pytest.mark.parametrize(
    ("scheme", "form", "words"),
    [
        (scheme_of(7, None), "int8", "not for 7"),
        (scheme_of(4, 24), "int8", "multiple of 16, not 24"),
        (scheme_of(4, 16, axis=1), "int8", "axis 0, not 1"),
        (scheme_of(4, 16), "uint8", "not uint8"),
    ],
)
def test_what_a_kernel_does_not_take_is_refused_with_the_reason(rng, kernel, scheme, form, words):
    weight = weight_of(rng, 48, 48, scheme)
    with pytest.raises(KernelError, match=words):
        qsdk.linear(weight, activations=form, kernel=kernel)


@pytest.mark.parametrize("kernel", sorted(NARROW))
def test_eight_bits_are_refused_where_they_would_saturate(rng, kernel):
    operation = Linear(weight=weight_of(rng, 4, 32, scheme_of(8, 32)))
    found = {c.kernel.name: c.kernel.refusal(operation) for c in dispatch.candidates(operation)}
    assert "not 8" in found[kernel]
    assert not found["linear-groups-portable"]


def test_a_group_whose_sum_could_overflow_is_refused(rng, kernel):
    bits, longest = 4, (2**31 - 1) // (128 * 15) // 16 * 16
    for length, refused in ((longest, False), (longest + 1, True)):
        weight = weight_of(rng, 1, length, scheme_of(bits, None))
        operation = Linear(weight=weight, activations=Activations(form="int8"))
        reasons = {
            c.kernel.name: c.kernel.refusal(operation) for c in dispatch.candidates(operation)
        }
        assert bool(reasons[kernel]) is refused


def test_the_kernel_of_highest_priority_runs_grouped_layers(rng):
    weight = weight_of(rng, 20, 64, scheme_of(4, 32))
    able = [c.kernel for c in dispatch.kernels() if c.kernel.name in KERNELS and c.can_run]
    layer = qsdk.linear(weight, activations="int8")
    expected = able[0].name if able else REFERENCE
    assert layer.kernel.name == expected
