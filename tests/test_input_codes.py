"""The 8-bit codes of a layer's input, against a slow loop over Python floats."""

from __future__ import annotations

import numpy as np
import pytest

from qsdk.interfaces import Activations, InputForm, code_rows

FLOAT = np.float32


def rint(value) -> int:
    return int(np.rint(FLOAT(value)))


def slow_row(row, form):
    """(codes, scale, zero_point) of one finite row, number by number."""
    low, high = min([0.0, *map(float, row)]), max([0.0, *map(float, row)])
    if form == "int8":
        size = max(-low, high)
        scale = FLOAT(size / 127) if size else FLOAT(1)
        zero, qmin, qmax = 0, -128, 127
    else:
        scale = FLOAT((high - low) / 255) if high > low else FLOAT(1)
        qmin, qmax = 0, 255
        zero = min(max(-rint(FLOAT(low) / scale), 0), 255)
    codes = [min(max(rint(FLOAT(value) / scale) + zero, qmin), qmax) for value in row]
    return codes, scale, zero


ROWS = [
    [1.0, -2.0, 0.5],
    [0.0, 0.0, 0.0],
    [3.0, 4.0, 5.0],  # the grid reaches down to 0
    [-3.0, -4.0, -0.25],
    [127.0, 0.5, 1.5],  # ties of a scale of 1
    [-127.0, 2.5, -0.5],
]


@pytest.mark.parametrize("form", ["int8", "uint8"])
def test_each_row_has_a_scale_of_its_own(form):
    rows = np.array([*ROWS, *np.random.default_rng(0).normal(size=(40, 3))], np.float32)
    found = code_rows(rows, Activations(form=form))
    for index, row in enumerate(rows):
        codes, scale, zero = slow_row(row, form)
        assert found.codes[index].tolist() == codes, index
        assert (found.scale[index], found.zero_point[index]) == (scale, zero)
    assert found.codes.dtype == form and found.scale.dtype == np.float32


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("form", ["int8", "uint8"])
def test_a_row_that_is_not_finite_has_no_scale_and_spoils_no_other(form, value):
    rows = np.array(ROWS, np.float32)
    clean = code_rows(rows, Activations(form=form))
    rows[2, 1] = value
    found = code_rows(rows, Activations(form=form))
    assert np.isnan(found.scale[2]) and np.isnan(found.dequantize()[2]).all()
    others = [0, 1, 3, 4, 5]
    assert np.array_equal(found.codes[others], clean.codes[others])
    assert np.array_equal(found.scale[others], clean.scale[others])


FIXED = [
    ("fixed_int8", 10, [-128, 127, -128, 127, 10, 12, 12, 8]),
    ("fixed_uint8", 10, [0, 255, 0, 255, 10, 12, 12, 8]),
]


@pytest.mark.parametrize(("form", "zero_point", "expected"), FIXED)
def test_fixed_codes_saturate_and_nan_is_the_lowest(form, zero_point, expected):
    row = np.float32([[np.nan, np.inf, -np.inf, 1e30, 0, 0.75, 1.25, -1.25]])
    activations = Activations(form=form, scale=0.5, zero_point=zero_point)
    found = code_rows(row, activations)
    assert found.codes.tolist() == [expected]
    assert found.scale.tolist() == [0.5] and found.zero_point.tolist() == [zero_point]


def test_fixed_codes_are_taken_as_they_are():
    codes = np.int8([[-128, 0, 127]])
    found = code_rows(codes, Activations(form="fixed_int8", scale=2.0, zero_point=-1))
    assert found.codes is codes
    assert found.steps.tolist() == [[-127, 1, 128]] and found.steps.dtype == np.int64
    assert found.dequantize().tolist() == [[-254.0, 2.0, 256.0]]


@pytest.mark.parametrize("form", [form for form in InputForm if form.endswith("int8")])
@pytest.mark.parametrize("shape", [(0, 5), (3, 0), (0, 0)])
def test_nothing_gives_nothing(form, shape):
    found = code_rows(np.zeros(shape, np.float32), Activations(form=form))
    assert found.codes.shape == shape and found.scale.shape == (shape[0],)
    assert (found.scale == 1).all()
