"""gptq, adaround and easyquant: their papers' invariants, and slow forms of the same steps."""

from __future__ import annotations

import itertools

import attrs
import numpy as np
import pytest

import qsdk
from qsdk import Layer, registry
from qsdk.errors import DataError, SchemeError
from qsdk_plugins.layerwise.gptq import factor
from qsdk_plugins.layerwise.problem import Problem, nearest

rng = np.random.default_rng(0)
NAMES = ("gptq", "adaround", "easyquant")


def normal(*shape, seed=0):
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


def correlated(samples, length, seed=0):
    """Inputs as behind a ReLU: correlated, none below zero."""
    own = np.random.default_rng(seed)
    mixed = own.standard_normal((samples, length)) @ own.standard_normal((length, length))
    return np.maximum(mixed + own.standard_normal(length), 0)


WEIGHT, X = normal(6, 12), correlated(300, 12)
LAYER = Layer.of_inputs(WEIGHT, X)


def quantized(name, weight=WEIGHT, layer=LAYER, **options):
    return registry.get(name, **options).quantize(weight, layer=layer)


def output_error(encoding, weight=WEIGHT, x=X):
    return float(np.square(x @ (encoding.dequantize() - weight).astype(float).T).sum())


# -- Layers of inputs


def test_the_hessian_is_the_second_moment_of_each_groups_inputs():
    x = rng.standard_normal((7, 3, 8))
    layer = Layer.of_inputs(normal(4, 2, 2), x, groups=2)
    rows = x.reshape(21, 2, 4)
    for group in range(2):
        expected = rows[:, group].T @ rows[:, group] / 21
        assert np.allclose(layer.hessian()[group], expected, rtol=1e-12)
    assert layer.shape == (4, 2, 2)


def test_inputs_that_do_not_fit_are_refused():
    with pytest.raises(DataError, match="the last axis must be 12"):
        Layer.of_inputs(WEIGHT, np.zeros((5, 11)))


@pytest.mark.parametrize("name", NAMES)
def test_a_layer_without_inputs_is_refused(name):
    with pytest.raises(DataError, match=f"{name} needs hessian of the layer"):
        registry.get(name).quantize(WEIGHT)
    with pytest.raises(DataError, match="of_inputs"):
        registry.get(name).quantize(WEIGHT, layer=attrs.evolve(LAYER, hessian=None))


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("wrong", [np.eye(12), np.zeros((1, 11, 11)), np.zeros((4, 12, 12))])
def test_a_hessian_of_another_shape_is_refused(name, wrong):
    with pytest.raises(DataError, match="the hessian is "):
        quantized(name, layer=attrs.evolve(LAYER, hessian=lambda: wrong))


@pytest.mark.parametrize("name", NAMES)
def test_a_hessian_with_nan_is_refused(name):
    wrong = np.full((1, 12, 12), np.nan)
    with pytest.raises(DataError, match="NaN or infinity"):
        quantized(name, layer=attrs.evolve(LAYER, hessian=lambda: wrong))


@pytest.mark.parametrize("name", NAMES)
def test_channels_on_another_axis_are_refused(name):
    with pytest.raises(SchemeError, match="output channels on axis 0, not 1"):
        quantized(name, axis=1)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("words", [{"granularity": "per_channel"}, {"group_size": 4}])
def test_convolution_groups_are_quantized_as_layers_of_their_own(name, words):
    weight, x = normal(6, 2, 2), correlated(200, 12, seed=3)
    whole = quantized(name, weight, Layer.of_inputs(weight, x, groups=3), **words)
    for group in range(3):
        rows, columns = slice(2 * group, 2 * group + 2), slice(4 * group, 4 * group + 4)
        part = Layer.of_inputs(weight[rows], x[:, columns])
        alone = quantized(name, weight[rows], part, **words)
        assert np.array_equal(whole.codes[rows], alone.codes)
        assert np.array_equal(whole.scale[rows], alone.scale)


@pytest.mark.parametrize("bits", [3, 4])
def test_the_outputs_are_closer_than_by_rounding_to_nearest(bits):
    weight, x = normal(16, 40, seed=5), correlated(500, 40, seed=5)
    layer = Layer.of_inputs(weight, x)
    by_rounding = output_error(registry.get("rtn", bits=bits).quantize(weight), weight, x)
    for name, share in (("gptq", 0.5), ("adaround", 0.6)):
        found = output_error(quantized(name, weight, layer, bits=bits), weight, x)
        assert found < share * by_rounding, name


# -- gptq


@pytest.mark.parametrize("order", ["natural", "activation"])
@pytest.mark.parametrize("words", [{}, {"symmetric": True}, {"group_size": 5},
                                   {"granularity": "per_tensor"}])  # fmt: skip
def test_gptq_with_uncorrelated_inputs_is_rounding_to_nearest(order, words):
    layer = attrs.evolve(LAYER, hessian=lambda: np.diag(np.arange(12.0))[None])
    found = quantized("gptq", layer=layer, order=order, **words)
    expected = registry.get("rtn", bits=4, **words).quantize(WEIGHT)
    assert np.array_equal(found.codes, expected.codes)
    assert np.array_equal(found.scale, expected.scale)


@pytest.mark.parametrize("order", ["natural", "activation"])
def test_the_block_size_changes_nothing(order):
    found = [quantized("gptq", order=order, block=block).codes for block in (1, 5, 12, 128)]
    assert all(np.array_equal(codes, found[0]) for codes in found)


def by_inverting_again(weight, hessian, scale, zero_point, scheme):
    """Optimal brain quantization, column by column: each step inverts what is left of H."""
    left, codes = weight.astype(float), np.zeros(weight.shape)
    for j in range(weight.shape[1]):
        codes[:, j] = nearest(left[:, j], scale, zero_point, scheme)
        inverse = np.linalg.inv(hessian[j:, j:])
        error = (left[:, j] - scale * (codes[:, j] - zero_point)) / inverse[0, 0]
        left[:, j:] -= np.outer(error, inverse[0])
    return codes


@pytest.mark.parametrize("bits", [2, 4])
def test_gptq_equals_the_solver_that_inverts_again_after_each_column(bits):
    found = quantized("gptq", bits=bits, order="natural")
    hessian = LAYER.hessian()[0]
    hessian = hessian + 0.01 * np.diag(hessian).mean() * np.eye(12)
    scale, zero_point = found.scale.astype(float), found.zero_point.astype(float)
    expected = by_inverting_again(WEIGHT, hessian, scale, zero_point, found.scheme)
    assert np.array_equal(found.codes, expected)


def test_the_order_by_activations_is_a_permutation_of_the_columns():
    order = np.argsort(-np.diag(LAYER.hessian()[0]), kind="stable")
    turned = Layer.of_inputs(WEIGHT[:, order], X[:, order])
    expected = quantized("gptq", WEIGHT[:, order], turned, order="natural").codes
    assert np.array_equal(quantized("gptq", order="activation").codes[:, order], expected)


def test_inputs_that_are_always_zero_are_rounded_to_nearest():
    x = X.copy()
    x[:, [2, 7]] = 0
    found = quantized("gptq", layer=Layer.of_inputs(WEIGHT, x))
    expected = registry.get("rtn", bits=4).quantize(WEIGHT)
    assert np.array_equal(found.codes[:, [2, 7]], expected.codes[:, [2, 7]])
    assert not np.array_equal(found.codes, expected.codes)


def test_fewer_samples_than_inputs_get_along_with_the_damping():
    layer = Layer.of_inputs(WEIGHT, X[:2])
    assert np.isfinite(quantized("gptq", layer=layer, damping=1e-12).dequantize()).all()


def test_a_matrix_that_is_no_second_moment_is_refused():
    with pytest.raises(DataError, match="negative eigenvalues"):
        factor(np.array([[[1.0, 1e30], [1e30, 1.0]]]), 0.01)


# -- adaround


def problem_of(encoding, weight, hessian):
    slices = qsdk.Slices(encoding.scheme, weight.shape)
    zero_point = encoding.zero_point.astype(np.int32)
    return Problem.of(weight, hessian, encoding.scale, zero_point, slices)


@pytest.mark.parametrize("words", [{}, {"group_size": 5}, {"granularity": "per_tensor"},
                                   {"range_rule": "aciq"}])  # fmt: skip
def test_adaround_gives_floor_or_ceiling_and_no_row_worse_than_nearest(words):
    found = quantized("adaround", bits=3, **words)
    problem = problem_of(found, WEIGHT, LAYER.hessian())
    steps = problem.weight / problem.spread(found.scale) + problem.spread(found.zero_point)
    low, high = (np.clip(f(steps), found.scheme.qmin, found.scheme.qmax)[0]
                 for f in (np.floor, np.ceil))  # fmt: skip
    assert ((found.codes == low) | (found.codes == high)).all()
    codes = found.codes[None].astype(float)
    assert (problem.loss(codes) <= problem.loss(problem.nearest()) * (1 + 1e-12)).all()


def test_adaround_is_close_to_the_best_of_all_roundings():
    weight, x = normal(8, 9, seed=7), correlated(100, 9, seed=7)
    found = quantized("adaround", weight, Layer.of_inputs(weight, x), bits=3)
    problem = problem_of(found, weight, Layer.of_inputs(weight, x).hessian())
    steps = problem.weight / problem.spread(found.scale) + problem.spread(found.zero_point)
    choices = np.array(list(itertools.product((0, 1), repeat=9)))
    every = np.clip(np.floor(steps)[0][:, None] + choices, found.scheme.qmin, found.scheme.qmax)
    losses = np.stack([problem.loss(every[None, :, i])[0] for i in range(len(choices))])
    best, rounded = losses.min(axis=0).sum(), problem.loss(problem.nearest()).sum()
    ours = problem.loss(found.codes[None].astype(float)).sum()
    assert best <= ours < best + 0.25 * (rounded - best)


# -- easyquant


def cosines(encoding, weight=WEIGHT, x=X):
    y, z = x @ weight.T.astype(float), x @ encoding.dequantize().T.astype(float)
    return (y * z).sum(axis=0) / np.sqrt((y * y).sum(axis=0) * (z * z).sum(axis=0))


@pytest.mark.parametrize("bits", [3, 4, 8])
def test_easyquant_finds_the_best_cosine_of_its_factors(bits):
    found = quantized("easyquant", bits=bits)
    start = quantized("easyquant", bits=bits, lowest=1, highest=1)
    tried = [cosines(start)]
    for factor_ in np.linspace(0.5, 2, 31):
        scale = start.scale * np.float32(factor_)
        codes = np.clip(np.rint(WEIGHT / scale[:, None]), start.scheme.qmin, start.scheme.qmax)
        tried.append(cosines(qsdk.Affine.from_codes(
            codes.astype(np.int8), scale, start.zero_point, start.scheme)))  # fmt: skip
    assert np.allclose(cosines(found), np.max(tried, axis=0), atol=2e-9)
    assert (cosines(found) >= cosines(start) - 2e-9).all()


def test_factors_of_one_return_the_start():
    start = quantized("easyquant", lowest=1, highest=1)
    words = {"bits": 8, "symmetric": True, "narrow_range": True}
    assert np.array_equal(start.codes, registry.get("rtn", **words).quantize(WEIGHT).codes)


def test_a_weight_times_a_power_of_two_keeps_its_codes():
    other = Layer.of_inputs(4 * WEIGHT, X)
    one, four = quantized("easyquant", bits=4), quantized("easyquant", 4 * WEIGHT, other, bits=4)
    assert np.array_equal(one.codes, four.codes) and np.array_equal(4 * one.scale, four.scale)


@pytest.mark.parametrize("group_size", [4, 5])
def test_each_group_is_searched_by_its_own_columns(group_size):
    found = quantized("easyquant", bits=3, group_size=group_size)
    for start in range(0, 12, group_size):
        columns = slice(start, start + group_size)
        part = Layer.of_inputs(WEIGHT[:, columns], X[:, columns])
        alone = quantized("easyquant", WEIGHT[:, columns], part, bits=3)
        assert np.array_equal(found.codes[:, columns], alone.codes)
