"""Number formats, and how arrays are cut into rows of one scale."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from qsdk import Granularity, Scheme, Slices
from qsdk.errors import SchemeError


@pytest.mark.parametrize(
    ("words", "qmin", "qmax"),
    [
        ({"bits": 8}, -128, 127),
        ({"bits": 8, "narrow_range": True}, -127, 127),
        ({"bits": 8, "signed": False}, 0, 255),
        ({"bits": 4}, -8, 7),
        ({"bits": 4, "narrow_range": True}, -7, 7),
        ({"bits": 2, "narrow_range": True}, -1, 1),
        ({"bits": 1}, -1, 0),
        ({"bits": 1, "signed": False}, 0, 1),
    ],
)
def test_grids_are_those_of_card_1(words, qmin, qmax):
    scheme = Scheme(**words)
    assert (scheme.qmin, scheme.qmax) == (qmin, qmax)
    assert scheme.dtype is (np.int8 if scheme.signed else np.uint8)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ({"bits": 0}, "bits is 0; codes have 1 to 8"),
        ({"bits": 9}, "bits is 9"),
        ({"bits": 4.0}, "bits is 4.0; give a whole number"),
        ({"bits": "4"}, "bits is '4'"),
        ({"bits": True}, "bits is True"),
        ({"symmetric": 1}, "symmetric is 1; give true or false"),
        ({"symmetric": True, "signed": False}, "symmetric codes .* need signed=True"),
        ({"narrow_range": True, "signed": False}, "narrow_range leaves out"),
        ({"narrow_range": True, "bits": 1}, "narrow_range leaves out"),
        ({"granularity": "per_chanel"}, "did you mean 'per_channel'"),
        ({"granularity": "per_group"}, "group_size is not given; say .* group_size=64"),
        ({"granularity": "per_group", "group_size": 0}, "group_size is 0; give 1 or more"),
        ({"group_size": 4}, "group_size=4 needs granularity='per_group', not per_channel"),
    ],
)
def test_formats_that_do_not_exist_are_refused_with_what_was_given(words, message):
    with pytest.raises(SchemeError, match=message):
        Scheme(**words)


@pytest.mark.parametrize("word", ["bits", "axis"])
def test_a_word_that_must_be_given_cannot_be_none(word):
    with pytest.raises(SchemeError, match=f"{word} is None; give a whole number"):
        Scheme(**{word: None})


def test_a_scheme_cannot_be_changed_half_way():
    with pytest.raises(AttributeError):
        Scheme().bits = 3


def test_replace_with_a_group_size_alone_means_per_group():
    grouped = Scheme().replace(group_size=32)
    assert grouped.granularity is Granularity.PER_GROUP and grouped.group_size == 32
    assert grouped.replace(granularity="per_channel").group_size is None


@pytest.mark.parametrize(
    ("scheme", "text"),
    [
        (Scheme(bits=4), "int4 per_channel"),
        (Scheme(bits=3, signed=False, granularity="per_tensor"), "uint3 per_tensor"),
        (Scheme(granularity="per_group", group_size=64), "int8 per_group of 64"),
        (Scheme(symmetric=True, narrow_range=True), "int8 per_channel symmetric narrow"),
    ],
)
def test_a_scheme_reads_as_a_few_words(scheme, text):
    assert str(scheme) == text


@pytest.mark.parametrize("axis", [-3, 2, 7])
def test_an_axis_that_the_shape_lacks_is_refused(axis):
    with pytest.raises(SchemeError, match=rf"axis {axis} does not exist in shape \(2, 3\)"):
        Slices(Scheme(axis=axis), (2, 3))


def test_per_tensor_needs_no_axis():
    assert Slices(Scheme(granularity="per_tensor", axis=5), ()).params_shape == ()


shapes = st.lists(st.integers(0, 5), min_size=1, max_size=4).map(tuple)
granularities = st.sampled_from(
    [{"granularity": "per_tensor"}, {}]
    + [{"granularity": "per_group", "group_size": g} for g in (1, 2, 3, 7, 1000)]
)


@given(shape=shapes, words=granularities, data=st.data())
def test_join_inverts_split(shape, words, data):
    axis = data.draw(st.integers(-len(shape), len(shape) - 1))
    slices = Slices(Scheme(axis=axis, **words), shape)
    array = np.arange(np.prod(shape), dtype=np.float32).reshape(shape)
    rows = slices.split(array)
    if not rows:  # no values: nothing to join
        assert array.size == 0
        return
    assert all(part.ndim == 2 and part.flags.c_contiguous for part in rows)
    joined = slices.join(rows)
    assert joined.shape == shape and joined.flags.c_contiguous
    assert np.array_equal(joined, array)


@given(shape=shapes.filter(lambda shape: 0 not in shape), words=granularities, data=st.data())
def test_expanded_params_reach_the_values_of_their_own_row(shape, words, data):
    axis = data.draw(st.integers(-len(shape), len(shape) - 1))
    slices = Slices(Scheme(axis=axis, **words), shape)
    index = np.arange(np.prod(shape), dtype=np.float64).reshape(shape)
    firsts = [part[:, 0] for part in slices.split(index)]
    if words.get("granularity") == "per_tensor":
        firsts = [np.zeros(1)]
    params = slices.join_params(firsts)
    assert params.shape == slices.params_shape
    expanded = np.broadcast_to(slices.expand(params), shape)
    for position in np.ndindex(shape):  # whoever shares a first value shares a row
        channel = position[axis]
        group = words.get("group_size")
        if words.get("granularity") == "per_tensor":
            expected = 0
        else:
            rest = np.moveaxis(index, axis, 0)[channel].ravel()
            offset = int(np.flatnonzero(rest == index[position])[0])
            expected = rest[offset // group * group] if group else rest[0]
        assert expanded[position] == expected


def test_a_row_that_the_group_size_does_not_divide_ends_in_a_shorter_group():
    slices = Slices(Scheme(granularity="per_group", group_size=4), (2, 10))
    whole, short = slices.split(np.arange(20, dtype=np.float32).reshape(2, 10))
    assert whole.tolist() == [[0, 1, 2, 3], [4, 5, 6, 7], [10, 11, 12, 13], [14, 15, 16, 17]]
    assert short.tolist() == [[8, 9], [18, 19]]
    assert slices.params_shape == (2, 3)


def test_a_group_larger_than_the_row_is_the_row():
    slices = Slices(Scheme(granularity="per_group", group_size=64), (2, 10))
    assert [part.shape for part in slices.split(np.zeros((2, 10)))] == [(2, 10)]
    assert slices.params_shape == (2, 1)


def test_channels_on_another_axis_become_rows():
    slices = Slices(Scheme(axis=-1), (2, 3))
    (rows,) = slices.split(np.arange(6).reshape(2, 3))
    assert rows.tolist() == [[0, 3], [1, 4], [2, 5]]


@pytest.mark.parametrize(
    ("words", "shape", "size"),
    [
        ({}, (8, 4, 3, 3), 9),
        ({}, (8, 36), 1),
        ({}, (8,), 1),
        ({"granularity": "per_tensor"}, (8, 4, 3), 3),
        ({"axis": 1}, (4, 8, 3, 3), 9),
        ({"granularity": "per_group", "group_size": 18}, (8, 4, 3, 3), 9),
        ({"granularity": "per_group", "group_size": 16}, (8, 4, 3, 3), 1),
    ],
)
def test_kernels_are_the_axes_behind_the_input_channels_unless_groups_cut_them(words, shape, size):
    assert Slices(Scheme(**words), shape).kernel_size == size
