"""Round to nearest, and the part that all affine quantizers share."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import oracles
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from qsdk import registry
from qsdk.errors import OptionError, SchemeError

WEIGHT = np.random.default_rng(0).standard_normal((5, 4, 3)).astype(np.float32)


def rtn(weight, **options):
    return registry.get("rtn", **options).quantize(weight)


def test_four_weights_worked_by_hand():
    # Range -1..2 in 2 bits: scale 1, and code -1 stands for 0.
    encoding = rtn(np.float32([[-1, 0.4, 0.5, 2]]), bits=2)
    assert encoding.scale.tolist() == [1] and encoding.zero_point.tolist() == [-1]
    assert encoding.codes.tolist() == [[-2, -1, -1, 1]]
    assert encoding.dequantize().tolist() == [[-1, 0, 0, 2]]


def test_symmetric_weights_worked_by_hand():
    encoding = rtn(np.float32([[-7, 3.5, 1.2]]), bits=4, symmetric=True)
    assert encoding.scale.tolist() == [1] and encoding.codes.tolist() == [[-7, 4, 1]]


weights = hnp.arrays(
    np.float32, st.tuples(st.integers(1, 4), st.integers(1, 9)),
    elements=st.floats(-100, 100, width=32).filter(lambda x: x == 0 or abs(x) > 1e-10),
)  # fmt: skip


@given(
    weight=weights,
    bits=st.integers(2, 8),
    symmetric=st.booleans(),
    group_size=st.integers(1, 10),
)
def test_scales_and_codes_equal_exact_fractions(weight, bits, symmetric, group_size):
    encoding = rtn(weight, bits=bits, symmetric=symmetric, group_size=group_size)
    scheme = encoding.scheme
    for o, channel in enumerate(weight):
        for g, start in enumerate(range(0, len(channel), group_size)):
            group = channel[start : start + group_size]
            given_scale = float(encoding.scale[o, g])
            if group.any():
                scale, zero = oracles.grid(
                    group.min(), group.max(), scheme.qmin, scheme.qmax, symmetric
                )
                assert Fraction(given_scale) == scale and encoding.zero_point[o, g] == zero
            zero = int(encoding.zero_point[o, g])
            expected = [oracles.code(x, given_scale, zero, scheme.qmin, scheme.qmax) for x in group]
            assert encoding.codes[o, start : start + group_size].tolist() == expected


@pytest.mark.parametrize("bits", range(1, 9))
@pytest.mark.parametrize("signed", [True, False])
def test_the_error_is_at_most_half_a_step(bits, signed):
    encoding = rtn(WEIGHT, bits=bits, signed=signed)
    error = np.abs(encoding.dequantize() - WEIGHT).max(axis=(1, 2))
    assert (error <= encoding.scale * 0.5001).all()


@pytest.mark.parametrize("bits", range(1, 9))
def test_decoded_weights_quantize_to_themselves_on_the_same_grid(bits):
    first = rtn(WEIGHT, bits=bits)
    # Both ends of the range are taken, or the second grid would be another.
    codes = first.codes.reshape(5, -1)
    full = (codes.min(axis=1) == first.scheme.qmin) & (codes.max(axis=1) == first.scheme.qmax)
    again = rtn(first.dequantize(), bits=bits)
    assert full.any()
    assert np.array_equal(again.codes[full], first.codes[full])


def test_symmetric_narrow_codes_change_sign_with_the_weight():
    options = {"bits": 4, "symmetric": True, "narrow_range": True}
    assert np.array_equal(rtn(WEIGHT, **options).codes, -rtn(-WEIGHT, **options).codes)


@pytest.mark.parametrize("rule", ["minmax", "absmax", "mse", "percentile", "aciq"])
def test_per_channel_equals_a_loop_of_per_tensor(rule):
    whole = rtn(WEIGHT, bits=4, range_rule=rule)
    for i, channel in enumerate(WEIGHT):
        alone = rtn(channel, bits=4, range_rule=rule, granularity="per_tensor")
        assert np.array_equal(whole.codes[i], alone.codes)
        assert whole.scale[i] == alone.scale and whole.zero_point[i] == alone.zero_point


@pytest.mark.parametrize("rule", ["minmax", "absmax", "mse", "percentile", "aciq"])
@pytest.mark.parametrize("group_size", [12, 100])
def test_one_group_for_a_whole_channel_equals_per_channel(rule, group_size):
    groups = rtn(WEIGHT, bits=4, range_rule=rule, group_size=group_size)
    channels = rtn(WEIGHT, bits=4, range_rule=rule)
    assert np.array_equal(groups.codes, channels.codes)
    assert groups.scale.shape == (5, 1) and np.array_equal(groups.scale[:, 0], channels.scale)


@pytest.mark.parametrize("rule", ["minmax", "mse"])
@pytest.mark.parametrize("group_size", [1, 5, 7, 11])
def test_a_short_last_group_uses_its_own_values_only(rule, group_size):
    weight = WEIGHT.reshape(5, 12)
    grouped = rtn(weight, bits=3, group_size=group_size, range_rule=rule)
    for g, start in enumerate(range(0, 12, group_size)):
        part = rtn(weight[:, start : start + group_size], bits=3, range_rule=rule)
        assert np.array_equal(grouped.codes[:, start : start + group_size], part.codes)
        assert np.array_equal(grouped.scale[:, g], part.scale)


def test_groups_of_one_weight_are_nearly_exact():
    assert np.allclose(rtn(WEIGHT, bits=2, group_size=1).dequantize(), WEIGHT, rtol=1e-6, atol=0)


def test_unsigned_and_signed_codes_differ_by_half_the_grid():
    signed, unsigned = (rtn(WEIGHT, bits=4, signed=signed) for signed in (True, False))
    assert np.array_equal(signed.codes + 8, unsigned.codes)
    assert np.array_equal(signed.zero_point + 8, unsigned.zero_point)
    assert signed.dequantize().tobytes() == unsigned.dequantize().tobytes()


def test_one_bit_uses_both_ends_of_the_range():
    encoding = rtn(np.float32([[0, 3, 1, 2.5]]), bits=1)
    assert encoding.dequantize().tolist() == [[0, 3, 0, 3]]


def test_more_bits_are_never_worse():
    weight = np.random.default_rng(1).standard_normal((20, 500)).astype(np.float32)
    noise = [np.square(rtn(weight, bits=b).dequantize() - weight).sum() for b in range(1, 9)]
    assert noise == sorted(noise, reverse=True)


def test_percentile_keeps_what_it_is_told_to():
    weight = np.append(np.linspace(-1, 1, 999), 50).astype(np.float32)[None]
    assert rtn(weight, range_rule="percentile", keep_percent=99.5).dequantize().max() < 1.01
    assert rtn(weight, range_rule="percentile", keep_percent=100).dequantize().max() == 50


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"range_rule": "minmx"}, "no range_rule 'minmx'; did you mean 'minmax'"),
        ({"keep_percent": 50}, "'keep_percent' must be > 50"),
        ({"keep_percent": 101}, "'keep_percent' must be <= 100"),
        ({"keep_percent": "much"}, "could not convert string to float: 'much'"),
        ({"keep_percent": float("nan")}, "must be > 50: nan"),
        ({"bit": 4}, "rtn has no option 'bit'; did you mean 'bits'"),
    ],
)
def test_options_that_do_not_exist_are_refused_with_what_was_given(options, message):
    with pytest.raises(OptionError, match=message):
        registry.get("rtn", **options)


def test_a_width_that_does_not_exist_is_refused():
    with pytest.raises(SchemeError, match="bits is 9"):
        registry.get("rtn", bits=9)
