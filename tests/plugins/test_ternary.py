"""Ternary weights: the threshold rules, and their repetition on what is left (card 3.7)."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import qsdk
from qsdk.errors import OptionError, SchemeError
from qsdk_plugins.binary.ternary_coded import Ternary


def coded(weight, bits=2, **options):
    method = "ternary" if bits == 2 else "ternary_residual"
    return qsdk.registry.get(method, bits=bits, **options).quantize(np.float32(weight))


def errors(weight, encoding):
    return np.square(encoding.dequantize() - weight, dtype=np.float64).sum(axis=-1)


def draws(distribution):
    rng, size = np.random.default_rng(2), (60, 4096)
    drawn = {
        "Gaussian": lambda: rng.standard_normal(size),
        "uniform": lambda: rng.uniform(-1, 1, size),
        "Laplace": lambda: rng.laplace(size=size),
    }[distribution]()
    return drawn.astype(np.float32)


def test_the_name_alone_is_the_quantizer_and_the_encoding_has_its_kind_before_it():
    assert qsdk.registry.get("ternary", rule="exact").rule == "exact"
    assert qsdk.registry.get("encoding:ternary") is Ternary
    with pytest.raises(OptionError, match="twm"):
        qsdk.registry.get("ternary", rule="twm")


def test_four_weights_worked_by_hand():
    # mean |w| = 2, threshold 1.4; the mean of 4 and 3 is 3.5
    encoding = coded([[4, -3, 1, 0]])
    assert encoding.alpha.tolist() == [[3.5]]
    assert encoding.dequantize().tolist() == [[3.5, -3.5, 0, 0]]
    assert (encoding.sign.tolist(), encoding.mask.tolist()) == ([[[0b01]]], [[[0b11]]])


def test_the_exact_threshold_worked_by_hand():
    # 9 / 1, 25 / 2, 36 / 3: the two largest
    assert coded([[3, -2, 1, 0]], rule="exact").dequantize().tolist() == [[2.5, -2.5, 0, 0]]
    # 36 / 1, 64 / 2, 81 / 3: the largest alone, where 0.7 mean |w| = 1.75 keeps two
    assert coded([[6, -2, 1, -1]], rule="exact").dequantize().tolist() == [[6, 0, 0, 0]]
    assert coded([[6, -2, 1, -1]]).dequantize().tolist() == [[4, -4, 0, 0]]


@given(st.lists(st.integers(-9, 9), min_size=1, max_size=7))
def test_the_exact_threshold_is_the_best_of_all_ternary_codes(row):
    weight = np.float32([row])
    least = np.square(weight).sum()  # all codes 0
    for codes in itertools.product([-1, 0, 1], repeat=len(row)):
        t = np.array(codes)
        if t.any():
            alpha = np.dot(t, row) / np.dot(t, t)
            least = min(least, np.square(alpha * t - row).sum())
    assert errors(weight, coded(weight, rule="exact"))[0] == pytest.approx(least, abs=1e-4)


@pytest.mark.parametrize(
    ("distribution", "rule", "expected"),
    [
        ("Gaussian", "twn", 0.1919),
        ("Gaussian", "exact", 0.1904),
        ("uniform", "twn", 0.1117),
        ("uniform", "exact", 0.1112),
        ("Laplace", "twn", 0.2827),
        ("Laplace", "exact", 0.2645),
    ],
)
def test_error_on_random_rows(distribution, rule, expected):
    weight = draws(distribution)
    error = errors(weight, coded(weight, rule=rule)).sum() / np.square(weight).sum()
    assert error == pytest.approx(expected, rel=0.005)


@pytest.mark.parametrize(
    ("distribution", "factor"), [("uniform", 0.667), ("Gaussian", 0.768), ("Laplace", 1.0)]
)
def test_the_exact_threshold_of_a_distribution_is_a_known_part_of_the_mean(distribution, factor):
    size = np.abs(draws(distribution)).reshape(1, -1)
    kept = coded(size, rule="exact").dequantize() > 0
    between = (size[~kept].max() + size[kept].min()) / 2
    assert between / size.mean() == pytest.approx(factor, rel=0.02)


def test_the_exact_threshold_is_never_worse_than_the_rule():
    for weight in map(draws, ("Gaussian", "uniform", "Laplace")):
        assert (
            errors(weight, coded(weight, rule="exact"))
            <= errors(weight, coded(weight)) * (1 + 1e-6)
        ).all()


@pytest.mark.parametrize("rule", ["twn", "exact"])
def test_each_plane_more_lowers_the_error_of_every_row(rule):
    weight = draws("Gaussian")
    found = [errors(weight, coded(weight, bits, rule=rule)) for bits in (2, 4, 6, 8)]
    assert (np.diff(found, axis=0) < 0).all()


@pytest.mark.parametrize("rule", ["twn", "exact"])
def test_the_second_plane_is_ternary_of_what_the_first_leaves(rule):
    weight = draws("Laplace")[:4]
    first = coded(weight, rule=rule).dequantize()
    second = coded(weight - first, rule=rule).dequantize()
    np.testing.assert_allclose(
        coded(weight, 4, rule=rule).dequantize(), first + second, rtol=1e-6, atol=1e-6
    )


@pytest.mark.parametrize("rule", ["twn", "exact"])
def test_zeros_have_no_sign_and_alpha_zero(rule):
    encoding = coded([[0, -0.0, 0]], rule=rule)
    assert encoding.alpha.tolist() == [[0]]
    assert not encoding.mask.any()


def test_ternary_has_two_bits_and_its_residual_has_more():
    for method, bits in (("ternary", 4), ("ternary_residual", 2), ("ternary_residual", 5)):
        with pytest.raises(SchemeError, match=f"{bits}"):
            qsdk.registry.get(method, bits=bits)
