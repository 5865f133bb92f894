"""Packing in C, against big integers."""

from __future__ import annotations

import numpy as np
import pytest
from array_oracles import needs_c
from hypothesis import given
from hypothesis import strategies as st

from qsdk import native
from qsdk.errors import NativeError

pytestmark = [needs_c, pytest.mark.usefixtures("instruction_set")]


def pack_oracle(codes, bits):
    stream = sum((code % 2**bits) << (i * bits) for i, code in enumerate(codes))
    return list(stream.to_bytes(-(-len(codes) * bits // 8), "little"))


def codes_of(bits, signed, count):
    dtype = np.int8 if signed else np.uint8
    half = 2**bits // 2 if signed else 0
    rng = np.random.default_rng(count)
    return rng.integers(-half, 2**bits - half, count).astype(dtype)


@pytest.mark.parametrize("signed", [False, True], ids=["unsigned", "signed"])
@pytest.mark.parametrize("bits", range(1, 9))
def test_packed_bytes_are_the_little_endian_stream_and_unpack_to_the_codes(bits, signed):
    for count in range(131):
        codes = codes_of(bits, signed, count)
        packed = native.pack(codes, bits)
        assert packed.tolist() == pack_oracle(codes.tolist(), bits)
        unpacked = native.unpack(packed, count, bits, signed)
        assert unpacked.dtype == codes.dtype
        assert unpacked.tolist() == codes.tolist()


@given(packed=st.binary(max_size=40), bits=st.integers(1, 8))
def test_any_bytes_unpack_and_pack_to_themselves(packed, bits):
    count = len(packed) * 8 // bits
    codes = native.unpack(np.frombuffer(packed, np.uint8), count, bits, signed=False)
    spare = len(packed) * 8 - count * bits
    kept = int.from_bytes(packed, "little") % 2 ** (count * bits)
    assert spare < bits
    assert int.from_bytes(native.pack(codes, bits).tobytes(), "little") == kept


def test_only_the_low_bits_of_a_code_are_packed():
    assert native.pack(np.uint8([0xF1, 0xE2, 0xD3]), bits=4).tolist() == [0x21, 0x03]


def test_four_bits_put_the_first_code_into_the_low_nibble():
    assert native.pack(np.int8([1, -1, 2]), bits=4).tolist() == [0xF1, 0x02]


@pytest.mark.parametrize("bits", range(1, 9))
def test_a_packed_buffer_one_byte_short_is_refused_and_nothing_is_written(bits):
    from qsdk._native import ffi, lib

    for count in (1, 7, 8, 9, 130):
        packed = native.pack(codes_of(bits, False, count), bits)[:-1].copy()
        with pytest.raises(NativeError, match=f"count is {count}; {packed.size} packed"):
            native.unpack(packed, count, bits, signed=False)
        codes = ffi.new("uint8_t[]", b"\x55" * count)
        packed_c = ffi.from_buffer("uint8_t[]", packed)
        assert lib.qsdk_unpack_portable(packed_c, len(packed_c), count, bits, 0, codes) == 1
        assert bytes(codes)[:count] == b"\x55" * count


def test_unpack_in_c_refuses_other_bits_and_a_count_that_would_overflow():
    from qsdk._native import ffi, lib

    packed, codes = ffi.new("uint8_t[]", 8), ffi.new("uint8_t[]", 8)
    for bits in (-1, 0, 9):
        assert lib.qsdk_unpack_portable(packed, 8, 1, bits, 0, codes) == 1
    largest = 2 ** (8 * ffi.sizeof("size_t")) - 1
    for bits in range(1, 9):
        assert lib.qsdk_unpack_portable(packed, 8, largest, bits, 0, codes) == 1


@pytest.mark.parametrize("bits", range(1, 9))
@pytest.mark.parametrize("at", [0, 5, 31, 32, 63, 64, 129])
def test_packing_tells_how_far_codes_reach_above_the_lowest(bits, at):
    codes = np.full(130, -3, np.int8)
    assert native.pack_above(codes, bits, -3)[1] == 0
    codes[at] = 4
    packed, reach = native.pack_above(codes, bits, -3)
    assert reach == 7
    assert packed.tolist() == native.pack(codes, bits).tolist()
    codes[at] = -4  # below the grid
    assert native.pack_above(codes, bits, -3)[1] == 255
