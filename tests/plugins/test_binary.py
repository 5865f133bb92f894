"""Binary and ternary codes, and the quantizers greedy and ternary."""

from __future__ import annotations

import itertools

import numpy as np
import onnx
import onnxruntime
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import qsdk
from qsdk import sum_rows
from qsdk.encodings import Affine
from qsdk.errors import EncodingError, OptionError
from qsdk.testing.onnx_decoding import _model
from qsdk_plugins.binary.binary_coded import BinaryCoded

GAUSS = np.random.default_rng(0).standard_normal((60, 1024)).astype(np.float32)


def coded(weight, bits, method="greedy", **options):
    return qsdk.registry.get(method, bits=bits, **options).quantize(np.float32(weight))


def relative_mse(weight, decoded):
    return np.square(decoded - weight).mean() / np.square(weight).mean()


# -- Greedy


def test_four_weights_worked_by_hand():
    # mean |w| = 2; what is left is 1, 1, -1, -1, and its mean magnitude 1
    encoding = coded([[3, -1, 1, -3]], 2)
    assert encoding.alpha.tolist() == [[2], [1]]
    assert encoding.planes.tolist() == [[[0b0101]], [[0b0011]]]
    assert encoding.dequantize().tolist() == [[3, -1, 1, -3]]


def test_zero_has_the_sign_plus():
    assert coded([[0, -0.0, -1]], 1).planes.tolist() == [[[0b011]]]


def test_one_bit_is_the_best_of_all_signs_with_their_best_alpha():
    weight = np.random.default_rng(3).standard_normal(9)
    errors = []
    for signs in itertools.product([-1, 1], repeat=9):
        alpha = np.dot(signs, weight) / 9
        errors.append(np.square(weight - alpha * np.array(signs)).sum())
    error = np.square(coded(weight[None], 1).dequantize() - weight).sum()
    assert error == pytest.approx(min(errors), rel=1e-5)


@pytest.mark.parametrize(
    ("bits", "expected"), [(1, 1 - 2 / np.pi), (2, 0.131), (3, 0.058), (4, 0.033)]
)
def test_error_on_gaussian_rows(bits, expected):
    assert relative_mse(GAUSS, coded(GAUSS, bits).dequantize()) == pytest.approx(expected, rel=0.1)


@pytest.mark.parametrize(("bits", "expected"), [(2, 0.0623), (3, 0.0158), (4, 0.0039)])
def test_error_on_uniform_rows(bits, expected):
    weight = np.random.default_rng(1).uniform(-1, 1, (60, 1024)).astype(np.float32)
    error = relative_mse(weight, coded(weight, bits).dequantize())
    assert error == pytest.approx(expected, rel=0.1)


def test_each_bit_more_lowers_the_error_of_every_row():
    errors = [np.square(coded(GAUSS, b).dequantize() - GAUSS).sum(axis=1) for b in range(1, 9)]
    assert (np.diff(errors, axis=0) < 0).all()


@given(factor=st.integers(-8, 8))
@settings(max_examples=17, deadline=None)
def test_scaling_the_weights_scales_alpha_and_keeps_the_codes(factor):
    once, scaled = coded(GAUSS[:4], 3), coded(GAUSS[:4] * 2.0**factor, 3)
    np.testing.assert_array_equal(scaled.planes, once.planes)
    np.testing.assert_array_equal(scaled.alpha, once.alpha * np.float32(2.0**factor))


def test_negating_the_weights_flips_every_code():
    signs, negated = (qsdk.unpack_words(coded(w, 2).planes, 1024) for w in (GAUSS, -GAUSS))
    np.testing.assert_array_equal(signs, 1 - negated)


def test_one_group_as_long_as_the_row_is_the_row():
    row, group = coded(GAUSS, 2), coded(GAUSS, 2, group_size=1024)
    np.testing.assert_array_equal(group.planes, row.planes)
    np.testing.assert_array_equal(group.alpha[..., 0], row.alpha)


def test_alphas_come_largest_first():
    encoding = coded([[1, 0, 0, 0, 0, 0]], 4)  # greedy finds 1/6 before 5/18
    assert (np.diff(encoding.alpha, axis=0) <= 0).all()
    assert encoding.alpha[0, 0] == pytest.approx(10 / 36, rel=1e-6)


def test_it_offers_its_activations():
    form = qsdk.registry.get("greedy", bits=3, cycles=5).activations()
    assert (form.form, form.bits, form.cycles) == ("binary", 3, 5)
    assert qsdk.registry.get("greedy", bits=8).activations().bits == 4
    with pytest.raises(OptionError, match="no kernel"):
        qsdk.registry.get("ternary", bits=2).activations()


# -- Sums


@given(st.integers(0, 70), st.integers(0, 2**32 - 1))
@settings(deadline=None)
def test_sums_are_made_in_sixteen_lanes(length, seed):
    row = np.random.default_rng(seed).standard_normal(length) * 10.0 ** np.arange(-8, length - 8)
    lanes = [0.0] * 16
    for k, value in enumerate(row):
        lanes[k % 16] += value
    while len(lanes) > 1:
        half = len(lanes) // 2
        lanes = [low + high for low, high in zip(lanes[:half], lanes[half:], strict=True)]
    assert sum_rows(row[None]).tolist() == lanes


# -- Files


@pytest.mark.parametrize("scheme", [{}, {"group_size": 20}, {"granularity": "per_tensor"}])
@pytest.mark.parametrize(
    ("method", "bits"), [("greedy", 1), ("greedy", 3), ("ternary", 2), ("ternary_residual", 4)]
)
def test_onnxruntime_decodes_the_same_values(method, bits, scheme):
    encoding = coded(GAUSS[:5, :70].reshape(5, 7, 2, 5), bits, method, **scheme)
    model = _model(encoding.onnx_function(), encoding)
    model.ir_version = 8
    arrays, _ = encoding.arrays()
    session = onnxruntime.InferenceSession(model.SerializeToString())
    (decoded,) = session.run(None, arrays)
    np.testing.assert_array_equal(decoded, encoding.dequantize())


@pytest.mark.parametrize(("method", "bits"), [("greedy", 2), ("ternary", 2)])
def test_a_quantized_network_runs_and_gives_what_its_decoded_weights_give(tmp_path, method, bits):
    w = onnx.numpy_helper.from_array(GAUSS[:8, :16], "w")
    node = onnx.helper.make_node("Gemm", ["x", "w"], ["y"], transB=1)
    x, y = (
        onnx.helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, [1, size])
        for name, size in (("x", 16), ("y", 8))
    )
    graph = onnx.helper.make_graph([node], "net", [x], [y], [w])
    opset = onnx.helper.make_opsetid("", 17)
    onnx.save(
        onnx.helper.make_model(graph, opset_imports=[opset], ir_version=8), tmp_path / "a.onnx"
    )
    qsdk.quantize_file(tmp_path / "a.onnx", tmp_path / "b.onnx", method, bits=bits)
    given = GAUSS[:1, 50:66]
    (found,) = onnxruntime.InferenceSession(tmp_path / "b.onnx").run(None, {"x": given})
    decoded = coded(GAUSS[:8, :16], bits, method).dequantize()
    np.testing.assert_allclose(found, given @ decoded.T, rtol=1e-5, atol=1e-5)


def spoiled(method="greedy", **changes):
    encoding = coded(GAUSS[:2, :70], 2, method)
    arrays, values = encoding.arrays()
    arrays = {name: array.copy() for name, array in arrays.items()}
    for name, (place, value) in changes.items():
        arrays[name][place] = value
    return type(encoding).from_arrays, arrays, values


@pytest.mark.parametrize(
    ("method", "changes", "message"),
    [
        ("greedy", {"planes": ((0, 0, 1), 1 << 6)}, "behind the 70 values"),
        ("greedy", {"alpha": ((0, 0), 0)}, "largest of each slice first"),
        ("greedy", {"alpha": ((1, 1), -0.0)}, "not negative"),
        ("greedy", {"alpha": ((slice(None), 0), 3e38)}, "finite sum"),
        ("ternary", {"mask": ((0, 1, 0), 0)}, "sign is 1 where mask is 0"),
        ("ternary", {"sign": ((0, 0, 1), 1 << 63)}, "behind the 70 values"),
    ],
)
def test_what_no_quantizer_writes_is_refused(method, changes, message):
    read, arrays, values = spoiled(method, **changes)
    with pytest.raises(EncodingError, match=message):
        read(arrays, values)


def test_ternary_codes_of_an_odd_width_are_refused():
    read, arrays, values = spoiled("ternary")
    with pytest.raises(EncodingError, match="2 bits a plane, not 3"):
        read(arrays, {**values, "bits": 3})


def test_the_size_is_that_of_the_bits_and_alphas():
    encoding = coded(GAUSS, 2)
    assert isinstance(encoding, BinaryCoded) and not isinstance(encoding, Affine)
    assert encoding.nbytes == 60 * (2 * 1024 // 8 + 2 * 4)
    assert GAUSS.nbytes / encoding.nbytes == pytest.approx(15.5, rel=0.01)


# -- Rows and parts


@pytest.mark.parametrize("granularity", ["per_tensor", "per_channel"])
@pytest.mark.parametrize("bits", [1, 2, 4])
@pytest.mark.parametrize("length", [0, 1, 64, 100])
def test_rows_decode_to_what_the_encoding_decodes_to(bits, length, granularity):
    encoding = coded(GAUSS[:9, :length], bits, granularity=granularity)
    rows = encoding.rows()
    assert rows.shape == (9,) and rows.dtype == qsdk.interfaces.sign_codes_dtype(bits, length)
    assert rows.nbytes == 9 * bits * (4 + 8 * -(-length // 64))
    planes = np.ascontiguousarray(rows["planes"].transpose(2, 0, 1))
    digits = 2 * qsdk.unpack_words(planes, length).view(np.int8) - 1
    decoded = (rows["alpha"].T[:, :, None].astype(np.float64) * digits).sum(axis=0)
    np.testing.assert_array_equal(decoded.astype(np.float32), encoding.dequantize())
    assert rows[[3, 3, 8]].dtype is rows.dtype


def test_a_matrix_of_many_planes_or_groups_has_no_rows():
    for encoding in (coded(GAUSS, 5), coded(GAUSS, 2, group_size=64), coded(GAUSS, 2, axis=1),
                     coded(GAUSS.reshape(60, 32, 32), 2)):  # fmt: skip
        with pytest.raises(EncodingError, match=r"of shape \(60, .* has no rows of codes; give"):
            encoding.rows()
    assert coded(GAUSS, 2, group_size=2048).rows().shape == (60,)


@pytest.mark.parametrize(
    "scheme", [{}, {"granularity": "per_tensor"}, {"group_size": 100}], ids=str
)
@pytest.mark.parametrize("method", ["greedy", "ternary_residual"])
def test_a_part_decodes_as_in_the_whole(method, scheme):
    whole = coded(GAUSS[:20], 4, method, **scheme)
    part = whole.part(3, 8)
    assert part.shape == (5, 1024) and type(part) is type(whole)
    np.testing.assert_array_equal(part.dequantize(), whole.dequantize()[3:8])
    again = type(part).from_arrays(*part.arrays())
    np.testing.assert_array_equal(again.dequantize(), part.dequantize())
    assert whole.part(2, 2).dequantize().shape == (0, 1024)
    assert coded(GAUSS[:20], 4, method, axis=1).part(3, 8) is None
