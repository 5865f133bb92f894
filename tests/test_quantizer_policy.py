"""What every built-in quantizer does with every kind of array: the one policy for ugly data."""

from __future__ import annotations

import ml_dtypes
import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from qsdk import Layer, registry
from qsdk.errors import DataError, OptionError, SchemeError

QUANTIZERS = ["rtn", "squant"]
GRANULARITIES = [
    {"granularity": "per_tensor"},
    {"granularity": "per_channel"},
    {"granularity": "per_channel", "axis": 1},
    {"granularity": "per_group", "group_size": 4},
    {"granularity": "per_group", "group_size": 5, "axis": -1},
]
WORDS = [
    {**granularity, **kind, "bits": bits}
    for granularity in GRANULARITIES
    for kind in ({}, {"symmetric": True}, {"signed": False})
    for bits in (1, 4)
    if bits > 1 or not kind.get("symmetric")
]
on_each = pytest.mark.parametrize("name", QUANTIZERS)
in_every_format = pytest.mark.parametrize(
    "words", WORDS, ids=lambda w: "-".join(str(v) for v in w.values())
)
NORMAL = np.random.default_rng(0).standard_normal((6, 3, 3, 3)).astype(np.float32)


def encode(name, weight, **options):
    return registry.get(name, **options).quantize(weight)


@on_each
@in_every_format
def test_a_shape_comes_back_as_float32_near_the_weight(name, words):
    encoding = encode(name, NORMAL, **words)
    decoded = encoding.dequantize()
    assert decoded.dtype == np.float32 and decoded.shape == encoding.shape == NORMAL.shape
    step = NORMAL.max() - NORMAL.min()
    assert np.abs(decoded - NORMAL).max() <= 1.1 * step / max(2 ** words["bits"] - 2, 1)
    codes = encoding.codes
    assert codes.min() >= encoding.scheme.qmin and codes.max() <= encoding.scheme.qmax


@on_each
@in_every_format
@pytest.mark.parametrize("shape", [(0, 3), (3, 0), (0, 0), (2, 0, 3, 3), (0, 4, 3, 3)], ids=str)
def test_an_empty_array_gives_an_empty_encoding(name, words, shape):
    encoding = encode(name, np.zeros(shape, np.float32), **words)
    assert encoding.shape == shape
    assert encoding.dequantize().shape == shape
    arrays, values = encoding.arrays()
    assert type(encoding).from_arrays(arrays, values).shape == shape


@on_each
@in_every_format
def test_an_all_zero_channel_decodes_to_exact_zeros_with_scale_1(name, words):
    weight = NORMAL.copy()
    axis = words.get("axis", 0)
    weight[(slice(None),) * (axis % 4) + (1,)] = 0
    encoding = encode(name, weight, **words)
    assert not np.take(encoding.dequantize(), 1, axis).any()
    if words["granularity"] == "per_channel":
        assert encoding.scale[1] == 1
    if words["granularity"] == "per_group":
        assert (encoding.scale[1] == 1).all()


@on_each
@in_every_format
def test_an_array_of_zeros_is_exact(name, words):
    encoding = encode(name, np.zeros((2, 7), np.float32), **words)
    assert not encoding.dequantize().any()
    assert (encoding.scale == 1).all()


@on_each
@in_every_format
@pytest.mark.parametrize("value", [3.7, -0.01, 1e-30, 1e37])
def test_a_constant_comes_back_within_half_a_step(name, words, value):
    decoded = encode(name, np.full((4, 6), value, np.float32), **words).dequantize()
    if name == "squant":  # may move some by a step, so that the sum is right
        assert decoded.astype(float).mean() == pytest.approx(np.float32(value), rel=1e-6)
    assert np.abs(decoded / np.float32(value) - 1).max() <= 1e-6


@on_each
@in_every_format
@pytest.mark.parametrize("shape", [(1,), (1, 1), (1, 1, 1, 1)], ids=str)
def test_a_single_element_works(name, words, shape):
    shape = max(shape, (1,) * (words.get("axis", 0) + 1), key=len)
    decoded = encode(name, np.full(shape, -2.5, np.float32), **words).dequantize()
    assert decoded.shape == shape and abs(decoded.item() + 2.5) < 1e-6


@on_each
def test_a_number_without_axes_works_per_tensor(name):
    decoded = encode(name, np.float32(3), granularity="per_tensor").dequantize()
    assert decoded.shape == () and abs(decoded - 3) < 1e-6


@on_each
@in_every_format
def test_denormals_come_back_within_a_step(name, words):
    weight = (NORMAL * 1e-40).astype(np.float32)
    assert 0 < np.abs(weight).max() < np.finfo(np.float32).tiny
    encoding = encode(name, weight, **words)
    error = np.abs(encoding.dequantize().astype(float) - weight)
    assert np.isfinite(encoding.scale).all() and error.max() <= encoding.scale.max()


@on_each
@in_every_format
def test_huge_values_decode_to_finite_ones(name, words):
    weight = NORMAL / np.abs(NORMAL).max() * np.finfo(np.float32).max
    encoding = encode(name, weight, **words)
    decoded = encoding.dequantize()
    assert np.isfinite(decoded).all()
    assert (np.abs(decoded.astype(float) - weight) <= 1.01 * float(encoding.scale.max())).all()


@on_each
@pytest.mark.parametrize(
    "dtype", [np.float16, np.float64, ml_dtypes.bfloat16, ml_dtypes.float8_e4m3fn, ">f4", ">f8"]
)
def test_any_float_type_gives_the_codes_of_its_float32_values(name, dtype):
    weight = NORMAL.astype(dtype)
    encoding = encode(name, weight, bits=4)
    assert np.array_equal(encoding.codes, encode(name, weight.astype(np.float32), bits=4).codes)
    assert encoding.scale.dtype == np.float32 and encoding.scale.dtype.isnative


LAYOUTS = {
    "fortran": np.asfortranarray,
    "reversed": lambda w: w[::-1].copy()[::-1],
    "strided": lambda w: np.repeat(w, 2, axis=1)[:, ::2],
    "transposed": lambda w: np.ascontiguousarray(w.transpose(3, 1, 0, 2)).transpose(2, 1, 3, 0),
    "unaligned": lambda w: np.frombuffer(b"x" + w.tobytes(), np.float32, offset=1).reshape(w.shape),
}


@on_each
@in_every_format
@pytest.mark.parametrize("layout", LAYOUTS)
def test_the_memory_layout_does_not_matter(name, words, layout):
    weight = LAYOUTS[layout](NORMAL)
    assert np.array_equal(weight, NORMAL)
    there, here = (encode(name, w, **words) for w in (weight, NORMAL))
    assert there.packed.tobytes() == here.packed.tobytes()
    assert there.scale.tobytes() == here.scale.tobytes()


@on_each
@in_every_format
def test_the_input_is_never_modified_and_may_be_read_only(name, words):
    weight = NORMAL.copy()
    encode(name, weight, **words)
    assert weight.tobytes() == NORMAL.tobytes() and weight.flags.writeable
    weight.flags.writeable = False
    encode(name, weight, **words)


@on_each
def test_lists_are_taken_as_arrays(name):
    assert encode(name, [[1.0, 2.0], [3.0, 4.0]]).shape == (2, 2)


@on_each
@pytest.mark.parametrize(
    ("value", "position", "named"),
    [
        (np.nan, (0, 0, 0, 0), r"nan at \[0, 0, 0, 0\]"),
        (np.inf, (2, 1, 0, 2), r"inf at \[2, 1, 0, 2\]"),
        (-np.inf, (5, 2, 2, 2), r"-inf at \[5, 2, 2, 2\]"),
    ],
)
def test_a_value_that_is_not_finite_is_refused_with_its_position(name, value, position, named):
    weight = NORMAL.copy()
    weight[position] = value
    with pytest.raises(DataError, match=named):
        encode(name, weight)
    weight[5, 2, 2, 2] = np.nan  # the first one is named
    with pytest.raises(
        DataError, match=named.replace("-inf", "nan") if position[0] == 5 else named
    ):
        encode(name, weight)


@on_each
def test_a_number_that_is_not_finite_is_refused(name):
    with pytest.raises(DataError, match=r"holds nan at \[\]"):
        encode(name, np.float32(np.nan), granularity="per_tensor")


@on_each
def test_a_double_too_large_for_float32_is_refused_with_its_position(name):
    weight = NORMAL.astype(np.float64)
    weight[1, 0, 0, 1] = 1e39
    with pytest.raises(DataError, match=r"1e\+39 at \[1, 0, 0, 1\]; .* finite in float32"):
        encode(name, weight)


@on_each
@pytest.mark.parametrize("dtype", [np.int8, np.int64, np.uint8, bool, complex, object, "U3", "V4"])
def test_arrays_that_hold_no_floats_are_refused_with_their_type(name, dtype):
    with pytest.raises(DataError, match=f"the weight is {np.dtype(dtype)}; give floats"):
        encode(name, np.zeros((2, 2), dtype))


@on_each
def test_an_error_names_the_layer(name):
    layer = Layer(
        name="conv1", weight_name="w", shape=(1,), stored="float32", nbytes=4, read=lambda: None
    )
    with pytest.raises(DataError, match="conv1 holds nan"):
        registry.get(name).quantize(np.float32([np.nan]), layer=layer)


@on_each
@pytest.mark.parametrize("axis", [-5, 4, 100])
def test_an_axis_that_does_not_exist_is_refused(name, axis):
    with pytest.raises(SchemeError, match=f"axis {axis} does not exist"):
        encode(name, NORMAL, axis=axis)


@on_each
def test_a_symmetric_grid_of_one_bit_is_refused_before_any_work(name):
    with pytest.raises(SchemeError, match="1 bit"):
        registry.get(name, bits=1, symmetric=True)


@on_each
@pytest.mark.parametrize("scheme", ["int4", {"bits": 4}, None])
def test_a_scheme_that_is_none_is_refused_with_what_to_give(name, scheme):
    with pytest.raises(OptionError, match="scheme"):
        registry.get(name, scheme=scheme)
    with pytest.raises(OptionError, match="scheme"):
        registry.get(name, scheme=scheme, bits=3)


@on_each
@in_every_format
def test_the_same_weight_gives_the_same_bits(name, words):
    first, again = (encode(name, NORMAL, **words) for _ in range(2))
    for part, array in first.arrays()[0].items():
        assert array.tobytes() == again.arrays()[0][part].tobytes()


@on_each
@pytest.mark.parametrize("rule", ["minmax", "absmax", "mse", "percentile", "aciq"])
@in_every_format
def test_c_and_numpy_give_the_same_bits(name, rule, words, native, monkeypatch):
    in_c = encode(name, NORMAL, range_rule=rule, **words)
    monkeypatch.setenv("QSDK_DISABLE_NATIVE", "1")
    in_numpy = encode(name, NORMAL, range_rule=rule, **words)
    assert in_c.packed.tobytes() == in_numpy.packed.tobytes()
    assert in_c.scale.tobytes() == in_numpy.scale.tobytes()
    assert in_c.zero_point.tobytes() == in_numpy.zero_point.tobytes()


@on_each
@given(
    weight=hnp.arrays(np.float32, hnp.array_shapes(min_dims=2, max_dims=4, max_side=5),
                      elements=st.floats(-1e3, 1e3, width=32)),
    words=st.sampled_from(WORDS),
)  # fmt: skip
def test_decoded_weights_stay_within_a_step(name, weight, words):
    encoding = encode(name, weight, **words)
    error = np.abs(encoding.dequantize().astype(float) - weight)
    assert error.max() <= float(encoding.scale.max()) * 1.01


@on_each
@pytest.mark.parametrize("axis", [0, 1, 2, -1])
def test_channels_on_any_axis_are_those_of_the_moved_array(name, axis):
    for words in ({}, {"granularity": "per_group", "group_size": 4}):
        there = encode(name, NORMAL, axis=axis, **words)
        here = encode(name, np.moveaxis(NORMAL, axis, 0), **words)
        assert np.array_equal(np.moveaxis(there.codes, axis, 0), here.codes)
        assert np.array_equal(there.scale, here.scale)


@on_each
@given(
    order=st.permutations(range(6)),
    words=st.sampled_from([w for w in WORDS if w["granularity"] != "per_tensor"]),
)
def test_permuting_the_channels_permutes_the_result(name, order, words):
    axis = words.get("axis", 0)
    assume(axis == 0)
    there, here = encode(name, NORMAL[list(order)], **words), encode(name, NORMAL, **words)
    assert np.array_equal(there.codes, here.codes[list(order)])
    assert np.array_equal(there.scale, here.scale[list(order)])


@on_each
def test_a_quantizer_cannot_be_changed(name):
    with pytest.raises(AttributeError):
        registry.get(name).range_rule = "mse"
