"""``qsdk.linear`` and ``qsdk.conv``: what can be asked for, and what a layer takes."""

from __future__ import annotations

import numpy as np
import pytest

import qsdk
from qsdk import Affine, Scheme
from qsdk.errors import DataError, KernelError, OptionError
from qsdk.interfaces import Activations, Conv, Linear, Output

CODES = np.int8([[1, -2, 3], [-4, 5, -6]])
SCALE = np.float32([0.5, 2.0])
WEIGHT = Affine.from_codes(CODES, SCALE, np.int8([0, 1]), Scheme())
REAL = np.float64([[0.5, -1, 1.5], [-10, 8, -14]])
X = np.float32([[1, 2, 3], [-1, 0.5, 0]])


def test_floats_in_floats_out_worked_by_hand():
    layer = qsdk.linear(WEIGHT, bias=[10, 20])
    assert layer(X).tolist() == [[13.0, -16.0], [9.0, 34.0]]
    assert layer(X).dtype == np.float32


def test_integers_worked_by_hand():
    activations = Activations(form="fixed_int8", scale=0.5, zero_point=1)
    codes = np.int8([[3, 5, 7], [-1, 2, 1]])  # the codes of X
    layer = qsdk.linear(WEIGHT, activations=activations, output="int32")
    assert layer(codes).tolist() == [[12, -36], [-4, 14]]
    assert np.array_equal(layer(X), layer(codes)) and layer(X).dtype == np.int32


def test_requantized_worked_by_hand():
    activations = Activations(form="fixed_int8", scale=0.5, zero_point=1)
    output = Output(form="uint8", scale=1.0, zero_point=100, clip=(-30, np.inf))
    layer = qsdk.linear(WEIGHT, bias=[1, 2], activations=activations, output=output)
    # 12 * 0.25 + 1, -36 * 1 + 2 clipped, -4 * 0.25 + 1, 14 + 2
    assert layer(X).tolist() == [[104, 70], [100, 116]]


@pytest.mark.parametrize("form", [None, "float32", "int8", "uint8"])
@pytest.mark.parametrize("shape", [(3,), (0, 3), (2, 3), (2, 0, 3), (2, 4, 3)])
def test_any_axes_in_front_are_rows(form, shape):
    layer = qsdk.linear(WEIGHT, activations=form)
    x = np.random.default_rng(0).normal(size=shape).astype(np.float32)
    y = layer(x)
    assert y.shape == (*shape[:-1], 2)
    alone = [layer(row) for row in x.reshape(int(np.prod(shape[:-1])), 3)]
    rows = np.array(alone, np.float32).reshape(-1, 2)
    if form in ("int8", "uint8"):
        assert np.array_equal(y.reshape(-1, 2), rows)
    else:  # sums of floats may take another order for more rows
        np.testing.assert_allclose(y.reshape(-1, 2), rows, rtol=1e-5)


def test_a_list_is_an_input_too():
    assert qsdk.linear(WEIGHT)(X.tolist()).tolist() == qsdk.linear(WEIGHT)(X).tolist()


def test_an_empty_weight_gives_the_bias():
    scheme = Scheme()
    empty = Affine.from_codes(np.zeros((2, 0), np.int8), SCALE, np.int8([0, 0]), scheme)
    for form in (None, "int8", "uint8"):
        layer = qsdk.linear(empty, bias=[1, 2], activations=form)
        assert layer(np.zeros((3, 0), np.float32)).tolist() == [[1.0, 2.0]] * 3


def test_a_layer_says_what_it_does_and_by_which_kernel():
    layer = qsdk.linear(WEIGHT, activations="int8", kernel="linear-simulated")
    assert layer.kernel.name == "linear-simulated"
    assert "linear of affine int8 per_channel, int8 in, float32 out" in repr(layer)


# -- What there is not


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ({"activations": "int9"}, "no activations 'int9'; did you mean 'int8'"),
        ({"activations": "fixed_int8"}, "fixed ones are Activations"),
        ({"activations": "binary9"}, "binary activations of 9 bits"),
        ({"output": "int9"}, "no output 'int9'; did you mean 'int8'"),
        ({"output": "int32"}, "needs activations with one fixed scale"),
        ({"activations": "int8", "output": "uint8"}, "needs activations with one fixed scale"),
        ({"bias": [1, 2, 3]}, r"bias has shape \(3,\); the weight has 2 output channels"),
        ({"threads": -1}, "threads is -1; give a whole number"),
        ({"threads": True}, "threads is True; give a whole number"),
        ({"threads": 1.5}, "threads is 1.5; give a whole number"),
    ],
)
def test_what_there_is_not_is_refused(words, said):
    with pytest.raises(OptionError, match=said):
        qsdk.linear(WEIGHT, **words)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ({"form": "fixed_unit8"}, "form of activations 'fixed_unit8'; did you mean 'fixed_uint8'"),
        ({"form": "fixed_int8", "scale": 0.0}, "scale of the activations is 0.0"),
        ({"form": "fixed_int8", "scale": np.nan}, "scale of the activations is nan"),
        ({"form": "fixed_int8", "scale": 1e-60}, "give a finite number above 0"),
        ({"form": "fixed_int8", "zero_point": 128}, "zero_point of the activations is 128"),
        ({"form": "fixed_uint8", "zero_point": -1}, "give a whole number from 0 to 255"),
        ({"form": "binary", "bits": 5}, "binary activations of 5 bits"),
        ({"form": "binary", "cycles": -1}, "2 bits, -1 cycles"),
    ],
)
def test_activations_that_cannot_be_are_refused(words, said):
    with pytest.raises(OptionError, match=said):
        Activations(**words)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ({"form": "int8", "scale": -1.0}, "scale of the output is -1.0"),
        ({"form": "uint8", "zero_point": 256}, "zero_point of the output is 256"),
        ({"clip": (1.0, 0.0)}, r"clip is \(1.0, 0.0\)"),
        ({"clip": (np.nan, 0.0)}, "clip is"),
    ],
)
def test_outputs_that_cannot_be_are_refused(words, said):
    with pytest.raises(OptionError, match=said):
        Output(**words)


def test_a_quantizer_without_activations_is_refused():
    with pytest.raises(qsdk.errors.QsdkError):
        qsdk.linear(WEIGHT, activations=qsdk.registry.get("rtn"))


def test_a_kernel_that_cannot_is_refused_with_the_reason():
    with pytest.raises(KernelError, match=r"linear-simulated cannot run.*gives float32, not int32"):
        qsdk.linear(
            WEIGHT,
            activations=Activations(form="fixed_int8"),
            output="int32",
            kernel="linear-simulated",
        )


def test_a_weight_of_other_axes_is_refused():
    cube = Affine.from_codes(np.zeros((2, 3, 4), np.int8), SCALE, np.int8([0, 0]), Scheme())
    with pytest.raises(OptionError, match=r"linear takes a weight \(out, in\)"):
        qsdk.linear(cube)
    with pytest.raises(OptionError, match="conv takes 1-D and 2-D kernels"):
        qsdk.conv(WEIGHT)


def test_wrong_inputs_are_told_with_shape_and_dtype():
    layer = qsdk.linear(WEIGHT, activations="int8")
    for shape in ((4,), (3, 2), (0,), (3, 0)):
        with pytest.raises(DataError, match=f"shape \\({shape[0]},"):
            layer(np.zeros(shape, np.float32))
    with pytest.raises(DataError, match="the input is int8; this layer takes floats"):
        layer(CODES)
    fixed = qsdk.linear(WEIGHT, activations=Activations(form="fixed_int8"))
    with pytest.raises(
        DataError, match="the input is uint8; this layer takes floats or int8 codes"
    ):
        fixed(CODES.view(np.uint8))


# -- Convolutions as they are asked for


def conv(**words):
    weight = Affine.from_codes(
        np.zeros((4, 2, 3, 3), np.int8), np.ones(4, np.float32), np.zeros(4, np.int8), Scheme()
    )
    ready = {"stride": (1, 1), "padding": (0,) * 4, "dilation": (1, 1), **words}
    return Conv(weight=weight, **ready)


@pytest.mark.parametrize(
    ("words", "shape", "expected"),
    [
        ({}, (1, 2, 5, 7), (1, 4, 3, 5)),
        ({"padding": (1, 1, 1, 1)}, (2, 2, 5, 7), (2, 4, 5, 7)),
        ({"padding": (1, 0, 0, 2)}, (2, 2, 5, 7), (2, 4, 4, 7)),
        ({"stride": (2, 3)}, (1, 2, 5, 7), (1, 4, 2, 2)),
        ({"dilation": (2, 1)}, (1, 2, 5, 7), (1, 4, 1, 5)),
        ({}, (0, 2, 5, 7), (0, 4, 3, 5)),
        ({}, (1, 2, 2, 7), (1, 4, 0, 5)),
    ],
)
def test_the_shape_of_a_convolution(words, shape, expected):
    assert conv(**words).out_shape(shape) == expected


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ({"stride": (0, 1)}, r"stride is \(0, 1\); give 2 numbers from 1"),
        ({"padding": (1, 1)}, r"padding is \(1, 1\); give 4 numbers from 0"),
        ({"dilation": (1,)}, r"dilation is \(1,\); give 2 numbers from 1"),
        ({"groups": 3}, "groups is 3; it must divide the 4 outputs"),
        ({"groups": 0}, "groups is 0"),
    ],
)
def test_a_convolution_that_cannot_be_is_refused(words, said):
    with pytest.raises(OptionError, match=said):
        conv(**words)


def test_an_operation_is_what_it_was_given():
    operation = Linear(weight=WEIGHT, bias=[1, 2])
    assert operation.bias.dtype == np.float32 and operation.weight is WEIGHT
    assert str(operation) == "linear of affine int8 per_channel, float32 in, float32 out"
