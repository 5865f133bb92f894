"""``conv`` on binary codes: the reference against loops over floats, the others against it."""

from __future__ import annotations

import itertools
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

import qsdk
from qsdk.dispatch import kernels
from qsdk.errors import KernelError, OptionError
from qsdk.interfaces import Activations, Output

REFERENCE = "conv-binary-reference"
FOUND = [c for c in kernels() if c.kernel.name.startswith("conv-binary-")]
IN_C = pytest.mark.parametrize(
    "kernel",
    [
        pytest.param(c.kernel.name, marks=[] if c.can_run else pytest.mark.skip(reason=c.reason))
        for c in FOUND
        if c.kernel.name != REFERENCE
    ],
)

# (image, out, kernel, words): odd channels, kernels of 1 to 5, cut on all sides by padding.
LAYERS = [
    ((3, 9, 10), 5, (3, 3), {"padding": 1}),
    ((65, 6, 7), 9, (3, 3), {"padding": [0, 1, 2, 3]}),
    ((64, 5, 9), 64, (1, 1), {}),
    ((130, 4, 4), 65, (2, 3), {"padding": 1}),
    ((16, 11, 12), 33, (5, 5), {"padding": 2, "stride": 2}),
    ((3, 13, 12), 3, (4, 4), {"padding": 4, "dilation": 2}),
    ((8, 9, 9), 12, (2, 3), {"groups": 2, "dilation": [3, 2], "stride": [1, 2], "padding": 2}),
    ((66, 5, 5), 4, (3, 3), {"groups": 2, "padding": 1}),
    ((6, 7, 8), 6, (3, 3), {"groups": 6, "padding": 1, "stride": [1, 3]}),
    ((20, 3, 70), 8, (3, 3), {"padding": 1}),
    ((65, 50), 7, (3,), {"padding": 2, "dilation": 2}),
    ((3, 40), 8, (4,), {"stride": 3, "padding": [3, 0]}),
    ((3, 4, 4), 4, (5, 5), {"padding": 3}),
    ((2, 2, 2), 3, (1, 1), {"padding": 3}),
    ((600, 3, 3), 5, (3, 3), {"padding": 1}),
]
IDS = [f"{image}-{out}-{kernel}" for image, out, kernel, _ in LAYERS]


def encoded(layer, bits=2, **scheme):
    (channels, *_), outputs, kernel, words = layer
    shape = (outputs, channels // words.get("groups", 1), *kernel)
    weight = np.random.default_rng(5).standard_normal(shape).astype(np.float32)
    return qsdk.registry.get("greedy", bits=bits, **scheme).quantize(weight)


def images(layer, batch=2, seed=6):
    """Bell-shaped; the second full of ties, the third constant, the fourth 0."""
    x = np.random.default_rng(seed).standard_normal((batch, *layer[0])).astype(np.float32)
    x[1:2] = np.round(2 * x[1:2]) / 2
    x[2:3], x[3:4] = -1.5, 0
    return x


def loops(x, weight, stride=1, padding=0, dilation=1, groups=1):
    """ONNX Conv of one image, place by place; what lies beside the image is left out."""
    axes = x.ndim - 1

    def each(value, count):
        return [value] * count if isinstance(value, int) else list(value)

    step, apart = each(stride, axes), each(dilation, axes)
    ends = each(padding, 2 * axes)
    lengths = [
        (x.shape[1 + a] + ends[a] + ends[axes + a] - apart[a] * (weight.shape[2 + a] - 1) - 1)
        // step[a] + 1
        for a in range(axes)
    ]  # fmt: skip
    y = np.zeros((len(weight), *lengths))
    channels = weight.shape[1]
    for place in itertools.product(*map(range, lengths)):
        for tap in itertools.product(*map(range, weight.shape[2:])):
            at = [place[a] * step[a] + tap[a] * apart[a] - ends[a] for a in range(axes)]
            if not all(0 <= at[a] < x.shape[1 + a] for a in range(axes)):
                continue
            for n in range(len(weight)):
                first = n // (len(weight) // groups) * channels
                seen = x[(slice(first, first + channels), *at)]
                y[(n, *place)] += seen @ weight[(n, slice(None), *tap)]
    return y


def scale_of_signs(x):
    """The one beta of an image, and its signs."""
    return np.abs(x.astype(float)).mean(), np.where(x < 0, -1.0, 1.0)


SMALL = [layer for layer in LAYERS if np.prod(layer[0]) * layer[1] < 20_000]
EACH_SMALL = pytest.mark.parametrize("layer", SMALL, ids=lambda layer: f"{layer[0]}-{layer[2]}")


@EACH_SMALL
def test_one_plane_is_the_float_convolution_of_signs(layer):
    """Padding counts neither as +1 nor as -1."""
    weight, x, words = encoded(layer, bits=1), images(layer), layer[3]
    y = qsdk.conv(weight, activations="binary1", kernel=REFERENCE, **words)(x)
    signs = np.where(weight.dequantize() < 0, -1.0, 1.0)
    alpha = np.abs(weight.dequantize()).reshape(len(signs), -1)[:, 0]
    for image, result in zip(x, y, strict=True):
        beta, digits = scale_of_signs(image)
        dot = loops(digits, signs, **words)
        np.testing.assert_allclose(
            result, (alpha * beta).reshape(-1, *[1] * (dot.ndim - 1)) * dot, rtol=1e-5, atol=1e-5
        )


@EACH_SMALL
@pytest.mark.parametrize("bits", [2, 3, 4])
def test_more_planes_are_the_float_convolution_of_what_they_stand_for(layer, bits):
    weight, x, words = encoded(layer, bits=3), images(layer), layer[3]
    y = qsdk.conv(weight, activations=f"binary{bits}", kernel=REFERENCE, **words)(x)
    betas, planes = qsdk.SignCoder(bits=bits).code(x.reshape(2, -1))
    for n, result in enumerate(y):
        signs = 2.0 * qsdk.unpack_words(planes[:, n], x[n].size) - 1
        decoded = (betas[:, n] @ signs).reshape(x[n].shape)
        dense = loops(decoded, weight.dequantize().astype(float), **words)
        np.testing.assert_allclose(result, dense, rtol=1e-4, atol=1e-4)


@EACH_SMALL
def test_a_scale_map_is_a_box_filter_of_mean_magnitudes(layer):
    """K of XNOR-Net, in place of the one beta."""
    weight, x, words = encoded(layer, bits=2), images(layer), layer[3]
    form = Activations(form="binary", bits=1, scale_map=True)
    y = qsdk.conv(weight, activations=form, kernel=REFERENCE, **words)(x)
    box = np.full(weight.shape, 1 / np.prod(weight.shape[1:]))
    for image, result in zip(x, y, strict=True):
        size = loops(np.abs(image.astype(float)), box, **words)
        dot = loops(scale_of_signs(image)[1], weight.dequantize().astype(float), **words)
        np.testing.assert_allclose(result, size * dot, rtol=1e-4, atol=1e-4)


@IN_C
@pytest.mark.parametrize("layer", LAYERS, ids=IDS)
@pytest.mark.parametrize("bits", [1, 2, 3, 4])
def test_every_set_equals_the_reference_to_the_bit(kernel, layer, bits):
    weight, x = encoded(layer, bits=1 + (bits + 2) % 4), images(layer, batch=4)
    bias = np.arange(layer[1]) / 7
    ours, reference = (
        qsdk.conv(weight, bias=bias, activations=f"binary{bits}", kernel=name, **layer[3])(x)
        for name in (kernel, REFERENCE)
    )
    assert ours.dtype == np.float32
    np.testing.assert_array_equal(ours, reference)


@IN_C
@pytest.mark.parametrize("layer", LAYERS, ids=IDS)
def test_scale_maps_equal_the_reference_to_the_bit(kernel, layer):
    weight, x = encoded(layer, bits=2, granularity="per_tensor"), images(layer, batch=3)
    form = Activations(form="binary", bits=1, scale_map=True)
    output = Output(clip=(-0.5, 2))
    ours, reference = (
        qsdk.conv(weight, activations=form, output=output, kernel=name, **layer[3])(x)
        for name in (kernel, REFERENCE)
    )
    np.testing.assert_array_equal(ours, reference)
    assert ours.min() >= -0.5 and ours.max() <= 2


@IN_C
@pytest.mark.parametrize("cycles", [0, 1, 7])
def test_any_number_of_cycles(kernel, cycles):
    weight, x = encoded(LAYERS[1], bits=2), images(LAYERS[1])
    form = Activations(form="binary", bits=3, cycles=cycles)
    ours, reference = (
        qsdk.conv(weight, activations=form, kernel=name, padding=1)(x)
        for name in (kernel, REFERENCE)
    )
    np.testing.assert_array_equal(ours, reference)


@IN_C
def test_a_kernel_as_large_as_the_image_is_linear(kernel):
    x = images(((65, 3, 4),), batch=4)
    floats = np.random.default_rng(5).standard_normal((20, 65, 3, 4)).astype(np.float32)
    weight, flat = map(
        qsdk.registry.get("greedy", bits=2).quantize, (floats, floats.reshape(20, -1))
    )
    y = qsdk.conv(weight, activations="binary2", kernel=kernel)(x)
    same = qsdk.linear(flat, activations="binary2")(x.reshape(4, -1))
    np.testing.assert_array_equal(y.reshape(4, 20), same)


@pytest.mark.parametrize("kernel", [c.kernel.name for c in FOUND if c.can_run])
@pytest.mark.parametrize("scale_map", [False, True])
def test_an_image_that_is_not_finite_is_nan_and_others_are_not(kernel, scale_map):
    layer = LAYERS[0]
    weight, x = encoded(layer), images(layer, batch=5)
    form = Activations(form="binary", bits=1, scale_map=scale_map)
    conv = qsdk.conv(weight, activations=form, padding=4, bias=np.ones(5), kernel=kernel)
    clean = conv(x)
    x[0, 1, 2, 3], x[2, 0, 0, 0], x[4, 2, 8, 9] = np.nan, np.inf, -np.inf
    y = conv(x)
    assert np.isnan(y).all(axis=(1, 2, 3)).tolist() == [True, False, True, False, True]
    np.testing.assert_array_equal(y[1::2], clean[1::2])
    assert (y[1, :, 0, 0] == 1).all()  # sees nothing but padding: the bias


@IN_C
@pytest.mark.parametrize("batch", [1, 3, 20])
def test_threads_and_batches_change_nothing(kernel, batch):
    layer = ((40, 30, 45), 70, (3, 3), {})
    weight, x = encoded(layer), images(layer, batch=batch)
    one, two = (
        qsdk.conv(weight, activations="binary2", padding=1, kernel=kernel, threads=n)
        for n in (1, 2)
    )
    y = one(x)
    np.testing.assert_array_equal(y, two(x))
    np.testing.assert_array_equal(y[-1:], one(x[-1:]))


@IN_C
def test_one_layer_takes_images_of_any_size_from_several_threads(kernel):
    weight = encoded(((3, 0, 0), 9, (3, 3), {}))
    conv = qsdk.conv(weight, activations="binary2", padding=1, kernel=kernel)
    reference = qsdk.conv(weight, activations="binary2", padding=1, kernel=REFERENCE)
    given = [images(((3, 4 + n, 9 - n),), seed=n) for n in range(6)] * 4
    with ThreadPoolExecutor(4) as pool:
        for x, y in zip(given, pool.map(conv, given), strict=True):
            np.testing.assert_array_equal(y, reference(x))


@IN_C
def test_empty_images_and_weights(kernel):
    def conv(shape, **words):
        weight = encoded(((shape[1], 0, 0), shape[0], shape[2:], {}))
        return qsdk.conv(weight, activations="binary2", kernel=kernel, **words)

    assert conv((4, 3, 3, 3))(np.zeros((0, 3, 5, 5))).shape == (0, 4, 3, 3)
    assert conv((4, 3, 3, 3))(np.zeros((2, 3, 2, 5))).shape == (2, 4, 0, 3)
    alone = conv((4, 3, 3, 3), padding=2, bias=np.arange(4))(np.zeros((1, 3, 0, 0)))
    assert alone.shape == (1, 4, 2, 2) and (alone == np.arange(4).reshape(4, 1, 1)).all()
    nothing = conv((4, 0, 1, 1), bias=np.arange(4))(np.zeros((1, 0, 2, 2)))
    assert (nothing == np.arange(4).reshape(4, 1, 1)).all()


@pytest.mark.parametrize("kernel", [c.kernel for c in FOUND], ids=lambda kernel: kernel.name)
def test_what_no_kernel_takes_is_refused_with_the_reason(kernel):
    layer = ((64, 5, 5), 4, (3, 3), {})

    def reason(weight, form="binary"):
        words = {"stride": (1, 1), "dilation": (1, 1), "padding": (1,) * 4}
        return kernel.refusal(qsdk.Conv(weight=weight, activations=Activations(form=form), **words))

    assert reason(encoded(layer)) == reason(encoded(layer, group_size=576)) == ""
    assert "per channel or per tensor, not per group of 64" in reason(encoded(layer, group_size=64))
    assert "4 planes at most, not 5" in reason(encoded(layer, bits=5))
    assert "axis 0, not 1" in reason(encoded(layer, axis=1))
    assert "takes binary activations, not int8" in reason(encoded(layer), form="int8")


def test_groups_of_alphas_are_refused_by_all_and_dispatch_says_so():
    weight = encoded(((64, 5, 5), 4, (3, 3), {}), group_size=64)
    with pytest.raises(KernelError, match="conv-binary-reference: takes alphas per channel"):
        qsdk.conv(weight, activations="binary2")


def test_a_scale_map_belongs_to_one_plane_and_to_conv():
    with pytest.raises(OptionError, match="a scale_map with binary2 activations"):
        Activations(form="binary", bits=2, scale_map=True)
    with pytest.raises(OptionError, match="a scale_map with int8 activations"):
        Activations(form="int8", bits=1, scale_map=True)
    weight = qsdk.registry.get("greedy", bits=1).quantize(np.ones((2, 3), np.float32))
    with pytest.raises(OptionError, match="linear has no places"):
        qsdk.linear(weight, activations=Activations(form="binary", bits=1, scale_map=True))


def test_dispatch_takes_the_best_kernel_of_this_cpu():
    best = next(c.kernel.name for c in FOUND if c.can_run)
    conv = qsdk.conv(encoded(LAYERS[0]), activations="binary2", padding=1)
    assert conv.kernel.name == best
