"""The grids that alternating quantization is compared with (card 3.9)."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import qsdk

RNG = np.random.default_rng(0)
GAUSS = RNG.standard_normal((20, 1024)).astype(np.float32)


def decoded(weight, bits, method="uniform_multibit", **options):
    quantizer = qsdk.registry.get(method, bits=bits, **options)
    return quantizer.quantize(np.float32(weight)).dequantize()


def levels(values):
    """Of each row, which of its own values it is, from the lowest up."""
    return [np.unique(row, return_inverse=True)[1] for row in values]


def test_seven_weights_worked_by_hand():
    # max |w| = 6, so D = 2 and the levels are -6, -2, 2, 6; 4 is a tie and goes to the even level 2
    encoding = qsdk.registry.get("uniform_multibit", bits=2).quantize(
        np.float32([[6, 4.1, 4, 3.9, 0.1, -0.1, -5]])
    )
    assert encoding.alpha.tolist() == [[4], [2]]
    assert encoding.dequantize().tolist() == [[6, 6, 2, 2, 2, -2, -6]]


@given(st.integers(1, 8), st.integers(0, 2**32 - 1))
def test_it_is_the_formula_of_the_card(bits, seed):
    weight = np.random.default_rng(seed).standard_normal((3, 50)).astype(np.float32)
    largest = np.abs(weight).max(axis=1, keepdims=True).astype(float)
    steps = 2**bits - 1
    expected = 2 * (np.rint(steps * (weight / largest + 1) / 2) / steps - 0.5) * largest
    np.testing.assert_allclose(decoded(weight, bits), expected, rtol=1e-6)


@pytest.mark.parametrize("bits", [1, 2, 3, 4, 8])
def test_alphas_are_powers_of_two_times_the_step(bits):
    encoding = qsdk.registry.get("uniform_multibit", bits=bits).quantize(GAUSS)
    step = np.float32(np.abs(GAUSS).max(axis=1).astype(float) / (2**bits - 1))
    powers = 2.0 ** np.arange(bits)[::-1, None]
    np.testing.assert_array_equal(encoding.alpha, np.float32(powers * step))


@pytest.mark.parametrize("bits", [1, 2, 3, 4])
def test_no_value_is_off_by_more_than_the_step(bits):
    step = np.abs(GAUSS).max(axis=1, keepdims=True) / (2**bits - 1)
    assert (np.abs(decoded(GAUSS, bits) - GAUSS) <= step * (1 + 1e-5)).all()


@pytest.mark.parametrize("bits", [2, 3, 4])
def test_on_a_uniform_distribution_its_step_is_a_little_wider_than_the_best(bits):
    weight = np.random.default_rng(1).uniform(-1, 1, (20, 4096)).astype(np.float32)
    uniform, greedy = (
        np.square(decoded(weight, bits, method) - weight).sum()
        for method in ("uniform_multibit", "greedy")
    )
    # 2^k - 1 steps reach from end to end; the best are 2^k, of which half a one is left at each end
    assert uniform / greedy == pytest.approx((2**bits / (2**bits - 1)) ** 2, rel=0.02)


@pytest.mark.parametrize("scale", ["fitted", "largest"])
@pytest.mark.parametrize("bits", [1, 2, 3, 4])
def test_balanced_fills_every_level_alike(bits, scale):
    for row in levels(decoded(GAUSS, bits, "balanced", scale=scale)):
        assert np.bincount(row).tolist() == [1024 // 2**bits] * 2**bits


@pytest.mark.parametrize("bits", [2, 3])
def test_balanced_keeps_the_order_of_the_values(bits):
    for row, values in zip(GAUSS, decoded(GAUSS, bits, "balanced"), strict=True):
        assert (np.diff(values[np.argsort(row)]) >= 0).all()


def test_balanced_on_the_grid_of_uniform():
    weight = GAUSS[:3]
    on_grid = decoded(weight, 3)
    by_rank = decoded(weight, 3, "balanced", scale="largest")
    for nearest, balanced in zip(on_grid, by_rank, strict=True):
        assert set(np.unique(nearest)) <= set(np.unique(balanced))  # which has every level


def test_balanced_is_uniform_where_the_values_are_equally_spaced():
    ramp = np.arange(-31, 32, 2, dtype=np.float32)[None]  # 32 values; bins of 8 end where steps do
    np.testing.assert_array_equal(
        levels(decoded(ramp, 2, "balanced"))[0], np.repeat(np.arange(4), 8)
    )
    grid = np.float32([[-3, -1, 1, 3]])
    assert decoded(grid, 2, "balanced").tolist() == decoded(grid, 2).tolist() == grid.tolist()


@pytest.mark.parametrize("bits", [1, 2, 4])
def test_balanced_gives_equal_values_one_level(bits):
    weight = np.float32([[5, -1, -1, -1, -1, -1, -1, 2]])
    values = decoded(weight, bits, "balanced")[0]
    assert len(set(values[1:7].tolist())) == 1
    assert decoded(np.full((1, 7), -3), bits, "balanced").tolist() == [[-3] * 7]


def test_the_fitted_step_has_the_least_error():
    fitted = decoded(GAUSS, 3, "balanced")
    for factor in (0.99, 1.01):
        off = np.square(factor * fitted - GAUSS).sum(axis=1)
        assert (np.square(fitted - GAUSS).sum(axis=1) < off).all()
    far = np.square(decoded(GAUSS, 3, "balanced", scale="largest") - GAUSS).sum(axis=1)
    assert (far > np.square(GAUSS).sum(axis=1)).all()  # worse than no weights at all
