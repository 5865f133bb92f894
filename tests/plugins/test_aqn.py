"""AQN and what leads up to it: binary, greedy, refined, alternating, exact (card: AQN)."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

import qsdk
from qsdk.errors import OptionError, SchemeError

DRAWS = {
    "gaussian": lambda rng: rng.standard_normal((60, 1024)),
    "laplace": lambda rng: rng.laplace(size=(60, 1024)),
    "uniform": lambda rng: rng.uniform(-1, 1, (60, 1024)),
}
ROWS = {name: draw(np.random.default_rng(0)).astype(np.float32) for name, draw in DRAWS.items()}
GAUSS = ROWS["gaussian"]

METHODS = {
    "greedy": ("greedy", {}),
    "refined": ("refined", {}),
    "alternating, 2 cycles": ("aqn", {"start": "greedy", "cycles": 2, "final": False}),
    "alternating, 20 cycles": ("aqn", {"start": "greedy", "cycles": 20, "final": False}),
    "alternating": ("aqn", {"start": "greedy"}),
    "aqn": ("aqn", {}),
}


def coded(weight, method="aqn", **options):
    return qsdk.registry.get(method, **options).quantize(np.float32(weight))


def squares(weight, encoding):
    """Squared error of each row."""
    return np.square(encoding.dequantize().astype(float) - weight).sum(axis=1)


def relative_mse(weight, encoding):
    return (squares(weight, encoding) / np.square(weight.astype(float)).sum(axis=1)).mean()


# Mean relative error of rows of 1024: greedy, refined, 2 and 20 cycles from greedy.
FOUND = {
    ("gaussian", 2): (0.131, 0.125, 0.119, 0.117),
    ("gaussian", 3): (0.058, 0.050, 0.046, 0.037),
    ("gaussian", 4): (0.033, 0.024, 0.021, 0.011),
    ("laplace", 2): (0.226, 0.206, 0.183, 0.175),
    ("laplace", 3): (0.141, 0.114, 0.080, 0.054),
    ("laplace", 4): (0.094, 0.060, 0.052, 0.020),
    ("uniform", 2): (0.0623, 0.0623, 0.0623, 0.0623),
    ("uniform", 3): (0.0158, 0.0158, 0.0158, 0.0158),
    ("uniform", 4): (0.0039, 0.0039, 0.0039, 0.0039),
}


@pytest.mark.parametrize(("rows", "bits"), FOUND)
def test_errors_on_random_rows(rows, bits):
    for method, expected in zip(list(METHODS)[:4], FOUND[rows, bits], strict=True):
        name, options = METHODS[method]
        error = relative_mse(ROWS[rows], coded(ROWS[rows], name, bits=bits, **options))
        assert error == pytest.approx(expected, rel=0.1), method


@pytest.mark.parametrize("rows", ROWS)
@pytest.mark.parametrize("bits", [2, 3, 4])
def test_a_uniform_start_needs_two_cycles_where_greedy_needs_twenty(rows, bits):
    weight = ROWS[rows]
    name, options = METHODS["alternating, 20 cycles"]
    long = relative_mse(weight, coded(weight, name, bits=bits, **options))
    assert relative_mse(weight, coded(weight, bits=bits)) <= long * 1.17  # Laplace; else 1.01
    short = relative_mse(weight, coded(weight, bits=bits, start="greedy"))
    assert relative_mse(weight, coded(weight, bits=bits)) <= short * 1.01


@pytest.mark.parametrize("bits", [2, 3, 4])
def test_alternating_is_never_worse_than_where_it_starts(bits):
    for start in ("greedy", "refined"):
        before = squares(GAUSS, coded(GAUSS, start, bits=bits))
        after = squares(GAUSS, coded(GAUSS, bits=bits, start=start))
        assert (after < before).all()


@pytest.mark.parametrize("method", ["greedy", "refined"])
def test_each_bit_more_lowers_the_error_of_every_row(method):
    errors = [squares(GAUSS, coded(GAUSS, method, bits=bits)) for bits in range(1, 9)]
    assert (np.diff(errors, axis=0) < 0).all()


# -- The best there is


def test_binary_is_the_best_of_all_signs_with_their_best_alpha():
    for weight in np.random.default_rng(3).standard_normal((6, 9)).astype(np.float32):
        signs = np.array(list(itertools.product([-1, 1], repeat=9)))
        alpha = signs @ weight.astype(float) / 9
        best = np.square(weight - alpha[:, None] * signs).sum(axis=1).min()
        assert squares(weight[None], coded(weight[None], "binary"))[0] == pytest.approx(best, 1e-6)


def test_exact_is_the_best_of_all_signs_with_their_best_alphas():
    rng = np.random.default_rng(4)
    rows = [rng.standard_normal(6), rng.laplace(size=6), rng.integers(-2, 3, 6), np.zeros(6)]
    planes = np.array(list(itertools.product([-1, 1], repeat=6)))
    for row in np.float32(rows):
        best = np.inf
        for first, second in itertools.combinations_with_replacement(planes, 2):
            pair = np.stack([first, second], axis=1)
            rest = row - pair @ np.linalg.lstsq(pair, row, rcond=None)[0]
            best = min(best, np.square(rest).sum())
        found = squares(row[None], coded(row[None], exact=True))[0]
        assert found == pytest.approx(best, rel=1e-5, abs=1e-10)


@pytest.mark.parametrize("rows", ROWS)
def test_no_start_and_no_number_of_cycles_beats_exact(rows):
    weight = ROWS[rows][:, :64]
    best = squares(weight, coded(weight, exact=True))
    for start, cycles in itertools.product(["uniform", "greedy", "refined"], [0, 2, 50]):
        found = squares(weight, coded(weight, start=start, cycles=cycles))
        assert (best <= found * (1 + 1e-6)).all()


def test_short_gaussian_rows_at_two_bits():
    weight = np.random.default_rng(6).standard_normal((4000, 64)).astype(np.float32)
    for method, error in {"greedy": 0.127, "alternating, 2 cycles": 0.114}.items():
        name, options = METHODS[method]
        found = relative_mse(weight, coded(weight, name, **options))
        assert found == pytest.approx(error, rel=0.02)
    assert relative_mse(weight, coded(weight, exact=True)) == pytest.approx(0.110, rel=0.02)


# -- What shares its alphas


@pytest.mark.parametrize("method", METHODS)
def test_one_group_as_long_as_the_row_is_the_row(method):
    name, options = METHODS[method]
    row, group = (coded(GAUSS, name, **options, **more) for more in ({}, {"group_size": 1024}))
    np.testing.assert_array_equal(group.planes, row.planes)
    np.testing.assert_array_equal(group.alpha[..., 0], row.alpha)


@pytest.mark.parametrize("length", [64, 100, 128, 300])
@pytest.mark.parametrize("group_size", [1, 7, 64, 100, 128])
def test_each_group_is_coded_as_a_row_of_its_own(group_size, length):
    weight = GAUSS[:5, :length]
    found = coded(weight, bits=3, group_size=group_size).dequantize()
    for start in range(0, length, group_size):
        part = weight[:, start : start + group_size]
        np.testing.assert_array_equal(
            found[:, start : start + group_size], coded(part, bits=3).dequantize()
        )


@pytest.mark.parametrize("shape", [(5, 64), (5, 70), (4, 32), (32, 2), (4, 3, 5, 5), (1, 1)])
def test_a_matrix_is_coded_as_one_long_row(shape):
    weight = GAUSS.ravel()[: np.prod(shape)].reshape(shape)
    found = coded(weight, bits=3, granularity="per_tensor").dequantize()
    flat = coded(weight.reshape(1, -1), bits=3).dequantize()
    np.testing.assert_array_equal(found.ravel(), flat.ravel())


def test_channels_may_be_on_any_axis():
    weight = GAUSS[:12].reshape(12, 32, 32)
    for axis in (1, 2, -1):
        found = coded(weight, bits=2, axis=axis).dequantize()
        first = np.ascontiguousarray(np.moveaxis(weight, axis, 0))
        expected = coded(first, bits=2).dequantize()
        np.testing.assert_array_equal(np.moveaxis(found, axis, 0), expected)


# -- Ugly weights


@pytest.mark.parametrize("bits", [2, 3, 4])
@pytest.mark.parametrize("method", [*METHODS, "exact"])
def test_rows_where_planes_depend_on_each_other(method, bits):
    if method == "exact" and bits > 2:
        pytest.skip("exact is for 2 bits")
    name, options = METHODS.get(method, ("aqn", {"exact": True}))
    for row in ([-3.0] * 50, [0.0] * 70, [2.0], [5.0, -5.0, 5.0], [0.5, -0.25]):
        weight = np.float32([row])
        encoding = coded(weight, name, bits=bits, **options)
        np.testing.assert_allclose(encoding.dequantize(), weight, rtol=1e-6)


@pytest.mark.parametrize("method", [*METHODS, "binary", "exact"])
@pytest.mark.parametrize("exponent", [-149, -120, -70, 70, 120])
def test_no_power_of_two_is_too_small_or_too_large(method, exponent):
    """Sums of such a row overflow, or are denormal; its codes are those of the row near 1."""
    name, options = METHODS.get(method, (method, {}))
    if method == "exact":
        name, options = "aqn", {"exact": True}
    weight = np.float32([[3, -1, 1, -3, 3, 1, 1, 40], [100, -90, 30, -30, 1, 2, 3, 4]])
    once = coded(weight, name, **options)
    scaled = coded(np.ldexp(weight, exponent), name, **options)
    np.testing.assert_array_equal(scaled.planes, once.planes)
    np.testing.assert_array_equal(scaled.alpha, np.ldexp(once.alpha, exponent))


def test_the_largest_floats_have_alphas_with_a_finite_sum():
    largest = np.finfo(np.float32).max
    rng = np.random.default_rng(8)
    weight = (largest * rng.choice([-1.0, 1.0, 0.5], (4, 300))).astype(np.float32)
    for method, options in METHODS.values():
        encoding = coded(weight, method, bits=3, **options)
        assert np.isfinite(encoding.dequantize()).all()
        np.testing.assert_allclose(encoding.dequantize(), weight, rtol=0.5)


def test_weights_of_0_have_the_sign_plus():
    assert coded([[0, -0.0, -1]], "binary").planes.tolist() == [[[0b011]]]
    assert coded([[0, -0.0, -1]], bits=2).planes[0].tolist() == [[0b011]]


# -- Options


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"exact": True, "bits": 3}, OptionError, "exact is for 2 bits, not 3"),
        ({"start": "unifrom"}, OptionError, "did you mean 'uniform'"),
        ({"cycles": -1}, OptionError, "cycles"),
        ({"bits": 9}, SchemeError, "bits is 9"),
    ],
)
def test_options_that_mean_nothing_are_refused(options, error, message):
    with pytest.raises(error, match=message):
        qsdk.registry.get("aqn", **options)


def test_binary_has_one_bit():
    with pytest.raises(SchemeError, match="binary takes 1 bits, not 2"):
        qsdk.registry.get("binary", bits=2)


def test_what_they_offer_for_activations():
    form = qsdk.registry.get("aqn", bits=3, cycles=50).activations()
    assert (form.form, form.bits, form.cycles) == ("binary", 3, 20)
    form = qsdk.registry.get("binary").activations()
    assert (form.form, form.bits, form.cycles) == ("binary", 1, 0)
    with pytest.raises(OptionError, match="no kernel"):
        qsdk.registry.get("refined").activations()


def test_a_layer_runs_on_what_aqn_gives():
    method = qsdk.registry.get("aqn", bits=3)
    layer = qsdk.linear(method.quantize(GAUSS), activations=method)
    x = np.random.default_rng(9).standard_normal(1024).astype(np.float32)
    exact = GAUSS @ x
    assert np.square(layer(x) - exact).mean() < 0.1 * np.square(exact).mean()


def test_memory_of_rows_of_1024():
    assert GAUSS.nbytes / coded(GAUSS, bits=2).nbytes == pytest.approx(15.5, rel=0.01)
    assert GAUSS.nbytes / coded(GAUSS, bits=3).nbytes == pytest.approx(10.3, rel=0.01)
