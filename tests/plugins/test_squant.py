"""SQuant against its promises, brute force, and itself in another language."""

from __future__ import annotations

import math

import numpy as np
import oracles
import pytest
from hypothesis import given
from hypothesis import strategies as st

from qsdk import Slices, registry
from qsdk.errors import OptionError

NOISE = 2.0**-18  # sums of errors that were each rounded to 2**-20 step
MAXABS = {"symmetric": True, "range_rule": "absmax"}  # no weight lies outside the grid


def squant(weight, **options):
    return registry.get("squant", **options).quantize(weight)


def steps_and_errors(weight, encoding):
    """``x`` in steps of the grid (not clipped) and ``e = q - x``, in double precision."""
    slices = Slices(encoding.scheme, weight.shape)
    scale, zero = (slices.expand(p) for p in (encoding.scale, encoding.zero_point))
    x = (weight / scale).astype(np.float64) + zero
    return x, encoding.codes - x


def normal(shape, seed=0):
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


SHAPES = [(8, 6, *kernel) for kernel in ((), (3,), (3, 3), (5, 5))]
on_shapes = pytest.mark.parametrize("shape", SHAPES, ids=str)
on_bits = pytest.mark.parametrize("bits", [2, 3, 4, 8])


def kernels_and_channels(error):
    kernels = error.reshape(error.shape[0], error.shape[1], -1)
    return np.abs(kernels.sum(axis=2)), np.abs(kernels.sum(axis=(1, 2)))


@on_shapes
@on_bits
def test_after_all_stages_the_bounds_of_the_paper_hold(either, shape, bits):
    for seed in range(5):
        weight = normal(shape, seed)
        _, error = steps_and_errors(weight, squant(weight, bits=bits, **MAXABS))
        kernels, channels = kernels_and_channels(error)
        assert np.abs(error).max() < 1
        assert channels.max() <= 0.5 + NOISE
        if len(shape) > 2:
            assert kernels.max() <= 1 + NOISE


@on_shapes
@on_bits
def test_after_stage_k_every_kernel_is_within_half_a_step(either, shape, bits):
    weight = normal(shape, bits)
    _, error = steps_and_errors(weight, squant(weight, bits=bits, stages="EK", **MAXABS))
    kernels, _ = kernels_and_channels(error)
    assert kernels.max() <= 0.5 + NOISE


@on_shapes
@on_bits
def test_after_stage_c_alone_every_channel_is_within_half_a_step(shape, bits):
    weight = normal(shape, bits)
    _, error = steps_and_errors(weight, squant(weight, bits=bits, stages="EC", **MAXABS))
    assert kernels_and_channels(error)[1].max() <= 0.5 + NOISE


@on_shapes
@on_bits
@pytest.mark.parametrize("words", [{}, MAXABS, {"signed": False}, {"group_size": 18}], ids=str)
def test_codes_move_only_to_the_other_neighbour(shape, bits, words):
    weight = normal(shape, 3)
    encoding = squant(weight, bits=bits, **words)
    x, _ = steps_and_errors(weight, encoding)
    inside = (x >= encoding.scheme.qmin) & (x <= encoding.scheme.qmax)
    codes = encoding.codes
    assert ((codes >= np.floor(x)) & (codes <= np.ceil(x)))[inside].all()
    rounded = registry.get("rtn", bits=bits, **words).quantize(weight).codes
    assert np.abs(codes.astype(int) - rounded).max() <= 1


@on_shapes
@pytest.mark.parametrize("bits", [2, 3, 4])
def test_with_a_minmax_grid_only_the_clipped_part_adds_to_a_kernel(shape, bits):
    for seed in range(5):
        weight = normal(shape, seed)
        encoding = squant(weight, bits=bits, stages="EK")
        x, error = steps_and_errors(weight, encoding)
        outside = (x < encoding.scheme.qmin) | (x > encoding.scheme.qmax)
        assert np.abs(error[outside]).max(initial=0) <= 0.5 + NOISE
        excluded = np.where(outside, np.abs(error), 0).reshape(*shape[:2], -1).sum(axis=2)
        kernels, _ = kernels_and_channels(error)
        assert (kernels <= 0.5 + excluded + NOISE).all()


def test_the_sum_that_clipped_weights_lose_is_made_up_by_the_others():
    weight = normal((4, 300))
    weight[:, 0] = 6  # percentile cuts it off
    options = {"bits": 6, "range_rule": "percentile", "keep_percent": 99.0}
    encoding = squant(weight, **options)
    x, error = steps_and_errors(weight, encoding)
    assert (x[:, 0] > encoding.scheme.qmax + 2).all()
    assert np.abs(error.sum(axis=1)).max() <= 0.5 + NOISE


@pytest.mark.parametrize("bits", [2, 4])
@pytest.mark.parametrize("size", range(2, 9))
def test_stage_k_equals_brute_force_over_all_neighbours(either, size, bits):
    weight = normal((30, 1, size), size)
    encoding = squant(weight, bits=bits, stages="EK", **MAXABS)
    x, error = steps_and_errors(weight, encoding)
    for kernel, e in zip(x[:, 0], error[:, 0], strict=True):
        least, squares = oracles.best_kernel(kernel.tolist())
        assert abs(e.sum()) == pytest.approx(least, abs=NOISE)
        assert np.square(e).sum() == pytest.approx(squares, abs=1e-4)


@pytest.mark.parametrize("seed", range(3))
def test_the_objective_goes_as_published(seed):
    weight = normal((64, 64, 9), seed)

    def sums(error):
        kernels = error.sum(axis=2)
        return [np.square(s).sum() for s in (error, kernels, kernels.sum(axis=1))]

    rounded, full = (squant(weight, bits=4, stages=stages) for stages in ("E", "EKC"))
    before, after = (sums(steps_and_errors(weight, q)[1]) for q in (rounded, full))
    assert 2900 < before[0] < 3300 and 2800 < before[1] < 3350 and before[2] > 1500
    assert after[0] < 3500 and after[1] < 450 and after[2] <= 64 * 0.25
    assert 0.05 < (rounded.codes != full.codes).mean() < 0.09


@on_bits
def test_the_quadratic_form_of_the_paper_is_lower_than_for_rounding(bits):
    weight = normal((16, 32, 9), bits)
    errors = [
        steps_and_errors(weight, squant(weight, bits=bits, stages=s, **MAXABS))[1]
        for s in ("E", "EKC")
    ]
    for a, b, c in [(1, 1, 1), (1, 0.5, 0.25), (0.5, 1, 1), (1, 2, 0.5)]:
        rounded, moved = (
            a * np.square(e).sum()
            + b * np.square(e.sum(axis=2)).sum()
            + c * np.square(e.sum(axis=(1, 2))).sum()
            for e in errors
        )
        assert moved < rounded


@on_bits
@pytest.mark.parametrize("kernel", [(3,), (3, 3), (5, 5)], ids=str)
def test_for_depthwise_layers_stage_c_changes_nothing(bits, kernel):
    weight = normal((32, 1, *kernel), bits)
    codes = {s: squant(weight, bits=bits, stages=s, **MAXABS).codes for s in ("EK", "EKC", "E")}
    assert np.array_equal(codes["EK"], codes["EKC"])
    assert not np.array_equal(codes["EK"], codes["E"])


@on_bits
@pytest.mark.parametrize("shape", [(16, 40), (16, 40, 1, 1)], ids=str)
def test_kernels_of_one_skip_stage_k_and_the_row_ends_within_half_a_step(bits, shape):
    weight = normal(shape, bits)
    codes = {s: squant(weight, bits=bits, stages=s, **MAXABS) for s in ("E", "EK", "EC", "EKC")}
    assert np.array_equal(codes["E"].codes, codes["EK"].codes)
    assert np.array_equal(codes["EC"].codes, codes["EKC"].codes)
    _, error = steps_and_errors(weight, codes["EKC"])
    assert np.abs(error.reshape(16, -1).sum(axis=1)).max() <= 0.5 + NOISE


@pytest.mark.parametrize("stages", ["E", "EK", "EC", "EKC"])
def test_weights_on_the_grid_are_returned_unchanged(either, stages):
    weight = np.random.default_rng(0).integers(-8, 8, (6, 5, 3, 3)).astype(np.float32)
    weight[:, 0, 0, :2] = -8, 7  # so that every channel's scale is 1
    encoding = squant(weight, bits=4, stages=stages)
    assert (encoding.scale == 1).all()
    assert np.array_equal(encoding.dequantize(), weight)


def test_kernels_of_zeros_are_untouched(either):
    weight = normal((8, 6, 3, 3))
    weight[:, ::2] = 0
    decoded = squant(weight, bits=3).dequantize()
    assert not decoded[:, ::2].any() and decoded[:, 1::2].any()


@given(order=st.permutations(range(6)))
def test_permuting_the_kernels_of_a_channel_permutes_the_result(order):
    weight = normal((4, 6, 3, 3))
    there, here = squant(weight[:, list(order)]), squant(weight)
    assert np.array_equal(there.codes, here.codes[:, list(order)])


@pytest.mark.parametrize("words", [{}, {"granularity": "per_tensor"}, {"group_size": 9}], ids=str)
def test_stage_e_alone_is_round_to_nearest(either, words):
    for bits in range(1, 9):
        weight = normal((5, 4, 3, 3), bits)
        ours = squant(weight, bits=bits, stages="E", **words)
        nearest = registry.get("rtn", bits=bits, **words).quantize(weight)
        assert np.array_equal(ours.codes, nearest.codes)
        assert np.array_equal(ours.scale, nearest.scale)


def test_one_kernel_worked_by_hand(either):
    # Errors -0.25, -0.375, -0.125: their sum, -0.75, rounds to one flip, of the largest.
    weight = np.float32([[[1.25, 2.375, 3.125, 7, -8]]])
    assert squant(weight, bits=4, stages="EK").codes.tolist() == [[[1, 3, 3, 7, -8]]]


def test_of_equal_errors_the_first_moves(either):
    weight = np.float32([[1.25] * 6 + [7, -8]])  # the sum is -1.5, which rounds to 2
    assert squant(weight, bits=4).codes.tolist() == [[2, 2, 1, 1, 1, 1, 7, -8]]


def test_an_error_of_exactly_half_a_step_is_left(either):
    weight = np.float32([[1.5, 7, -8]])
    assert squant(weight, bits=4).codes.tolist() == [[2, 7, -8]]
    weight = np.float32([[1.5, 2.5, 7, -8]])  # +0.5 and -0.5 cancel
    assert squant(weight, bits=4).codes.tolist() == [[2, 2, 7, -8]]


def random_case(rng):
    """A layer of any kind, with options; weights often on a quarter grid, so that ties abound."""
    kernel = [(), (1, 1), (3,), (3, 3), (5, 5), (7, 7)][rng.integers(6)]
    inputs = 1 if kernel and rng.random() < 0.2 else int(rng.integers(1, 9))
    shape = (int(rng.integers(1, 5)), inputs, *kernel)
    bits = int(rng.integers(2, 9))
    options = {
        "bits": bits,
        "range_rule": ["minmax", "absmax", "mse", "percentile"][rng.integers(4)],
        "stages": ["E", "EK", "EC", "EKC"][rng.integers(4)],
        "keep_percent": [99.9, 90.0, 60.0][rng.integers(3)],
        **[{}, {"symmetric": True}, {"signed": False}, {"narrow_range": True}][rng.integers(4)],
    }
    match rng.integers(4):
        case 0:
            options["granularity"] = "per_tensor"
        case 1:
            size = max(math.prod(shape[2:]), 1)
            options["group_size"] = int(rng.integers(1, 4)) * [size, 1, 4][rng.integers(3)]
        case 2:
            options["axis"] = int(rng.integers(0, len(shape)))
    weight = rng.standard_normal(shape) * 10.0 ** rng.integers(-3, 4)
    if rng.random() < 0.6:
        weight = np.rint(weight * 4) / 4
        ends = 2 ** (bits - 1)
        weight.reshape(-1)[:2] = [-ends, ends - 1][: weight.size]  # the scale is 1
    if rng.random() < 0.2:
        weight[..., rng.random(weight.shape[-1]) < 0.5] = 0
    return weight.astype(np.float32), options


@pytest.mark.parametrize("part", range(10))
def test_numpy_and_c_agree_on_a_thousand_layers(native, monkeypatch, part):
    rng = np.random.default_rng(part)
    moved = 0
    for _ in range(100):
        weight, options = random_case(rng)
        in_c = squant(weight, **options)
        with monkeypatch.context() as patch:
            patch.setenv("QSDK_DISABLE_NATIVE", "1")
            in_numpy = squant(weight, **options)
        assert np.array_equal(in_c.codes, in_numpy.codes), (weight.shape, options)
        assert np.array_equal(in_c.scale, in_numpy.scale), (weight.shape, options)
        assert np.array_equal(in_c.zero_point, in_numpy.zero_point), (weight.shape, options)
        moved += not np.array_equal(in_c.codes, squant(weight, **{**options, "stages": "E"}).codes)
    assert moved > 30, "the data cannot tell"


def test_codes_equal_the_words_of_the_card(either):
    rng = np.random.default_rng(99)
    for _ in range(60):
        weight, options = random_case(rng)
        encoding = squant(weight, **options)
        scheme = encoding.scheme
        slices = Slices(scheme, weight.shape)
        expected = []
        scales, zeros = (
            slices.split(np.ascontiguousarray(np.broadcast_to(slices.expand(p), weight.shape)))
            for p in (encoding.scale, encoding.zero_point)
        )
        for rows, scale, zero in zip(slices.split(weight), scales, zeros, strict=True):
            codes = [
                oracles.squant_row(
                    row, slices.kernel_size, scale[i, 0], int(zero[i, 0]),
                    scheme.qmin, scheme.qmax, options["stages"],
                )
                for i, row in enumerate(rows)
            ]  # fmt: skip
            expected.append(np.array(codes))
        assert np.array_equal(slices.join(expected), encoding.codes), (weight.shape, options)


def test_weights_far_outside_the_grid_do_no_harm(either):
    weight = normal((2, 500))
    weight[0, :3] = 3e38, -3e38, 1e30
    encoding = squant(weight, bits=4, range_rule="percentile", keep_percent=95.0)
    assert encoding.codes[0, :3].tolist() == [7, -8, 7]


def test_unknown_stages_are_refused_with_the_known():
    with pytest.raises(OptionError, match=r"'stages' must be in .*'EKC'.* \(got 'CK'\)"):
        registry.get("squant", stages="CK")


def test_four_bits_are_the_default():
    assert registry.get("squant").scheme.bits == 4


def test_per_tensor_sums_run_over_the_channels_of_the_axis():
    """A transposed weight with its axis moved along gives the transposed codes."""
    weight = np.random.default_rng(3).standard_normal((12, 20)).astype(np.float32)
    words = {"bits": 4, "granularity": "per_tensor"}
    codes = registry.get("squant", **words).quantize(weight).codes
    turned = registry.get("squant", axis=1, **words).quantize(weight.T).codes
    np.testing.assert_array_equal(turned, codes.T)
