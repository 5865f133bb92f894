"""The affine encoding: round trips, and the refusal of what no quantizer could have written."""

from __future__ import annotations

import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import qsdk
from qsdk import Affine, Scheme, Slices
from qsdk.errors import EncodingError

GRANULARITIES = [
    {"granularity": "per_tensor"},
    {},
    {"axis": -1},
    {"granularity": "per_group", "group_size": 4},
    {"granularity": "per_group", "group_size": 3, "axis": 1},
]


def example(shape=(3, 10), seed=0, **words):
    """An encoding with random codes, scales and zero points."""
    scheme = Scheme(**{"bits": 4, **words})
    rng = np.random.default_rng(seed)
    params = Slices(scheme, shape).params_shape
    codes = rng.integers(scheme.qmin, scheme.qmax, shape, endpoint=True)
    scale = rng.uniform(0.1, 1, params).astype(np.float32)
    zero = np.zeros(params, int)
    if not scheme.symmetric:
        zero = rng.integers(scheme.qmin, scheme.qmax, params, endpoint=True)
    return Affine.from_codes(codes, scale, zero, scheme)


@pytest.mark.parametrize("words", GRANULARITIES, ids=str)
@given(
    shape=st.lists(st.integers(0, 6), min_size=2, max_size=4).map(tuple),
    bits=st.integers(1, 8),
    signed=st.booleans(),
)
def test_from_arrays_inverts_arrays_also_through_json(words, shape, bits, signed):
    before = example(shape, bits=bits, signed=signed, **words)
    arrays, values = before.arrays()
    after = Affine.from_arrays(arrays, json.loads(json.dumps(values)))
    assert after.scheme == before.scheme and after.shape == before.shape
    assert np.array_equal(after.codes, before.codes)
    assert after.dequantize().tobytes() == before.dequantize().tobytes()
    assert after.nbytes == before.nbytes == sum(array.nbytes for array in arrays.values())


@pytest.mark.parametrize("words", GRANULARITIES, ids=str)
def test_every_value_is_its_scale_times_its_code_less_the_zero_point(words):
    encoding = example((3, 4, 5), bits=5, **words)
    slices = Slices(encoding.scheme, (3, 4, 5))
    scale, zero = (
        np.broadcast_to(slices.expand(p), (3, 4, 5)) for p in (encoding.scale, encoding.zero_point)
    )
    decoded = encoding.dequantize()
    assert decoded.dtype == np.float32
    for at in np.ndindex(3, 4, 5):
        assert decoded[at] == scale[at] * np.float32(int(encoding.codes[at]) - int(zero[at]))


@pytest.mark.parametrize("shape", [(3, 8), (5, 12, 3), (0, 4), (4, 0), (300, 64)])
@pytest.mark.parametrize("words", GRANULARITIES, ids=str)
def test_c_and_numpy_decode_to_the_same_floats(native, monkeypatch, words, shape):
    encodings = [
        example(shape, bits=bits, signed=s, **words) for bits in range(1, 9) for s in (False, True)
    ]
    here = [encoding.dequantize() for encoding in encodings]
    monkeypatch.setenv("QSDK_DISABLE_NATIVE", "1")
    for encoding, decoded in zip(encodings, here, strict=True):
        there = encoding.dequantize()
        assert decoded.shape == there.shape == shape
        assert decoded.tobytes() == there.tobytes()


def test_unsigned_codes_below_their_zero_point_decode_to_negative_values():
    scheme = Scheme(bits=8, signed=False, granularity="per_tensor")
    encoding = Affine.from_codes(np.uint8([0, 255]), np.float32(1), np.uint8(255), scheme)
    assert encoding.dequantize().tolist() == [-255, 0]


def test_four_bit_codes_take_four_bits():
    encoding = example((100, 100))
    assert encoding.packed.nbytes == 5000
    assert encoding.nbytes == 5000 + 100 * 4 + 100


def test_codes_have_the_type_of_their_scheme():
    assert example().codes.dtype == np.int8
    assert example(signed=False).codes.dtype == np.uint8


@pytest.mark.parametrize("name", ["packed", "scale", "zero_point"])
def test_arrays_of_an_encoding_cannot_be_written_to(name):
    encoding = example()
    with pytest.raises(ValueError, match="read-only"):
        getattr(encoding, name)[...] = 0
    with pytest.raises(ValueError, match="read-only"):
        encoding.arrays()[0][name][...] = 0
    with pytest.raises(AttributeError):
        setattr(encoding, name, None)


def test_an_encoding_keeps_its_scale_when_its_maker_changes_theirs():
    scale, zero = np.float32([1, 2, 3]), np.int8([0, 0, 0])
    encoding = Affine.from_codes(np.ones((3, 2), np.int8), scale, zero, Scheme(bits=4))
    scale[:], zero[:] = 100, 5
    assert encoding.dequantize().tolist() == [[1, 1], [2, 2], [3, 3]]


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"codes": np.int8([[8, 0]])}, r"codes reach \[0, 8\] but int4 .* holds \[-8, 7\]"),
        ({"codes": np.int16([[-9, 0]])}, r"codes reach \[-9, 0\]"),
        ({"zero_point": np.int32([200])}, r"zero_points reach \[200, 200\] .* \[-8, 7\]"),
        ({"scale": np.float32([0])}, "a scale is 0.0; scales are finite and above 0"),
        ({"scale": np.float32([np.nan])}, "a scale is nan"),
        ({"scale": np.float32([1, 2])}, r"scale of int4 .* float32 \(1,\), not float32 \(2,\)"),
        ({"zero_point": np.int8(0)}, r"zero_point of int4 .* not int8 \(\)"),
    ],
)
def test_a_quantizer_that_gives_what_does_not_fit_is_refused(changed, message):
    given = {"codes": np.int8([[1, 2]]), "scale": np.float32([1]), "zero_point": np.int8([0])}
    with pytest.raises(EncodingError, match=message):
        Affine.from_codes(**{**given, **changed}, scheme=Scheme(bits=4))


def tampered(arrays=(), values=(), **words):
    """What ``arrays()`` of an example gave, with some of it replaced."""
    own_arrays, own_values = example(**words).arrays()
    return {**own_arrays, **dict(arrays)}, {**own_values, **dict(values)}


def edited(name, index, value, **words):
    array = example(**words).arrays()[0][name].copy()
    array.flat[index] = value
    return {name: array}


@pytest.mark.parametrize(
    ("arrays", "values", "message"),
    [
        (edited("scale", 1, 0), {}, "a scale is 0.0"),
        (edited("scale", 2, -0.5), {}, "a scale is -0.5"),
        (edited("scale", 0, np.nan), {}, "a scale is nan"),
        (edited("scale", 0, np.inf), {}, "a scale is inf"),
        (edited("zero_point", 0, 8), {}, r"zero_points reach \[.*8\] but int4 .* holds \[-8, 7\]"),
        (edited("zero_point", 0, -9), {}, r"zero_points reach \[-9"),
        ({"packed": np.zeros(14, np.uint8)}, {}, r"packed .* uint8 \(15,\), not uint8 \(14,\)"),
        ({"packed": np.zeros(16, np.uint8)}, {}, r"not uint8 \(16,\)"),
        ({"packed": np.zeros(15, np.int8)}, {}, r"not int8 \(15,\)"),
        ({"packed": np.zeros((15, 1), np.uint8)}, {}, r"not uint8 \(15, 1\)"),
        ({"scale": np.ones(3)}, {}, r"scale .* float32 \(3,\), not float64 \(3,\)"),
        ({"scale": np.ones(2, np.float32)}, {}, r"not float32 \(2,\)"),
        ({"zero_point": np.zeros(3, np.uint8)}, {}, r"zero_point .* int8 \(3,\), not uint8"),
        ({}, {"bits": 5}, r"packed of int5 .* not uint8 \(15,\)"),
        ({}, {"bits": 9}, "bits is 9"),
        ({}, {"bits": "4"}, "bits is '4'"),
        ({}, {"bits": None}, "bits is None"),
        ({}, {"shape": [3, -10]}, r"no array has the shape \[3, -10\]"),
        ({}, {"shape": ["3", "10"]}, r"no array has the shape \['3', '10'\]"),
        ({}, {"shape": [3.0, 10.0]}, r"no array has the shape \[3.0, 10.0\]"),
        ({}, {"shape": "3"}, "no array has the shape '3'"),
        ({}, {"shape": 30}, "no array has the shape 30"),
        ({}, {"shape": [0, 2**70]}, r"no array has the shape \[0, 1180591620717411303424\]"),
        ({}, {"shape": [1] * 65}, "no array has the shape"),
        ({}, {"shape": [2**40, 2**40]}, "no array has the shape"),
        ({}, {"shape": [10, 3]}, r"scale .* \(10,\), not float32 \(3,\)"),
        ({}, {"axis": 2}, r"axis 2 does not exist in shape \(3, 10\)"),
        ({}, {"granularity": "per_row"}, "granularity 'per_row' does not exist"),
        ({}, {"granularity": ["per_tensor"]}, "does not exist"),
        ({}, {"group_size": 4}, "group_size=4 needs"),
        ({}, {"granularity": "per_group"}, "group_size is not given"),
        ({}, {"signed": "no"}, "signed is 'no', not 0 or 1"),
        ({}, {"signed": 0, "symmetric": 1}, "need signed"),
    ],
)
def test_arrays_that_no_quantizer_writes_are_refused_with_what_is_wrong(arrays, values, message):
    with pytest.raises(EncodingError, match=message):
        Affine.from_arrays(*tampered(arrays, values))


@pytest.mark.parametrize("name", ["packed", "scale", "zero_point"])
def test_a_missing_array_is_refused_by_name(name):
    arrays, values = example().arrays()
    del arrays[name]
    with pytest.raises(EncodingError, match=f"not an affine encoding.*{name}"):
        Affine.from_arrays(arrays, values)


@pytest.mark.parametrize("word", ["bits", "signed", "granularity", "axis", "group_size", "shape"])
def test_a_missing_value_is_refused_by_name(word):
    arrays, values = example().arrays()
    del values[word]
    with pytest.raises(EncodingError, match=f"not an affine encoding.*{word}"):
        Affine.from_arrays(arrays, values)


def test_a_symmetric_encoding_with_a_zero_point_is_refused():
    arrays = edited("zero_point", 1, 3, symmetric=True)
    with pytest.raises(EncodingError, match=r"a zero_point is 3 although .* symmetric"):
        Affine.from_arrays(*tampered(arrays, symmetric=True))


def test_a_narrow_encoding_with_the_lowest_code_is_refused():
    arrays = edited("packed", 0, 0x88, narrow_range=True)
    with pytest.raises(EncodingError, match=r"codes reach \[-8, .* holds \[-7, 7\]"):
        Affine.from_arrays(*tampered(arrays, narrow_range=True))


def test_the_encoding_says_its_format_in_a_few_words():
    assert example().describe() == "int4 per_channel"
    assert "float" not in example().describe()


def test_only_channels_in_front_have_an_onnx_function():
    assert example().onnx_function().name == "Dequantize_affine"
    assert example(axis=1).onnx_function() is None
    assert example(axis=1, granularity="per_tensor").onnx_function() is not None


def test_inputs_and_attributes_of_the_onnx_function_are_those_of_arrays():
    arrays, values = example().arrays()
    function = example().onnx_function()
    assert set(function.inputs) == set(arrays)
    assert set(function.attributes) == set(values)


@pytest.mark.parametrize("words", [{}, {"granularity": "per_tensor"}, {"group_size": 5},
                                   {"bits": 3, "symmetric": False}], ids=str)  # fmt: skip
def test_a_part_decodes_as_in_the_whole(words):
    weight = np.random.default_rng(0).standard_normal((7, 3, 4)).astype(np.float32)
    whole = qsdk.registry.get("rtn", **words).quantize(weight)
    part = whole.part(2, 5)
    assert part.shape == (3, 3, 4)
    np.testing.assert_array_equal(part.dequantize(), whole.dequantize()[2:5])
    assert qsdk.registry.get("rtn", axis=1).quantize(weight).part(2, 5) is None
