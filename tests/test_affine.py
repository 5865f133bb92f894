"""The affine equation and its rounding: card 1, against exact fractions."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import oracles
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from qsdk import Scheme, dequantize_rows, quantize_rows, scale_and_zero_point
from qsdk.affine import dequantize, quantize, squared_error_rows
from qsdk.errors import SchemeError

LARGEST = float(np.finfo(np.float32).max)

SCHEMES = [
    Scheme(bits=bits, signed=signed, symmetric=symmetric, narrow_range=narrow)
    for bits in range(1, 9)
    for signed in (True, False)
    for symmetric in (False, True)
    for narrow in (False, True)
    if (signed or not (symmetric or narrow)) and (bits > 1 or not (symmetric or narrow))
]
on_every_scheme = pytest.mark.parametrize("scheme", SCHEMES, ids=lambda s: str(s).split()[0] + (
    "-symmetric" if s.symmetric else "") + ("-narrow" if s.narrow_range else ""))  # fmt: skip

usual = st.floats(-1e6, 1e6, width=32).filter(lambda x: x == 0 or abs(x) > 1e-20)


def grid_of(low, high, scheme):
    scale, zero_point = scale_and_zero_point(low, high, scheme)
    assert scale.dtype == np.float32 and zero_point.dtype == np.int32
    return scale, zero_point


def random_grid(scheme, rng):
    """A scale that is no power of two, and a zero point somewhere on the grid."""
    zero = 0 if scheme.symmetric else int(rng.integers(scheme.qmin, scheme.qmax, endpoint=True))
    return np.float32(rng.uniform(0.01, 3)), np.int32(zero)


@on_every_scheme
def test_a_code_decodes_and_quantizes_to_itself(scheme):
    rng = np.random.default_rng(0)
    codes = np.arange(scheme.qmin, scheme.qmax + 1)
    for _ in range(50):
        scale, zero_point = random_grid(scheme, rng)
        values = dequantize(codes, scale, zero_point)
        assert np.array_equal(quantize(values, scale, zero_point, scheme), codes)


@on_every_scheme
def test_zero_has_the_code_zero_point_and_comes_back_exact(scheme):
    rng = np.random.default_rng(1)
    for zero in np.float32([0.0, -0.0]):
        scale, zero_point = random_grid(scheme, rng)
        code = quantize(zero, scale, zero_point, scheme)
        assert code == zero_point and dequantize(code, scale, zero_point) == 0


@on_every_scheme
def test_inside_the_range_the_error_is_at_most_half_a_step(scheme):
    rng = np.random.default_rng(2)
    for low, high in [(-1, 1), (-3, 1), (0.5, 7), (-9, -2), (0, 4), (-1e-3, 5), (-1e30, 2e30)]:
        scale, zero_point = grid_of(np.float32(low), np.float32(high), scheme)
        x = np.append(rng.uniform(low, high, 500), [low, high]).astype(np.float32)
        error = np.abs(dequantize(quantize(x, scale, zero_point, scheme), scale, zero_point) - x)
        # half a step, and the roundings of the scale and of the product
        assert error.max() <= scale * 0.5 + np.abs(x).max() * 2.0**-22


@on_every_scheme
def test_quantize_is_monotone_and_stays_on_the_grid(scheme):
    rng = np.random.default_rng(3)
    scale, zero_point = random_grid(scheme, rng)
    x = np.sort(rng.standard_normal(999).astype(np.float32) * 200 * scale)
    codes = quantize(x, scale, zero_point, scheme).astype(int)
    assert (np.diff(codes) >= 0).all()
    assert codes[0] == scheme.qmin and codes[-1] == scheme.qmax


def test_ties_go_to_the_even_step(either):
    x = np.float32([[0.5, 1.5, 2.5, -0.5, -1.5, -2.5]]) * 3
    codes = quantize_rows(x, np.float32([3]), np.int32([0]), Scheme(bits=4))
    assert codes.tolist() == [[0, 2, 2, 0, -2, -2]]


def test_the_zero_point_is_added_after_rounding(either):
    codes = quantize_rows(np.float32([[0.5, 1.5]]), np.float32([1]), np.int32([1]), Scheme(bits=4))
    assert codes.tolist() == [[1, 3]]  # rounded to 0 and 2; with the 1 inside: 2 and 2


@pytest.mark.parametrize("bits", range(2, 9))
def test_symmetric_narrow_codes_change_sign_with_the_value(bits):
    scheme = Scheme(bits=bits, symmetric=True, narrow_range=True)
    x = np.random.default_rng(bits).standard_normal(500).astype(np.float32)
    scale, zero_point = grid_of(x.min(), x.max(), scheme)
    plus, minus = (quantize(v, scale, zero_point, scheme) for v in (x, -x))
    assert np.array_equal(plus, -minus)


@given(x=st.lists(usual, min_size=1, max_size=20), scale=st.floats(2**-10, 1000, width=32),
       bits=st.integers(1, 8), signed=st.booleans(), data=st.data())  # fmt: skip
def test_codes_equal_exact_fractions(x, scale, bits, signed, data):
    scheme = Scheme(bits=bits, signed=signed)
    zero_point = data.draw(st.integers(scheme.qmin, scheme.qmax))
    rows = np.float32([x])
    expected = [oracles.code(v, scale, zero_point, scheme.qmin, scheme.qmax) for v in x]
    arguments = (rows, np.float32([scale]), np.int32([zero_point]), scheme)
    assert quantize_rows(*arguments).tolist() == [expected]
    assert quantize(rows, *(a[:, None] for a in arguments[1:3]), scheme).tolist() == [expected]


def test_the_squared_error_equals_exact_integers(either):
    rng = np.random.default_rng(5)
    for scheme in SCHEMES:
        rows = (rng.standard_normal((2, 40)) * 4).astype(np.float32)
        rows[0, 0], rows[1, 1] = 1e30, -1e9  # further out than the error counts
        scale = rng.uniform(0.1, 1, 2).astype(np.float32)
        zero = rng.integers(scheme.qmin, scheme.qmax, 2, dtype=np.int32, endpoint=True)
        expected = [
            oracles.squared_error(row, s, z, scheme.qmin, scheme.qmax)
            for row, s, z in zip(rows, scale, zero, strict=True)
        ]
        assert squared_error_rows(rows, scale, zero, scheme).tolist() == expected


@given(low=usual, high=usual, number=st.integers(0, len(SCHEMES) - 1))
def test_scale_and_zero_point_equal_exact_fractions(low, high, number):
    low, high = min(low, high), max(low, high)
    scheme = SCHEMES[number]
    scale, zero_point = grid_of(low, high, scheme)
    expected = oracles.grid(low, high, scheme.qmin, scheme.qmax, scheme.symmetric)
    if low == high == 0:  # any zero point would do
        expected = Fraction(1), int(zero_point)
    assert (Fraction(float(scale)), int(zero_point)) == expected


@on_every_scheme
def test_the_zero_point_lies_on_the_grid(scheme):
    rng = np.random.default_rng(6)
    low = rng.standard_normal(1000) * 10.0 ** rng.integers(-40, 38, 1000)
    high = low + np.abs(rng.standard_normal(1000)) * 10.0 ** rng.integers(-40, 38, 1000)
    scale, zero_point = grid_of(low.astype(np.float32), high.astype(np.float32), scheme)
    assert (zero_point >= scheme.qmin).all() and (zero_point <= scheme.qmax).all()
    assert (scale > 0).all() and np.isfinite(scale).all()
    assert not (scheme.symmetric and zero_point.any())


@on_every_scheme
@pytest.mark.filterwarnings("ignore:overflow encountered in cast")
def test_a_range_that_no_float32_holds_still_gives_a_grid(scheme):
    for ends in [(-1e300, 1e300), (-1e39, 0), (0, 1e39)]:
        scale, zero_point = grid_of(*ends, scheme)
        assert 0 < scale <= LARGEST and scheme.qmin <= zero_point <= scheme.qmax


@on_every_scheme
def test_a_range_of_zeros_gets_scale_1(scheme):
    scale, zero_point = grid_of(0.0, 0.0, scheme)
    assert scale == 1
    assert dequantize(quantize(np.float32(0), scale, zero_point, scheme), scale, zero_point) == 0


@on_every_scheme
@pytest.mark.parametrize("value", [0.3, -7.0, 1e-30, 5e36])
def test_a_constant_comes_back_within_half_a_step(scheme, value):
    x = np.float32(value)
    scale, zero_point = grid_of(x, x, scheme)
    back = dequantize(quantize(x, scale, zero_point, scheme), scale, zero_point)
    assert abs(float(back) - float(x)) <= scale / 2 + abs(value) * 2.0**-22


HUGE = [(-1, 1), (-1, 0), (0, 1), (-1, 0.2), (-0.1, 0.9), (-0.5, 0.5), (-0.999, 0.01), (0.2, 0.7)]


@on_every_scheme
def test_values_near_the_largest_float_decode_to_finite_neighbours(scheme):
    codes = np.arange(scheme.qmin, scheme.qmax + 1)
    for ends in HUGE:
        low, high = (np.float32(end * LARGEST) for end in ends)
        scale, zero_point = grid_of(low, high, scheme)
        assert np.isfinite(dequantize(codes, scale, zero_point)).all()
        x = np.float32([low, high, low / 2, high / 2, 0])
        back = dequantize(quantize(x, scale, zero_point, scheme), scale, zero_point)
        # The outermost step may not fit a float; no value is further off than that.
        assert (np.abs(back.astype(float) - x.astype(float)) <= 1.01 * float(scale)).all(), ends


@on_every_scheme
def test_denormals_come_back_within_half_a_step(scheme):
    x = np.float32([1e-45, -3e-42, 1e-40, 9e-39])
    scale, zero_point = grid_of(x.min(), x.max(), scheme)
    assert scale >= np.finfo(np.float32).tiny
    back = dequantize(quantize(x, scale, zero_point, scheme), scale, zero_point)
    assert (np.abs(back.astype(float) - x) <= 0.5001 * float(scale)).all()


@pytest.mark.parametrize(
    ("low", "high", "named"),
    [(1, -1, r"\[1.0, -1.0\]"), (np.nan, 1, "nan"), (0, np.inf, "inf"), (-np.inf, 0, "-inf")],
)
def test_a_range_that_is_no_range_is_refused_with_its_ends(low, high, named):
    with pytest.raises(SchemeError, match=f"range .*{named}.* not finite and ordered"):
        scale_and_zero_point([0, low], [1, high], Scheme())


def test_one_bit_has_no_symmetric_grid():
    with pytest.raises(SchemeError, match="1 bit has no symmetric"):
        scale_and_zero_point(-1, 1, Scheme(bits=1, symmetric=True))


@given(
    x=hnp.arrays(np.float32, hnp.array_shapes(min_dims=2, max_dims=2, max_side=40),
                 elements=st.floats(-50, 50, width=32)),
    number=st.integers(0, len(SCHEMES) - 1),
)  # fmt: skip
def test_saturation_happens_exactly_where_rounding_leaves_the_grid(x, number):
    scheme = SCHEMES[number]
    codes = quantize(x, np.float32(0.5), np.int32(0), scheme)
    outside = [not scheme.qmin <= round(Fraction(float(v)) * 2) <= scheme.qmax for v in x.ravel()]
    at_end = (codes != np.rint(x * 2)).ravel()
    assert at_end.tolist() == outside


def test_c_and_numpy_agree_on_a_million_codes(native, monkeypatch):
    rng = np.random.default_rng(7)
    rows = rng.standard_normal((100, 10_000)).astype(np.float32) * 3
    rows[:, ::7] = np.rint(rows[:, ::7] * 2) / 2  # ties
    scale = np.where(np.arange(100) % 2, 0.5, rng.uniform(0.01, 1, 100)).astype(np.float32)
    zero = rng.integers(-8, 7, 100, dtype=np.int32)
    scheme = Scheme(bits=4)
    arguments = (rows, scale, zero, scheme)
    codes, error = quantize_rows(*arguments), squared_error_rows(*arguments)
    monkeypatch.setenv("QSDK_DISABLE_NATIVE", "1")
    assert np.array_equal(codes, quantize_rows(*arguments))
    assert np.array_equal(error, squared_error_rows(*arguments))


@pytest.mark.parametrize("signed", [True, False])
def test_c_and_numpy_decode_to_the_same_bits(native, monkeypatch, signed):
    rng = np.random.default_rng(8)
    low = -128 if signed else 0
    codes = rng.integers(low, low + 256, (100, 1000)).astype(np.int8 if signed else np.uint8)
    scale = np.exp2(rng.uniform(-126, 100, 100)).astype(np.float32)
    zero = rng.integers(low, low + 256, 100, dtype=np.int32)
    here = dequantize_rows(codes[:, ::2], scale, zero)
    monkeypatch.setenv("QSDK_DISABLE_NATIVE", "1")
    assert dequantize_rows(codes[:, ::2], scale, zero).tobytes() == here.tobytes()
