"""What is said of saturation is what onnxruntime does on a CPU with AVX2 and no VNNI."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from onnx import helper, numpy_helper

import qsdk
from qsdk import cpu
from qsdk.interfaces import FixedCodes, input_columns
from qsdk.saturation import Saturation

ZERO, STEP = 7, np.float32(2.0**13)  # of the input; of the result, so coarse that it never clips
CASES = {  # channels, outputs, kernel, groups, dilation
    "3x3": (16, 16, 3, 1, 1),
    "1x1": (16, 32, 1, 1, 1),
    "odd channels": (5, 7, 3, 1, 1),
    "groups": (16, 16, 3, 4, 1),
    "dilated": (16, 8, 3, 1, 2),
    "long rows": (200, 8, 3, 1, 1),
    "depthwise": (16, 16, 3, 16, 1),
    "two outputs of a channel": (8, 16, 3, 8, 1),
}


def has_pairs() -> bool:
    """Whether this CPU is one that the definition speaks of."""
    found = cpu.found()
    return "avx2" in found and not found & {"avxvnni", "avx512vnni"}


def case(name: str, signed: bool = False) -> tuple[qsdk.Layer, qsdk.Affine, FixedCodes, np.ndarray]:
    channels, outputs, kernel, groups, dilation = CASES[name]
    rng = np.random.default_rng(len(name))
    shape = (outputs, channels // groups, kernel, kernel)
    scheme = qsdk.Scheme(symmetric=True, granularity="per_tensor")
    weight = qsdk.Affine.from_codes(
        rng.integers(-128, 128, shape), np.float32(1), np.int32(0), scheme
    )
    pad = kernel // 2 * dilation
    words = {"group": groups, "pads": [pad] * 4, "dilations": [dilation] * 2}
    layer = qsdk.Layer(
        name="layer", operation="Conv", weight_name="w", shape=shape, stored="float32", nbytes=0,
        attributes=words, input_name="x", read=weight.dequantize,
    )  # fmt: skip
    codes = FixedCodes(scale=1, zero_point=ZERO, scheme=qsdk.Scheme(signed=signed))
    low = -128 if signed else 0
    x = rng.integers(low, low + 256, (2, channels, 9, 9)) - ZERO
    return layer, weight, codes, x.astype(np.float32)


def by_onnxruntime(layer, weight, codes, x) -> np.ndarray:
    """Codes of the result, from QLinearConv."""
    runtime = pytest.importorskip("onnxruntime")
    kind = onnx.TensorProto.INT8 if codes.scheme.signed else onnx.TensorProto.UINT8
    middle = np.array(0 if codes.scheme.signed else 128, codes.scheme.dtype)
    constants = {
        "xs": np.float32(1), "xz": np.array(ZERO, codes.scheme.dtype), "w": weight.codes,
        "ws": np.float32(1), "wz": np.int8(0), "ys": STEP, "yz": middle,
    }  # fmt: skip
    graph = helper.make_graph(
        [helper.make_node("QLinearConv", ["x", *constants], ["y"], **layer.attributes)],
        "one",
        [helper.make_tensor_value_info("x", kind, x.shape)],
        [helper.make_tensor_value_info("y", kind, None)],
        [numpy_helper.from_array(np.asarray(array), name) for name, array in constants.items()],
    )
    model = helper.make_model(
        graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8
    ).SerializeToString()
    options = runtime.SessionOptions()
    options.add_session_config_entry("session.qdqisint8allowed", "1")
    session = runtime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
    (found,) = session.run(None, {"x": (x + ZERO).astype(codes.scheme.dtype)})
    return found


def by_qsdk(layer, weight, codes, x, *, exact: bool) -> np.ndarray:
    """The same, from exact sums and what is said of their losses."""
    columns = input_columns(x, layer)
    rows = weight.dequantize().reshape(len(columns), -1, columns.shape[1])
    sums = rows.astype(np.float64) @ columns
    saturation = Saturation.of(layer, weight, codes)
    if saturation is not None and not exact:
        sums = sums + saturation.losses(x)
    y = np.moveaxis(sums.reshape(layer.shape[0], len(x), *x.shape[2:]), 1, 0)
    low, middle = (-128, 0) if codes.scheme.signed else (0, 128)
    return np.clip(np.rint(y / STEP) + middle, low, low + 255)


@pytest.mark.parametrize("name", CASES)
def test_onnxruntime_loses_that_much(name):
    if not has_pairs():
        pytest.skip("this CPU has VNNI, or no AVX2: onnxruntime does not add pairs in 16 bits")
    given = case(name)
    found = by_onnxruntime(*given)
    assert np.array_equal(found, by_qsdk(*given, exact=False))
    is_exact = np.array_equal(found, by_qsdk(*given, exact=True))
    assert is_exact == (name == "depthwise")


@pytest.mark.parametrize("name", ["3x3", "depthwise"])
def test_signed_inputs_lose_nothing(name):
    given = case(name, signed=True)
    assert Saturation.of(*given[:3]) is None
    assert np.array_equal(by_onnxruntime(*given), by_qsdk(*given, exact=True))


def test_weights_that_cannot_saturate_are_not_looked_at():
    layer, weight, codes, _ = case("3x3")
    assert Saturation.of(layer, weight, codes) is not None
    small = qsdk.Affine.from_codes(
        weight.codes // 2, weight.scale, weight.zero_point, weight.scheme
    )
    assert Saturation.of(layer, small, codes) is None
    assert Saturation.of(layer, weight, None) is None and Saturation.of(layer, None, codes) is None
