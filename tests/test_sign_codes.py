"""The coder of sign planes: numpy and every set in C give the same bits, and these are the best."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from array_oracles import needs_c
from hypothesis import given, settings
from hypothesis import strategies as st

import qsdk
from qsdk import cpu, native
from qsdk.errors import DataError, OptionError
from qsdk.sign_codes.rows import lane_sums

GAUSS = np.random.default_rng(0).standard_normal((60, 1024)).astype(np.float32)
STARTS = ("greedy", "refined", "uniform")
HOWS = [
    {"start": start, "nearest": nearest, "cycles": cycles, "final": final}
    for start, nearest in [("greedy", True), ("greedy", False), ("refined", False),
                           ("refined", True), ("uniform", True)]
    for cycles, final in [(0, False), (0, True), (2, False), (3, True)]
]  # fmt: skip

KINDS = {
    "bell": lambda rng, shape: rng.standard_normal(shape),
    "spikes": lambda rng, shape: rng.standard_normal(shape) * (rng.random(shape) < 0.05),
    "ties": lambda rng, shape: np.round(2 * rng.standard_normal(shape)) / 4,
    "signed zeros": lambda rng, shape: rng.choice([0.0, -0.0, 1.0], shape),
    "two sizes": lambda rng, shape: rng.choice([1.0, -2.0], shape),
    "constant": lambda rng, shape: np.full(shape, -3.0),
    "denormal": lambda rng, shape: rng.standard_normal(shape) * 1e-41,
    "huge": lambda rng, shape: rng.standard_normal(shape) * 1e36,
    "some too huge": lambda rng, shape: rng.uniform(-1, 1, shape) * 3e38,
    "some NaN": lambda rng, shape: np.where(rng.random(shape) < 0.02, np.nan, 1.5),
}


def rows_of_every_kind(each, length, seed=0):
    rng = np.random.default_rng(seed)
    with np.errstate(over="ignore"):
        rows = [kind(rng, (each, length)) for kind in KINDS.values()]
        return np.concatenate(rows).astype(np.float32)


def in_c():
    """Every set that this machine can run, with what takes the faster ones away."""
    usable, taken = cpu.found(), set()
    for name, features in native.SIGN_SETS.items():
        if features <= usable and native.library().lib.qsdk_sign_codes_find(name.encode()):
            yield pytest.param(",".join(sorted(taken)), id=name)
        taken |= set(list(features)[:1])


SETS = list(in_c()) if native.available() else []


def decoded(alpha, planes, length):
    """(rows, length) in double."""
    digits = 2.0 * qsdk.unpack_words(planes, length) - 1
    return np.einsum("br,brn->rn", alpha.astype(float), digits)


def errors(rows, bits, **how):
    """Squared error of each row."""
    alpha, planes = qsdk.SignCoder(bits=bits, **how).code(rows)
    return np.square(decoded(alpha, planes, rows.shape[1]) - rows).sum(axis=1)


# -- numpy and C


@needs_c
@pytest.mark.parametrize("taken", SETS)
@pytest.mark.parametrize("bits", [1, 2, 3, 4])
def test_c_gives_the_bits_of_numpy(monkeypatch, taken, bits):
    monkeypatch.setenv("QSDK_DISABLE_CPU_FEATURES", taken)
    cases = 0
    for turn, length in enumerate([*range(70), *range(100, 512, 37), 511]):
        rows = rows_of_every_kind(3, length, seed=length)
        coder = qsdk.SignCoder(bits=bits, **HOWS[turn % len(HOWS)])
        expected, found = coder.reference(rows), coder.code(rows)
        for right, ours in zip(expected, found, strict=True):
            assert ours.dtype == right.dtype and ours.shape == right.shape
            np.testing.assert_array_equal(ours, right, err_msg=f"{coder} {length}")
        assert not np.signbit(found[0][:, np.isfinite(found[0][0])]).any()
        cases += len(rows)
    assert cases > 2000


@needs_c
@pytest.mark.parametrize("taken", SETS)
@pytest.mark.parametrize("how", HOWS, ids=str)
def test_c_gives_the_bits_of_numpy_in_every_way(monkeypatch, taken, how):
    monkeypatch.setenv("QSDK_DISABLE_CPU_FEATURES", taken)
    for bits, length in itertools.product([2, 4, 7], [5, 63, 64, 200]):
        rows = rows_of_every_kind(5, length, seed=bits)
        coder = qsdk.SignCoder(bits=bits, **how)
        for right, ours in zip(coder.reference(rows), coder.code(rows), strict=True):
            np.testing.assert_array_equal(ours, right)


@needs_c
@pytest.mark.parametrize("start", STARTS)
def test_sums_of_long_rows_go_in_pieces(start):
    """Floats alone would stop counting: a lane of this row would sum 0.3 to 2 % too little."""
    rows = np.full((1, 2**24), 0.3, np.float32)
    rows[0, ::2] = -0.1
    coder = qsdk.SignCoder(bits=2, start=start, final=True)
    alpha, planes = coder.code(rows)
    levels = np.unique(np.abs(decoded(alpha, planes[..., :1], 64)))
    np.testing.assert_allclose(levels, [0.1, 0.3], rtol=1e-3)
    rows = rows[:, : 2**17 + 5]
    for right, ours in zip(coder.reference(rows), coder.code(rows), strict=True):
        np.testing.assert_array_equal(ours, right)


def test_threads_change_nothing():
    coder = qsdk.SignCoder(bits=3, start="uniform")
    one, two = (coder.code(GAUSS, threads=n) for n in (1, 2))
    assert [a.tobytes() for a in one] == [a.tobytes() for a in two]


def test_a_row_that_is_not_finite_has_no_codes_and_the_others_have():
    rows = GAUSS[:5, :70].copy()
    rows[0, 3], rows[1, 69], rows[3] = np.nan, -np.inf, np.finfo(np.float32).max
    for code in (qsdk.SignCoder(bits=2).code, qsdk.SignCoder(bits=2).reference):
        alpha, planes = code(rows)
        assert np.isnan(alpha).all(axis=0).tolist() == [True, True, False, True, False]
        assert np.isfinite(alpha[:, [2, 4]]).all() and not planes[:, [0, 1, 3]].any()


@pytest.mark.parametrize("shape", [(0, 5), (3, 0), (0, 0)])
def test_rows_of_nothing(shape):
    for code in (qsdk.SignCoder(bits=3).code, qsdk.SignCoder(bits=3).reference):
        alpha, planes = code(np.empty(shape, np.float32))
        assert alpha.tolist() == [[0] * shape[0]] * 3
        assert planes.shape == (3, shape[0], -(-shape[1] // 64))


@given(st.integers(0, 70), st.integers(0, 2**32 - 1))
@settings(deadline=None)
def test_sums_are_made_in_sixteen_lanes(length, seed):
    rng = np.random.default_rng(seed)
    row = np.float32(rng.standard_normal(length) * 10.0 ** rng.integers(-8, 8, length))
    lanes = [np.float32(0)] * 16
    for k, value in enumerate(row):
        lanes[k % 16] += value
    while len(lanes) > 1:
        half = len(lanes) // 2
        lanes = [low + high for low, high in zip(lanes[:half], lanes[half:], strict=True)]
    assert lane_sums(row[None]).tolist() == lanes


# -- What is promised


@pytest.mark.parametrize("start", STARTS)
@pytest.mark.parametrize("bits", [2, 3, 4])
def test_no_half_step_makes_the_error_of_any_row_larger(start, bits):
    for rows in (GAUSS, np.random.default_rng(5).laplace(size=(40, 200)).astype(np.float32)):
        sequence = [
            errors(rows, bits, start=start, nearest=False, cycles=cycles, final=final)
            for cycles in range(7)
            for final in (False, True)
        ]
        for before, after in itertools.pairwise(sequence):
            assert (after <= before * (1 + 1e-6)).all()
        assert (sequence[-1] < sequence[0]).all()


@pytest.mark.parametrize("start", STARTS)
@pytest.mark.parametrize("bits", [2, 3, 4, 6])
def test_what_least_squares_leaves_is_orthogonal_to_every_plane(start, bits):
    rows = rows_of_every_kind(4, 300)[: 6 * 4]  # those with magnitudes near 1
    alpha, planes = qsdk.SignCoder(bits=bits, start=start, cycles=1, final=True).code(rows)
    rest = rows - decoded(alpha, planes, 300)
    products = np.einsum("brn,rn->br", 2.0 * qsdk.unpack_words(planes, 300) - 1, rest)
    assert (np.abs(products) <= 1e-6 * 300 * alpha.sum(axis=0)).all()  # alphas are float32


@pytest.mark.parametrize("start", STARTS)
@pytest.mark.parametrize("bits", [1, 2, 3, 4])
def test_codes_are_those_of_the_nearest_of_all_sums(start, bits):
    for rows in (GAUSS[:4, :200], rows_of_every_kind(1, 200)[:6]):
        alpha, planes = qsdk.SignCoder(bits=bits, start=start).code(rows)
        every = np.array(list(itertools.product([-1, 1], repeat=bits))) @ alpha.astype(float)
        nearest = np.abs(every[:, :, None] - rows).min(axis=0)
        found = np.abs(decoded(alpha, planes, 200) - rows)
        np.testing.assert_allclose(found, nearest, atol=1e-6)


def greedy_by_the_book(w, bits, refined):
    """Guo et al., algorithms 1 and 2, in double."""
    planes, rest, alpha = [], w.astype(float), []
    for _ in range(bits):
        planes.append(np.where(rest >= 0, 1.0, -1.0))
        if refined:
            alpha = np.linalg.lstsq(np.array(planes).T, w, rcond=None)[0]
        else:
            alpha = [*alpha, np.abs(rest).mean()]
        rest = w - np.array(alpha) @ np.array(planes)
    return w - rest


@pytest.mark.parametrize("start", ["greedy", "refined"])
@pytest.mark.parametrize("bits", [1, 2, 3, 4, 6])
def test_a_start_of_its_own_codes_is_the_algorithm_of_the_paper(start, bits):
    alpha, planes = qsdk.SignCoder(bits=bits, start=start, nearest=False, cycles=0).code(GAUSS[:8])
    for row, found in zip(GAUSS[:8], decoded(alpha, planes, 1024), strict=True):
        expected = greedy_by_the_book(row, bits, refined=start == "refined")
        np.testing.assert_allclose(found, expected, atol=2e-5)


@pytest.mark.parametrize("bits", [2, 3, 4])
def test_no_even_grid_is_much_better_than_the_one_that_is_found(bits):
    """Against 2000 steps, for bells and for rows whose best step is much smaller or larger."""
    rows = rows_of_every_kind(10, 300)[: 2 * 10]
    found = errors(rows, bits, start="uniform", cycles=0)
    size, top = np.abs(rows), 2 ** (bits - 1) - 1
    best = np.full(len(rows), np.inf)
    for step in np.geomspace(2e-4, 4, 2000):
        levels = step * (2 * np.minimum(np.floor(size / (2 * step)), top) + 1)
        best = np.minimum(best, np.square(size - levels).sum(axis=1))
    assert (found <= best * 1.05 + 1e-9).all()


@pytest.mark.parametrize("how", HOWS, ids=str)
@pytest.mark.parametrize("value", [0.0, -3.0, 1.0])
@pytest.mark.parametrize("length", [1, 2, 3, 50])
def test_constant_rows_and_rows_shorter_than_the_planes_are_exact(how, value, length):
    rows = np.full((1, length), value, np.float32)
    for bits in (2, 3, 4, 8):
        alpha, planes = qsdk.SignCoder(bits=bits, **how).code(rows)
        assert (np.diff(alpha, axis=0) <= 0).all() and (alpha >= 0).all()
        np.testing.assert_allclose(decoded(alpha, planes, length), rows, rtol=0.04)
        if how["final"] or how["start"] != "uniform":
            np.testing.assert_allclose(decoded(alpha, planes, length), rows, rtol=1e-6)


@pytest.mark.parametrize("bits", [2, 3, 4])
@pytest.mark.parametrize("start", STARTS)
def test_scales_and_signs_of_a_row_pass_through(start, bits):
    coder = qsdk.SignCoder(bits=bits, start=start, final=True)
    alpha, planes = coder.code(GAUSS)
    for exponent in (-30, -1, 7, 40):
        scaled = coder.code(np.ldexp(GAUSS, exponent))
        np.testing.assert_array_equal(scaled[0], np.ldexp(alpha, exponent))
        np.testing.assert_array_equal(scaled[1], planes)
    negated = coder.code(-GAUSS)
    np.testing.assert_array_equal(negated[0], alpha)
    np.testing.assert_array_equal(negated[1], ~planes)


def test_input_of_a_kernel_is_coded_better_with_each_cycle():
    for x in GAUSS[:10]:
        sequence = [errors(x[None], 3, cycles=cycles)[0] for cycles in range(6)]
        assert all(after <= before * (1 + 1e-6) for before, after in itertools.pairwise(sequence))


# -- Words


@given(st.integers(0, 200), st.integers(0, 2**32 - 1))
@settings(deadline=None)
def test_unpacking_inverts_packing_and_padding_is_zero(length, seed):
    bits = np.random.default_rng(seed).random((2, length)) < 0.5
    words = qsdk.pack_words(bits)
    assert words.shape == (2, -(-length // 64))
    np.testing.assert_array_equal(qsdk.unpack_words(words, length), bits)
    assert sum(int(word).bit_count() for word in words.ravel()) == bits.sum()


@given(st.integers(1, 200), st.integers(0, 2**32 - 1))
@settings(deadline=None)
def test_products_of_digits_are_counts_of_bits(length, seed):
    rng = np.random.default_rng(seed)
    a, b = rng.random((2, length)) < 0.5
    mask = rng.random(length) < 0.5
    x, y, m = (int.from_bytes(qsdk.pack_words(v[None]).tobytes(), "little") for v in (a, b, mask))
    signs = [np.where(v, 1, -1) for v in (a, b)]
    assert signs[0] @ signs[1] == length - 2 * (x ^ y).bit_count()
    every = (1 << length) - 1  # xnor sets the places behind the last
    assert signs[0] @ signs[1] == 2 * (~(x ^ y) & every).bit_count() - length
    ternary = signs[1] * mask
    assert signs[0] @ ternary == m.bit_count() - 2 * ((x ^ y) & m).bit_count()
    plus, minus = y & m, ~y & m  # where x is +1 the -1 miss, elsewhere the +1
    misses = (x & minus).bit_count() + (~x & plus).bit_count()
    assert signs[0] @ ternary == m.bit_count() - 2 * misses


# -- What is refused


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"bits": 0}, "bits is 0; there are 1 to 8 planes"),
        ({"bits": 9}, "bits is 9"),
        ({"bits": 2, "start": "gredy"}, "start is 'gredy'; did you mean 'greedy'"),
        ({"bits": 2, "cycles": -1}, "cycles is -1; give 0 or more"),
    ],
)
def test_a_coder_that_does_not_exist_is_refused(options, message):
    with pytest.raises(OptionError, match=message):
        qsdk.SignCoder(**options)


@pytest.mark.parametrize("rows", [np.zeros(5, np.float32), np.zeros((2, 3), np.int8)])
def test_what_are_no_rows_of_floats_is_refused(rows):
    for code in (qsdk.SignCoder(bits=2).code, qsdk.SignCoder(bits=2).reference):
        with pytest.raises(DataError, match=r"give floats of \(rows, length\)"):
            code(rows)
