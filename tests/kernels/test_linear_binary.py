"""``linear`` on binary and ternary codes: every kernel of this machine against the reference."""

from __future__ import annotations

import ctypes

import numpy as np
import pytest

import qsdk
from qsdk import cpu, dispatch
from qsdk.errors import DataError, KernelError

RNG = np.random.default_rng(7)
ALL = [
    c
    for c in dispatch.kernels()
    if c.kernel.operation == "linear" and c.kernel.encoding in ("binary_coded", "ternary")
]
IN_C = [c for c in ALL if "reference" not in c.kernel.name]


def kernel(candidate):
    """A parameter that is skipped, with the reason, where this machine cannot run it."""
    marks = [pytest.mark.skip(reason=candidate.reason)] if candidate.reason else []
    return pytest.param(candidate.kernel, id=candidate.kernel.name, marks=marks)


@pytest.fixture(params=[kernel(c) for c in IN_C])
def in_c(request):
    return request.param


def encoded(kernel, rows, length, planes=2, **scheme):
    weight = RNG.standard_normal((rows, length)).astype(np.float32)
    method, bits = (
        ("ternary" if planes == 1 else "ternary_residual", 2 * planes)
        if kernel.encoding == "ternary"
        else ("greedy", planes)
    )
    return qsdk.registry.get(method, bits=bits, **scheme).quantize(weight)


def inputs(rows, length):
    """Bell-shaped, tied, constant and all-zero rows."""
    x = RNG.standard_normal((rows, length)).astype(np.float32)
    x[1::4] = np.round(2 * x[1::4]) / 2
    x[2::4] = -1.5
    x[3::4] = 0
    return x


def both(kernel, weight, x, **options):
    """What the kernel gives, and its reference."""
    ours = qsdk.linear(weight, kernel=kernel.name, **options)
    assert ours.kernel.name == kernel.name
    return ours(x), qsdk.linear(weight, kernel=kernel.reference, **options)(x)


LENGTHS = [1, 15, 16, 17, 63, 64, 65, 127, 128, 129, 1000]


@pytest.mark.parametrize("length", LENGTHS)
@pytest.mark.parametrize("rows", [1, 7, 8, 9, 33, 65])
def test_binary_input_gives_the_floats_of_the_reference(in_c, rows, length):
    weight, x = encoded(in_c, rows, length), inputs(5, length)
    ours, reference = both(in_c, weight, x, activations="binary2", bias=np.arange(rows) / 3)
    np.testing.assert_array_equal(ours, reference)


@pytest.mark.parametrize("planes", [1, 2, 3, 4])
@pytest.mark.parametrize("bits", [1, 2, 3, 4])
@pytest.mark.parametrize("cycles", [0, 1, 5])
def test_any_number_of_planes_and_cycles(in_c, planes, bits, cycles):
    weight, x = encoded(in_c, 40, 200, planes), inputs(4, 200)
    form = qsdk.Activations(form="binary", bits=bits, cycles=cycles)
    np.testing.assert_array_equal(*both(in_c, weight, x, activations=form))


@pytest.mark.parametrize("count", [15, 16, 17, 48, 64, 83])
@pytest.mark.parametrize("bits", [2, 3])
def test_many_rows_of_input_at_once(in_c, count, bits):
    weight, x = encoded(in_c, 40, 600, group_size=576), inputs(count, 600)
    x[count // 2, 5] = np.nan
    ours, reference = both(in_c, weight, x, activations=f"binary{bits}")
    assert np.isnan(ours[count // 2]).all()
    np.testing.assert_array_equal(ours, reference)


@pytest.mark.parametrize("activations", [None, "binary3"])
@pytest.mark.parametrize("scheme", [{"granularity": "per_tensor"}, {"group_size": 64},
                                    {"group_size": 128}, {"group_size": 640}])  # fmt: skip
def test_alphas_per_matrix_and_per_group(in_c, scheme, activations):
    weight, x = encoded(in_c, 35, 300, **scheme), inputs(4, 300)
    np.testing.assert_array_equal(*both(in_c, weight, x, activations=activations))


@pytest.mark.parametrize("length", LENGTHS)
def test_float_input_gives_the_floats_of_the_reference(in_c, length):
    weight, x = encoded(in_c, 37, length, planes=3), inputs(6, length)
    x[0, 0], x[4, -1] = np.inf, np.nan
    with np.errstate(invalid="ignore"):
        np.testing.assert_array_equal(*both(in_c, weight, x))


@pytest.mark.parametrize("sign", [1, -1])
def test_rows_longer_than_any_counter_of_16_bits(in_c, sign):
    """All places are hit, or all missed: 70,000 of them."""
    weight, x = np.ones((9, 70_001), np.float32), np.full((1, 70_001), 2 * sign, np.float32)
    weight[:, ::5] = 0.5 if in_c.encoding == "binary_coded" else 0
    encoding = qsdk.registry.get(
        "ternary" if in_c.encoding == "ternary" else "greedy", bits=2
    ).quantize(weight)
    ours, reference = both(in_c, encoding, x, activations="binary2")
    np.testing.assert_array_equal(ours, reference)
    decoded = encoding.dequantize()[0]
    assert ours[0, 0] == pytest.approx(2 * sign * decoded.sum(dtype=float), rel=1e-4)


def test_many_rows_and_few_give_the_same(in_c):
    weight, x = encoded(in_c, 50, 130), inputs(40, 130)
    for form in (None, "binary2"):
        layer = qsdk.linear(weight, activations=form, kernel=in_c.name)
        np.testing.assert_array_equal(layer(x), np.stack([layer(row) for row in x]))


def test_threads_change_nothing(in_c):
    weight, x = encoded(in_c, 3000, 256), inputs(24, 256)
    for form in (None, "binary2"):
        one, two = (
            qsdk.linear(weight, activations=form, kernel=in_c.name, threads=n)(x) for n in (1, 2)
        )
        np.testing.assert_array_equal(one, two)


def test_a_row_that_is_not_finite_becomes_nan_and_others_do_not(in_c):
    x = inputs(4, 70)
    x[0, 3], x[1, 69], x[3] = np.nan, -np.inf, np.finfo(np.float32).max  # a sum beyond float32
    weight = encoded(in_c, 9, 70)
    output = qsdk.Output(clip=(0, 1))
    ours, reference = both(in_c, weight, x, activations="binary2", bias=np.ones(9), output=output)
    np.testing.assert_array_equal(ours, reference)
    assert np.isnan(ours).all(axis=1).tolist() == [True, True, False, True]
    assert ours[2].min() >= 0 and ours[2].max() <= 1


def test_memory_of_the_caller_is_filled(in_c):
    weight, x = encoded(in_c, 12, 100), inputs(2, 100)
    layer = qsdk.linear(weight, activations="binary2", kernel=in_c.name)
    y = np.full((2, 12), 7, np.float32)
    assert layer(x, out=y) is y
    np.testing.assert_array_equal(y, layer(x))
    with pytest.raises(DataError, match="out is float64"):
        layer(x, out=np.empty((2, 12)))
    with pytest.raises(DataError, match=r"takes \(\.\.\., 100\)"):
        layer(x[:, :99])


def test_empty_shapes(in_c):
    weight = encoded(in_c, 12, 100)
    layer = qsdk.linear(weight, activations="binary2", kernel=in_c.name)
    assert layer(np.empty((0, 100), np.float32)).shape == (0, 12)
    nothing = encoded(in_c, 5, 0)
    for form in (None, "binary2"):
        empty = qsdk.linear(nothing, bias=np.arange(5), activations=form, kernel=in_c.name)
        assert empty(np.empty((2, 0), np.float32)).tolist() == [[0, 1, 2, 3, 4]] * 2


@pytest.mark.parametrize("kernel", [c.kernel for c in ALL], ids=lambda kernel: kernel.name)
def test_what_no_kernel_takes_is_refused_with_the_reason(kernel):
    def reason(weight, **options):
        return kernel.refusal(qsdk.Linear(weight=weight, **options))

    assert reason(encoded(kernel, 4, 100, planes=2)) == ""
    assert "multiple of 64, not 50" in reason(encoded(kernel, 4, 100, group_size=50))
    assert reason(encoded(kernel, 4, 100, group_size=100)) == ""  # one group: a whole row
    assert "axis 0, not 1" in reason(encoded(kernel, 4, 100, axis=1))
    int8 = qsdk.Activations(form="int8")
    assert "takes binary, float32 activations" in reason(encoded(kernel, 4, 100), activations=int8)
    if kernel.encoding == "binary_coded":
        assert "takes 4 planes at most, not 5" in reason(encoded(kernel, 4, 100, planes=5))


def test_an_impossible_layer_names_every_kernel_and_why():
    weight = encoded(IN_C[0].kernel, 4, 100, group_size=50)
    with pytest.raises(KernelError, match="linear-binary-reference: takes groups of a multiple"):
        qsdk.linear(weight, activations="binary2")


def test_dispatch_takes_the_best_and_the_next_where_features_are_taken_away(monkeypatch):
    weight = encoded(IN_C[0].kernel, 4, 100)
    able = [c.kernel for c in dispatch.candidates(qsdk.Linear(weight=weight)) if c.can_run]
    assert qsdk.linear(weight).kernel.name == able[0].name
    assert [k.priority for k in able] == sorted((k.priority for k in able), reverse=True)
    if not able[0].features:
        pytest.skip("only kernels without C run here")
    monkeypatch.setenv("QSDK_DISABLE_CPU_FEATURES", ",".join(able[0].features & set(cpu.FEATURES)))
    assert qsdk.linear(weight).kernel.name != able[0].name


@pytest.mark.parametrize("candidate", [c for c in ALL if "reference" in c.kernel.name],
                         ids=lambda c: c.kernel.name)  # fmt: skip
@pytest.mark.parametrize("scheme", [{}, {"group_size": 64}, {"granularity": "per_tensor"}])
def test_the_reference_is_the_product_of_what_is_decoded(candidate, scheme):
    weight, x = encoded(candidate.kernel, 20, 150, planes=3, **scheme), inputs(3, 150)
    dense = x.astype(float) @ weight.dequantize().T.astype(float)
    y = qsdk.linear(weight, kernel=candidate.kernel.name)(x)
    np.testing.assert_allclose(y, dense, rtol=1e-4, atol=1e-4)
    simulated = qsdk.linear(weight, kernel="linear-simulated")(x)
    np.testing.assert_allclose(y, simulated, rtol=1e-4, atol=1e-4)


def records(bits, length, rows=20, seed=3):
    """Rows of codes, and the encoding that has them."""
    weight = np.random.default_rng(seed).standard_normal((rows, length)).astype(np.float32)
    encoding = qsdk.registry.get("greedy", bits=bits).quantize(weight)
    return encoding.rows(), encoding


@pytest.mark.parametrize("length", LENGTHS)
@pytest.mark.parametrize("bits", [1, 2, 3, 4])
def test_codes_as_input_give_the_floats_of_the_reference(in_c, bits, length):
    weight, (codes, _) = encoded(in_c, 37, length), records(bits, length)
    codes["alpha"][3, 0] = np.inf
    x = codes[RNG.integers(0, 20, (5, 9))]
    ours, reference = both(in_c, weight, x, activations=f"binary{bits}", bias=np.arange(37) / 3)
    assert ours.shape == (5, 9, 37)
    np.testing.assert_array_equal(ours, reference)
    nan = ~np.isfinite(x["alpha"]).all(axis=-1)
    np.testing.assert_array_equal(np.isnan(ours).all(axis=-1), nan)
    np.testing.assert_array_equal(np.isnan(ours).any(axis=-1), nan)


@pytest.mark.parametrize("candidate", [c for c in ALL if "reference" in c.kernel.name],
                         ids=lambda c: c.kernel.name)  # fmt: skip
def test_the_reference_multiplies_what_codes_decode_to(candidate):
    weight, (codes, encoding) = encoded(candidate.kernel, 20, 150, planes=3), records(3, 150)
    layer = qsdk.linear(weight, activations="binary3", kernel=candidate.kernel.name)
    expected = encoding.dequantize().astype(float) @ weight.dequantize().T.astype(float)
    np.testing.assert_allclose(layer(codes), expected, rtol=1e-4, atol=1e-4)


def test_codes_that_the_coder_finds_again_give_the_bits_of_their_floats(in_c):
    """Floats of two levels, each as often."""
    x = RNG.permuted(np.tile(np.float32([3, -3, 1, -1]), (6, 25)), axis=1)
    encoding = qsdk.registry.get("greedy", bits=2).quantize(x)
    np.testing.assert_array_equal(encoding.dequantize(), x)
    layer = qsdk.linear(encoded(in_c, 33, 100), activations="binary2", kernel=in_c.name)
    np.testing.assert_array_equal(layer(encoding.rows()), layer(x))


def test_places_behind_the_last_value_of_a_code_are_ignored(in_c):
    weight, (codes, _) = encoded(in_c, 20, 100), records(2, 100)
    layer = qsdk.linear(weight, activations="binary2", kernel=in_c.name)
    right = layer(codes)
    codes["planes"][:, 1] |= np.uint64(2**64 - 2**36)
    np.testing.assert_array_equal(layer(codes), right)


def test_codes_of_any_layout_and_number(in_c):
    weight, (codes, _) = encoded(in_c, 20, 100), records(2, 100)
    layer = qsdk.linear(weight, activations="binary2", kernel=in_c.name)
    right = layer(codes)
    assert right.shape == (20, 20)
    np.testing.assert_array_equal(layer(codes[::-2]), right[::-2])
    np.testing.assert_array_equal(layer(codes[7]), right[7])
    np.testing.assert_array_equal(layer(codes.reshape(4, 5), out=np.empty((4, 5, 20), "f4")),
                                  right.reshape(4, 5, 20))  # fmt: skip
    read = np.frombuffer(b" " + codes.tobytes(), codes.dtype.descr, offset=1)  # an equal dtype
    np.testing.assert_array_equal(layer(read), right)
    assert layer(codes[:0]).shape == (0, 20)


@pytest.mark.parametrize("kernel", [c.kernel for c in ALL if c.can_run], ids=lambda k: k.name)
def test_codes_that_do_not_fit_are_refused(kernel):
    layer = qsdk.linear(encoded(kernel, 4, 100), activations="binary2", kernel=kernel.name)
    takes = "this layer takes floats or codes of 2 planes of 100 signs"
    for bits, length in ((3, 100), (2, 101), (1, 64)):
        with pytest.raises(DataError, match=f"codes of {bits} planes of {length} signs; {takes}"):
            layer(records(bits, length)[0])
    with pytest.raises(DataError, match=r"records \[\('a', '<i4'\)\]; " + takes):
        layer(np.zeros(3, [("a", "<i4")]))
    floats = qsdk.linear(encoded(kernel, 4, 100), kernel=kernel.name)
    with pytest.raises(DataError, match=r"2 planes of 100 signs; this layer takes floats$"):
        floats(records(2, 100)[0])


@pytest.mark.parametrize("activations", [None, "binary2"])
def test_another_library_can_call_the_function(in_c, activations):
    weight, (codes, _) = encoded(in_c, 20, 100), records(2, 100)
    layer = qsdk.linear(weight, activations=activations, kernel=in_c.name, threads=1)
    call = layer.native
    function = ctypes.CFUNCTYPE(
        None, *[ctypes.c_void_p] * 2, ctypes.c_size_t, *[ctypes.c_void_p] * 2, ctypes.c_int
    )(call.function)
    for x in [inputs(20, 100), *([codes] if activations else [])]:
        y, scratch = np.empty((20, 20), np.float32), np.empty(call.scratch_bytes(20) + 64, np.uint8)
        aligned = scratch.ctypes.data + -scratch.ctypes.data % 64
        function(call.contexts[x.dtype], x.ctypes.data, 20, y.ctypes.data, aligned, 1)
        np.testing.assert_array_equal(y, layer(x))
    assert call.scratch_bytes(1) <= call.scratch_bytes(20)
    assert qsdk.linear(weight, kernel=in_c.reference).native is None
