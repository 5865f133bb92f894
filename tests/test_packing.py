"""Codes of any width in a bit stream."""

from __future__ import annotations

import numpy as np
import oracles
import pytest
from hypothesis import given
from hypothesis import strategies as st

from qsdk.encodings import pack, packed_size, unpack
from qsdk.errors import EncodingError

widths = pytest.mark.parametrize("bits", range(1, 9))
signs = pytest.mark.parametrize("signed", [True, False], ids=["signed", "unsigned"])


def codes_of(bits, signed, count, seed=0):
    low = -(2 ** (bits - 1)) if signed else 0
    codes = np.random.default_rng(seed).integers(low, low + 2**bits, count)
    return codes.astype(np.int8 if signed else np.uint8)


@widths
@signs
def test_unpack_inverts_pack_at_every_length(either, bits, signed):
    for count in [*range(36), 63, 64, 65, 1000]:
        codes = codes_of(bits, signed, count, count)
        packed = pack(codes, bits)
        assert packed.dtype == np.uint8 and packed.shape == (packed_size(count, bits),)
        back = unpack(packed, count, bits, signed=signed)
        assert back.dtype == codes.dtype and np.array_equal(back, codes)


@widths
@signs
def test_packed_bytes_are_those_of_one_long_number(either, bits, signed):
    for count in (0, 1, 7, 8, 9, 31, 100):
        codes = codes_of(bits, signed, count)
        assert pack(codes, bits).tolist() == oracles.packed(codes, bits)


@given(data=st.data(), bits=st.integers(1, 8), signed=st.booleans())
def test_c_and_numpy_pack_to_the_same_bytes(data, bits, signed):
    codes = codes_of(bits, signed, data.draw(st.integers(0, 300)))
    here = pack(codes, bits)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("QSDK_DISABLE_NATIVE", "1")
        assert np.array_equal(pack(codes, bits), here)
        assert np.array_equal(unpack(here, len(codes), bits, signed=signed), codes)


@pytest.mark.parametrize(
    ("codes", "bits", "packed"),
    [
        (np.int8([1, -1, 7]), 4, [0xF1, 0x07]),
        (np.uint8([1, 2, 3, 0]), 2, [0b00111001]),
        (np.int8([-2, 1, 0, -1]), 2, [0b11000110]),
        (np.uint8([1, 0, 1, 1, 0, 0, 0, 0, 1]), 1, [0b00001101, 1]),
        (np.uint8([5, 6, 7]), 3, [0b11110101, 0b1]),
        (np.int8([-128, 127]), 8, [0x80, 0x7F]),
    ],
    ids=["int4", "uint2", "int2", "uint1", "uint3", "int8"],
)
def test_bytes_worked_by_hand(either, codes, bits, packed):
    assert pack(codes, bits).tolist() == packed


def test_the_packed_size_is_the_bits_in_whole_bytes():
    assert [packed_size(n, 3) for n in range(10)] == [0, 1, 1, 2, 2, 2, 3, 3, 3, 4]
    assert packed_size(10**12, 4) == 5 * 10**11


def test_codes_of_any_shape_and_layout_are_packed_in_c_order(either):
    codes = codes_of(4, True, 24).reshape(4, 6)
    assert np.array_equal(pack(codes.T, 4), pack(np.ascontiguousarray(codes.T).ravel(), 4))


@pytest.mark.parametrize("count", [5, 9])
def test_a_count_that_does_not_fit_the_bytes_is_refused(either, count):
    with pytest.raises(EncodingError, match=f"{count} codes of 4 bits take .* not uint8"):
        unpack(np.zeros(4, np.uint8), count, 4, signed=True)


def test_packed_bytes_of_another_type_are_refused(either):
    with pytest.raises(EncodingError, match="not int8 of shape"):
        unpack(np.zeros(4, np.int8), 8, 4, signed=True)


@pytest.mark.parametrize("dtype", [np.int16, np.int64, np.float32])
def test_codes_that_are_not_of_one_byte_are_refused(either, dtype):
    with pytest.raises(EncodingError, match=f"codes are {np.dtype(dtype)}; give int8 or uint8"):
        pack(np.zeros(3, dtype), 4)


@pytest.mark.parametrize("bits", [0, 9, -1])
def test_widths_that_do_not_exist_are_refused(either, bits):
    with pytest.raises(EncodingError, match=f"bits is {bits}; codes have 1 to 8"):
        pack(np.zeros(3, np.int8), bits)
    with pytest.raises(EncodingError, match=f"bits is {bits}; codes have 1 to 8"):
        unpack(np.zeros(3, np.uint8), 3, bits, signed=True)


def test_a_read_only_stream_of_any_layout_unpacks(either):
    stream = np.repeat(pack(codes_of(4, True, 40), 4), 2)[::2]
    stream.flags.writeable = False
    assert np.array_equal(unpack(stream, 40, 4, signed=True), codes_of(4, True, 40))
