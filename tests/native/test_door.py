"""What the door to C refuses, and what it says."""

from __future__ import annotations

import numpy as np
import pytest
from array_oracles import needs_c, rows_of

from qsdk import native
from qsdk.errors import NativeError

pytestmark = needs_c


def good(**replaced):
    arguments = {
        "rows": np.zeros((2, 6), np.float32),
        "scale": np.ones(2, np.float32),
        "zero_point": np.zeros(2, np.int32),
        "qmin": -8,
        "qmax": 7,
    }
    return arguments | replaced


@pytest.mark.parametrize(
    ("replaced", "message"),
    [
        ({"rows": [[1.0]]}, r"rows is a list; give a C-contiguous float32 array"),
        ({"rows": np.zeros((2, 6))}, r"rows is float64 of shape \(2, 6\); give"),
        ({"rows": np.zeros((2, 6), ">f4")}, r"rows is >f4 of shape"),
        ({"rows": np.zeros(6, np.float32)}, r"shape \(6,\); .* of shape \[rows, length\]"),
        ({"rows": np.zeros((6, 2), np.float32).T}, r"not C-contiguous; give"),
        ({"rows": np.zeros((2, 12), np.float32)[:, ::2]}, r"not C-contiguous; give"),
        ({"scale": np.ones(3, np.float32)}, r"scale is float32 of shape \(3,\); .* \[2\]"),
        ({"scale": np.ones((2, 1), np.float32)}, r"scale is float32 of shape \(2, 1\)"),
        ({"scale": np.ones(2)}, r"scale is float64"),
        ({"zero_point": np.zeros(2, np.int64)}, r"zero_point is int64 .* int32"),
        ({"qmin": -129}, r"grid is -129..7; it must lie within -128..127 or 0..255"),
        ({"qmin": -8, "qmax": 128}, r"grid is -8..128"),
        ({"qmin": 0, "qmax": 256}, r"grid is 0..256"),
        ({"qmin": 3, "qmax": 2}, r"grid is 3..2"),
    ],
)
def test_rows_that_c_cannot_take_are_refused_with_what_was_given(replaced, message):
    for function, more in (
        (native.quantize_rows, {}),
        (native.squared_error_rows, {}),
        (native.squant, {"kernel_size": 3, "stage_k": True, "stage_c": True}),
    ):
        with pytest.raises(NativeError, match=message):
            function(**good(**replaced), **more)


@pytest.mark.parametrize("kernel_size", [-3, 0, 4, 7])
def test_kernels_that_do_not_divide_a_row_are_refused(kernel_size):
    with pytest.raises(NativeError, match=f"have 6 values; give kernels of {kernel_size}"):
        native.squant(**good(), kernel_size=kernel_size, stage_k=True, stage_c=True)


def test_rows_too_long_for_squant_are_refused():
    endless = good(
        rows=np.zeros((0, 2**31), np.float32),
        scale=np.ones(0, np.float32),
        zero_point=np.zeros(0, np.int32),
    )
    with pytest.raises(NativeError, match="have 2147483648 values"):
        native.squant(**endless, kernel_size=1, stage_k=True, stage_c=True)


def test_codes_that_c_cannot_take_are_refused_with_what_was_given():
    with pytest.raises(NativeError, match=r"codes is int64 .* int8 or uint8 array"):
        native.pack(np.zeros(3, np.int64), 4)
    with pytest.raises(NativeError, match=r"codes is int8 of shape \(1, 3\)"):
        native.pack(np.zeros((1, 3), np.int8), 4)
    with pytest.raises(NativeError, match=r"packed is int8 .* uint8 array"):
        native.unpack(np.zeros(3, np.int8), 1, 4, signed=True)
    for bits in (0, 9):
        with pytest.raises(NativeError, match=f"bits is {bits}; codes have 1 to 8"):
            native.pack(np.zeros(3, np.int8), bits)
        with pytest.raises(NativeError, match=f"bits is {bits}; codes have 1 to 8"):
            native.unpack(np.zeros(3, np.uint8), 1, bits, signed=False)
    with pytest.raises(NativeError, match="count is -1; 3 packed bytes hold 0 to 6 codes of 4"):
        native.unpack(np.zeros(3, np.uint8), -1, 4, signed=False)


def test_what_c_cannot_decode_or_requantize_is_refused_with_what_was_given():
    codes, scale, zero = np.zeros((2, 6), np.int8), np.ones(2, np.float32), np.zeros(2, np.int32)
    with pytest.raises(NativeError, match=r"codes is int16 .* int8 or uint8 array"):
        native.dequantize_rows(codes.astype(np.int16), scale, zero)
    with pytest.raises(NativeError, match=r"scale is float32 of shape \(1,\); .* \[2\]"):
        native.dequantize_rows(codes, scale[:1], zero)
    with pytest.raises(NativeError, match=r"packed is uint8 of shape \(5,\); .* \[6\]"):
        native.decode_rows(np.zeros(5, np.uint8), 6, 4, True, scale, zero)
    with pytest.raises(NativeError, match="bits is 9; codes have 1 to 8"):
        native.decode_rows(np.zeros(6, np.uint8), 6, 9, True, scale, zero)
    sums = np.zeros((2, 6), np.int32)
    with pytest.raises(NativeError, match="accumulator is int64"):
        native.requantize_rows(sums.astype(np.int64), zero, zero, 0, -128, 127)
    with pytest.raises(NativeError, match=r"shift is int32 of shape \(1,\)"):
        native.requantize_rows(sums, zero, zero[:1], 0, -128, 127)
    with pytest.raises(NativeError, match=r"zero_point is 200; the grid is -128..127"):
        native.requantize_rows(sums, zero, zero, 200, -128, 127)


def test_inputs_stay_as_they_were_and_may_be_read_only():
    rows, scale, zero_point = rows_of("normal", (2, 18), -8, 7)
    before = rows.copy()
    for array in (rows, scale, zero_point):
        array.flags.writeable = False
    native.squant(rows, 9, scale, zero_point, -8, 7, stage_k=True, stage_c=True)
    assert (rows == before).all()


def test_the_environment_switches_c_off_and_the_error_says_so(monkeypatch):
    assert native.available() and native.reason() == ""
    monkeypatch.setenv("QSDK_DISABLE_NATIVE", "1")
    assert not native.available()
    with pytest.raises(NativeError, match="not available: switched off by QSDK_DISABLE_NATIVE"):
        native.pack(np.zeros(3, np.int8), 4)


def test_an_extension_that_does_not_load_leaves_its_reason(monkeypatch):
    def fails(name):
        raise ImportError(f"no module named {name!r}, for the test")

    monkeypatch.setattr(native.door.importlib, "import_module", fails)
    native.door.loaded.cache_clear()
    try:
        assert native.reason() == "no module named 'qsdk._native', for the test"
        with pytest.raises(NativeError, match="for the test"):
            native.pack(np.zeros(3, np.int8), 4)
    finally:
        native.door.loaded.cache_clear()


@pytest.mark.parametrize("bits", range(1, 9))
@pytest.mark.parametrize(
    "shape", [(3, 9), (70, 18), (65, 63), (20, 2997), (2, 90_000), (0, 9), (5, 0)]
)
def test_one_call_encodes_as_the_calls_that_it_is_made_of(shape, bits):
    rows = np.random.default_rng(bits).standard_normal(shape).astype(np.float32)
    qmin, qmax = -(2 ** (bits - 1)), 2 ** (bits - 1) - 1
    stages = {"stage_k": True, "stage_c": True}
    encoded = native.encode_rows(rows, 9, bits, qmin, qmax, symmetric=False, **stages)
    low, high, _ = native.range_rows(rows)
    if rows.size:
        scale, zero_point = native.grid_rows(low, high, qmin, qmax, symmetric=False)
        codes = native.squant(rows, 9, scale, zero_point, qmin, qmax, **stages)
        for one, other in zip(
            encoded, (scale, zero_point, native.pack(codes.ravel(), bits)), strict=True
        ):
            assert one.tobytes() == other.tobytes()
        rows[-1, -1] = np.nan
        assert native.encode_rows(rows, 9, bits, qmin, qmax, symmetric=False, **stages) is None
    else:
        assert encoded[2].size == 0 and len(encoded[0]) == shape[0]
