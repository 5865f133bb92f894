"""Kernels of conv: the reference against plain loops and onnxruntime, the others against it."""

from __future__ import annotations

import itertools
import threading

import numpy as np
import onnxruntime
import pytest
from onnx import TensorProto, helper, numpy_helper

import qsdk
from qsdk.dispatch import kernels
from qsdk.errors import DataError, KernelError
from qsdk.interfaces import Activations, Output, code_rows

REFERENCE = "conv-int8-reference"
ROOMY = "-pairs"  # kernels for weights that cannot overflow 16 bits
NATIVE = [c for c in kernels() if c.kernel.name.startswith("conv-int8-")]
EVERY = pytest.mark.parametrize(
    "kernel",
    [
        pytest.param(c.kernel.name, marks=[] if c.can_run else pytest.mark.skip(reason=c.reason))
        for c in NATIVE
        if c.kernel.name != REFERENCE
    ],
)

# (image, out, kernel, words): kinds of layers, and lengths about the vectors of every set.
LAYERS = [
    ((3, 9, 10), 5, (3, 3), {"padding": 1}),
    ((16, 8, 8), 16, (3, 3), {"padding": [0, 1, 2, 3]}),
    ((4, 7, 17), 9, (3, 3), {"stride": 2, "padding": [0, 0, 1, 1]}),
    ((6, 5, 33), 8, (1, 1), {}),
    ((5, 6, 7), 3, (1, 1), {"stride": 2}),
    ((6, 11, 11), 6, (3, 3), {"groups": 6, "padding": 1}),
    ((6, 12, 31), 12, (3, 3), {"groups": 6, "padding": 1, "stride": 2}),
    ((5, 14, 14), 5, (3, 3), {"groups": 5, "padding": 1}),
    ((3, 9, 71), 9, (3, 3), {"groups": 3, "padding": [0, 2, 1, 0], "stride": [1, 2]}),
    ((2, 7, 37), 2, (5, 5), {"groups": 2, "padding": 2}),
    ((4, 7, 7), 4, (3, 3), {"groups": 4, "padding": 1, "dilation": [2, 1]}),
    ((3, 6, 26), 3, (3, 4), {"groups": 3, "dilation": [1, 3], "stride": 2}),
    ((4, 12, 15), 4, (5, 5), {"groups": 4, "padding": 2, "stride": 3}),
    ((3, 13, 12), 3, (3, 3), {"groups": 3, "padding": 2, "dilation": 2}),
    ((8, 9, 9), 12, (2, 3), {"groups": 2, "dilation": [3, 2], "stride": [1, 2], "padding": 2}),
    ((1, 14, 14), 17, (5, 5), {}),
    ((2, 50), 7, (3,), {"padding": 1}),
    ((1, 64), 8, (16,), {"stride": 4}),
    ((10, 23), 10, (4,), {"groups": 10, "padding": [3, 0]}),
    ((4, 3, 3), 4, (3, 3), {}),
    ((2, 2, 2), 3, (1, 1), {"padding": 3}),
]
IDS = [f"{image}-{out}-{kernel}" for image, out, kernel, _ in LAYERS]
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
WEIGHTS = [
    {"bits": 8, "symmetric": True},
    {"bits": 8, "signed": False},
    {"bits": 3},
    {"bits": 2, "granularity": "per_tensor"},
]


def weight_of(rng, layer, *, roomy=False, **words):
    """roomy : pairs of its steps fit 16 bits, whatever they are multiplied with"""
    (channels, *_), outputs, kernel, more = layer
    scheme = qsdk.Scheme(**words)
    shape = (outputs, channels // more.get("groups", 1), *kernel)
    middle = 128 if scheme.qmax > 127 else 0
    limit = 256 if not roomy or scheme.bits < 8 else 64 if scheme.symmetric else 32
    low, high = max(scheme.qmin, middle - limit), min(scheme.qmax + 1, middle + limit)
    codes = rng.integers(low, high, shape).astype(scheme.dtype)
    scales = () if scheme.granularity == "per_tensor" else (outputs,)
    zero = np.zeros(scales, scheme.dtype)
    if not scheme.symmetric:
        zero = rng.integers(low, high, scales).astype(scheme.dtype)
    scale = rng.uniform(0.01, 0.1, scales).astype(np.float32)
    return qsdk.Affine.from_codes(codes, scale, zero, scheme)


def images(rng, layer, batch=2):
    return rng.standard_normal((batch, *layer[0])).astype(np.float32)


def loops(steps, weight, conv):
    """Accumulators of one image, place by place. steps : (channels, height, width) of integers"""
    outputs, channels, height, width = weight.shape
    stride, dilation = conv["stride"], conv["dilation"]
    top, left, bottom, right = conv["padding"]
    padded = np.zeros((len(steps), steps.shape[1] + top + bottom, steps.shape[2] + left + right))
    padded[:, top : top + steps.shape[1], left : left + steps.shape[2]] = steps
    rows = (padded.shape[1] - dilation[0] * (height - 1) - 1) // stride[0] + 1
    columns = (padded.shape[2] - dilation[1] * (width - 1) - 1) // stride[1] + 1
    sums = np.zeros((outputs, rows, columns), np.int64)
    for n, r, c in itertools.product(range(outputs), range(rows), range(columns)):
        first = n // (outputs // conv["groups"]) * channels
        for k, i, j in itertools.product(range(channels), range(height), range(width)):
            place = padded[
                first + k, r * stride[0] + i * dilation[0], c * stride[1] + j * dilation[1]
            ]
            sums[n, r, c] += int(place) * int(weight[n, k, i, j])
    return sums


@pytest.mark.parametrize("seed", range(12))
def test_the_reference_equals_plain_loops(seed):
    rng = np.random.default_rng(seed)
    groups, channels, outputs = rng.integers(1, 4, 3)
    shape = (groups * outputs, channels, *rng.integers(1, 4, 2))
    conv = {
        "stride": rng.integers(1, 3, 2).tolist(), "dilation": rng.integers(1, 3, 2).tolist(),
        "padding": rng.integers(0, 3, 4).tolist(), "groups": int(groups),
    }  # fmt: skip
    scheme = qsdk.Scheme(bits=8)
    codes = rng.integers(-128, 128, shape).astype(np.int8)
    zero = rng.integers(-128, 128, shape[0]).astype(np.int8)
    weight = qsdk.Affine.from_codes(codes, np.ones(shape[0], np.float32), zero, scheme)
    x = rng.integers(0, 256, (2, groups * channels, 6, 7)).astype(np.uint8)
    form = Activations(form="fixed_uint8", zero_point=77)
    y = qsdk.conv(weight, activations=form, output="int32", kernel=REFERENCE, **conv)(x)
    steps = codes.astype(int) - zero[:, None, None, None].astype(int)
    for image, result in zip(x, y, strict=True):
        np.testing.assert_array_equal(loops(image.astype(int) - 77, steps, conv), result)


def run_onnx(op, inputs, **attributes):
    """The result of one operator of onnxruntime."""
    types = {"float32": TensorProto.FLOAT, "uint8": TensorProto.UINT8, "int32": TensorProto.INT32}
    result = "int32" if op == "ConvInteger" else "float32"
    data, *rest = inputs
    names = [f"i{i}" for i in range(len(inputs))]
    graph = helper.make_graph(
        [helper.make_node(op, names, ["y"], **attributes)],
        "graph",
        [helper.make_tensor_value_info(names[0], types[str(data.dtype)], data.shape)],
        [helper.make_tensor_value_info("y", types[result], [None] * data.ndim)],
        [numpy_helper.from_array(a, n) for a, n in zip(rest, names[1:], strict=True)],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8)
    session = onnxruntime.InferenceSession(
        model.SerializeToString(), providers=["CPUExecutionProvider"]
    )
    return session.run(None, {names[0]: data})[0]


def attributes_of(layer):
    """The words of a layer as ONNX has them."""
    _, _, kernel, words = layer
    axes = len(kernel)

    def each(value, count):
        return [value] * count if isinstance(value, int) else list(value)

    padding = words.get("padding", 0)
    return {
        "strides": each(words.get("stride", 1), axes),
        "dilations": each(words.get("dilation", 1), axes),
        "pads": each(padding, 2 * axes),
        "group": words.get("groups", 1),
    }


@pytest.mark.parametrize("layer", LAYERS, ids=IDS)
def test_accumulators_equal_those_of_onnxruntime_conv_integer(layer):
    if len(layer[2]) == 1:
        pytest.skip("ConvInteger of onnxruntime takes no 1-D images")
    rng = np.random.default_rng(1)
    weight = weight_of(rng, layer, bits=8, symmetric=True)
    x = rng.integers(0, 256, (2, *layer[0])).astype(np.uint8)
    form = Activations(form="fixed_uint8", zero_point=99)
    y = qsdk.conv(weight, activations=form, output="int32", kernel=REFERENCE, **layer[3])(x)
    theirs = run_onnx("ConvInteger", [x, weight.codes, np.uint8(99)], **attributes_of(layer))
    np.testing.assert_array_equal(theirs, y)


@pytest.mark.parametrize("form", [None, "int8", "uint8", *FIXED], ids=str)
@pytest.mark.parametrize("layer", LAYERS, ids=IDS)
def test_simulated_is_onnxruntime_on_decoded_images_and_weights(layer, form):
    rng = np.random.default_rng(2)
    weight, x = weight_of(rng, layer, bits=5), images(rng, layer)
    bias = rng.standard_normal(layer[1]).astype(np.float32)
    simulated = qsdk.conv(weight, bias=bias, activations=form, kernel="conv-simulated", **layer[3])
    y = simulated(x)
    if form is not None:
        rows = code_rows(x.reshape(len(x), -1), simulated.operation.activations)
        x = rows.dequantize().reshape(x.shape)
    theirs = run_onnx("Conv", [x, weight.dequantize(), bias], **attributes_of(layer))
    np.testing.assert_allclose(theirs, y, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("form", ["int8", "uint8", *FIXED], ids=str)
@pytest.mark.parametrize("layer", LAYERS, ids=IDS)
def test_the_reference_is_what_simulation_predicts(layer, form):
    rng = np.random.default_rng(3)
    weight, x = weight_of(rng, layer, bits=8), images(rng, layer)
    words = {"bias": rng.standard_normal(layer[1]), "activations": form, **layer[3]}
    exact = qsdk.conv(weight, kernel=REFERENCE, **words)(x)
    simulated = qsdk.conv(weight, kernel="conv-simulated", **words)(x)
    np.testing.assert_allclose(exact, simulated, rtol=1e-5, atol=1e-4)


@EVERY
@pytest.mark.parametrize("scheme", WEIGHTS, ids=str)
@pytest.mark.parametrize("layer", LAYERS, ids=IDS)
def test_kernels_equal_the_reference_for_every_form(kernel, layer, scheme):
    rng = np.random.default_rng(4)
    weight, x = weight_of(rng, layer, roomy=ROOMY in kernel, **scheme), images(rng, layer)
    bias = rng.standard_normal(layer[1]).astype(np.float32)
    for form, output in [
        ("int8", "float32"),
        ("uint8", "float32"),
        *itertools.product(FIXED, OUTPUTS),
    ]:
        words = {"bias": bias, "activations": form, "output": output, **layer[3]}
        wanted = qsdk.conv(weight, kernel=REFERENCE, **words)(x)
        found = qsdk.conv(weight, kernel=kernel, threads=1, **words)
        assert found.kernel.name == kernel
        np.testing.assert_array_equal(wanted, found(x), err_msg=f"{form} {output}")
        if found.operation.activations.is_fixed:
            codes = rng.integers(0, 256, x.shape).astype(np.uint8).view(form.dtype)
            wanted = qsdk.conv(weight, kernel=REFERENCE, **words)(codes)
            np.testing.assert_array_equal(wanted, found(codes), err_msg=f"{form} {output}")


@EVERY
@pytest.mark.parametrize("size", [1.0, 1e3, 1e5, 1e8])
def test_results_halfway_between_codes_are_those_of_the_reference(kernel, size):
    rng = np.random.default_rng(14)
    layer = ((6, 11, 45), 6, (3, 3), {"groups": 6, "padding": 1})
    weight = weight_of(rng, layer, roomy=ROOMY in kernel, bits=8, symmetric=True)
    weight = qsdk.Affine.from_codes(
        weight.codes, np.ones_like(weight.scale), weight.zero_point, weight.scheme
    )
    x = rng.integers(100, 156, (2, *layer[0])).astype(np.uint8)
    words = {
        "activations": Activations(form="fixed_uint8", scale=1.0, zero_point=128),
        "output": Output(form="int8", scale=64.0, zero_point=3),
        "bias": (np.rint(rng.uniform(-size, size, 6)) + 0.5).astype(np.float32),
        **layer[3],
    }
    wanted, found = (qsdk.conv(weight, kernel=name, **words)(x) for name in (REFERENCE, kernel))
    np.testing.assert_array_equal(wanted, found)


@EVERY
@pytest.mark.parametrize("layer", LAYERS, ids=IDS)
def test_extreme_codes_are_exact(kernel, layer):
    rng = np.random.default_rng(5)
    x = np.full((1, *layer[0]), 255, np.uint8)
    for words, low in [({"bits": 8, "signed": True}, -128), ({"bits": 8, "signed": False}, 0)]:
        weight = weight_of(rng, layer, roomy=ROOMY in kernel, **words)
        for code in (low, low + (64 if ROOMY in kernel else 255)):
            codes = np.full_like(weight.codes, code)
            zero = np.full_like(weight.zero_point, low)
            extreme = qsdk.Affine.from_codes(codes, weight.scale, zero, weight.scheme)
            form = Activations(form="fixed_uint8")
            words = {"activations": form, "output": "int32", **layer[3]}
            wanted = qsdk.conv(extreme, kernel=REFERENCE, **words)(x)
            np.testing.assert_array_equal(wanted, qsdk.conv(extreme, kernel=kernel, **words)(x))


@EVERY
@pytest.mark.parametrize("image", [(8, 40, 40), (32, 17, 90)])
@pytest.mark.parametrize("groups", [1, 8])
@pytest.mark.parametrize("batch", [1, 5])
def test_two_threads_give_what_one_gives(kernel, image, groups, batch):
    rng = np.random.default_rng(6)
    layer = (image, 32, (3, 3), {"padding": 1, "groups": groups})
    weight, x = (
        weight_of(rng, layer, roomy=ROOMY in kernel, bits=8, symmetric=True),
        images(rng, layer, batch),
    )
    one, two = (
        qsdk.conv(weight, activations="uint8", kernel=kernel, threads=threads, **layer[3])
        for threads in (1, 2)
    )
    np.testing.assert_array_equal(one(x), two(x))


@EVERY
def test_one_layer_takes_images_of_many_sizes_from_many_threads(kernel):
    rng = np.random.default_rng(7)
    layer = ((4, 8, 8), 6, (3, 3), {"padding": 1})
    weight = weight_of(rng, layer, roomy=ROOMY in kernel, bits=8)
    prepared, wanted = (
        qsdk.conv(weight, activations="int8", kernel=name, threads=1, **layer[3])
        for name in (kernel, REFERENCE)
    )
    cases = [
        rng.standard_normal((b, 4, n, n + b)).astype(np.float32)
        for b in (1, 3)
        for n in range(1, 9)
    ]
    results = [wanted(x) for x in cases]
    failures = []

    def work():
        for _ in range(5):
            for x, y in zip(cases, results, strict=True):
                if not np.array_equal(prepared(x), y):
                    failures.append(x.shape)

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failures


@EVERY
def test_an_image_with_nan_or_infinity_becomes_nan_and_no_other(kernel):
    rng = np.random.default_rng(8)
    layer = LAYERS[0]
    weight, x = weight_of(rng, layer, roomy=ROOMY in kernel, bits=8), images(rng, layer, 4)
    x[1, 0, 0, 0], x[2, -1, -1, -1] = np.nan, -np.inf
    for form, name in itertools.product(("int8", "uint8"), (kernel, "conv-simulated")):
        y = qsdk.conv(
            weight, activations=form, kernel=name, output=Output(clip=(0, 1)), **layer[3]
        )(x)
        assert np.isnan(y[1:3]).all()
        assert np.isfinite(y[[0, 3]]).all()


@EVERY
def test_fixed_codes_saturate_with_nan_as_the_lowest(kernel):
    rng = np.random.default_rng(9)
    layer = LAYERS[0]
    weight, x = weight_of(rng, layer, roomy=ROOMY in kernel, bits=8), images(rng, layer)
    x.flat[:6] = np.nan, np.inf, -np.inf, 1e30, -1e30, 3.4e38
    for form in FIXED:
        wanted, found = (
            qsdk.conv(weight, activations=form, kernel=name, output="int32", **layer[3])(x)
            for name in (REFERENCE, kernel)
        )
        np.testing.assert_array_equal(wanted, found)


@pytest.mark.parametrize(
    "kernel", [REFERENCE, "conv-simulated", *(c.kernel.name for c in NATIVE if c.can_run)]
)
@pytest.mark.parametrize("shape", [(0, 4, 5, 5), (2, 4, 2, 5), (2, 4, 0, 5), (0, 4, 0, 0)])
def test_no_images_and_images_too_small_give_empty_results(kernel, shape):
    layer = ((4, 5, 5), 3, (3, 3), {})
    weight = weight_of(np.random.default_rng(10), layer, roomy=ROOMY in kernel, bits=8)
    y = qsdk.conv(weight, activations="int8", kernel=kernel)(np.zeros(shape, np.float32))
    assert y.shape == (shape[0], 3, max(0, shape[2] - 2), max(0, shape[3] - 2))
    assert y.size == 0


@EVERY
def test_images_of_nothing_but_padding_give_the_bias(kernel):
    layer = ((4, 5, 5), 3, (3, 3), {"padding": 2})
    weight = weight_of(np.random.default_rng(11), layer, roomy=ROOMY in kernel, bits=8)
    bias = np.float32([1, -2, 3])
    for form, name in itertools.product(("int8", FIXED[1]), (kernel, REFERENCE)):
        prepared = qsdk.conv(weight, bias=bias, activations=form, kernel=name, padding=2)
        y = prepared(np.zeros((1, 4, 0, 0), np.float32))
        np.testing.assert_array_equal(y, np.broadcast_to(bias.reshape(1, 3, 1, 1), (1, 3, 2, 2)))


@EVERY
def test_out_is_filled_and_returned(kernel):
    rng = np.random.default_rng(12)
    layer = LAYERS[0]
    prepared = qsdk.conv(
        weight_of(rng, layer, roomy=ROOMY in kernel, bits=8),
        activations="int8",
        kernel=kernel,
        **layer[3],
    )
    x = images(rng, layer)
    wanted = prepared(x)
    out = np.full_like(wanted, 7)
    assert prepared(x, out=out) is out
    np.testing.assert_array_equal(out, wanted)
    strided = np.repeat(x, 2, axis=-1)[..., ::2]
    np.testing.assert_array_equal(prepared(strided), wanted)
    np.testing.assert_array_equal(prepared(x.astype(np.float64)), wanted)
    with pytest.raises(DataError, match=r"\(2, 5, 9, 11\)"):
        prepared(x, out=np.empty((2, 5, 9, 11), np.float32))
    with pytest.raises(DataError, match=r"batch, 3, length, length"):
        prepared(x[:, :2])


@pytest.mark.parametrize(
    ("pair", "fits"),
    [((64, 64), True), ((65, 64), False), ((127, -128), True), ((-64, -65), False)],
)
def test_a_kernel_that_adds_two_products_in_16_bits_takes_channels_that_fit(pair, fits):
    names = [c.kernel.name for c in NATIVE if ROOMY in c.kernel.name and c.can_run]
    if not names:
        pytest.skip("this CPU has no kernel of pairs")
    codes = np.ones((2, 4, 1, 1), np.int8)
    codes[0, 2:, 0, 0] = pair
    scheme = qsdk.Scheme(bits=8, symmetric=True)
    weight = qsdk.Affine.from_codes(codes, np.ones(2, np.float32), np.zeros(2, np.int8), scheme)
    for name in names:
        if fits:
            assert qsdk.conv(weight, activations="uint8", kernel=name).kernel.name == name
        else:
            with pytest.raises(KernelError, match="can overflow 16 bits"):
                qsdk.conv(weight, activations="uint8", kernel=name)


@EVERY
def test_accumulators_that_could_overflow_are_refused(kernel):
    largest, most, too_many = (64, 120_000, 140_000) if ROOMY in kernel else (127, 60_000, 70_000)
    codes = np.full((1, too_many, 1, 1), largest, np.int8)
    scheme = qsdk.Scheme(bits=8, symmetric=True)
    scale, zero = np.ones(1, np.float32), np.zeros(1, np.int8)
    weight = qsdk.Affine.from_codes(codes, scale, zero, scheme)
    fits = qsdk.Affine.from_codes(codes[:, :most], scale, zero, scheme)
    assert qsdk.conv(fits, activations="uint8", kernel=kernel).kernel.name == kernel
    with pytest.raises(KernelError, match="32 bits"):
        qsdk.conv(weight, activations="uint8", kernel=kernel)
