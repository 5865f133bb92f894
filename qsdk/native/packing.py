"""Codes as a stream of bits."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from qsdk.errors import NativeError
from qsdk.native.arguments import INT8, UINT8, Codes, check, check_bits, empty_codes, pointer
from qsdk.native.door import functions


def pack(codes: Codes, bits: int) -> NDArray[np.uint8]:
    """The low ``bits`` of every code as a little-endian bit stream, like ONNX INT4 and INT2.

    codes : int8 or uint8, (count,)
    bits : 1 to 8
    Returns uint8, (ceil(count * bits / 8),); the bits left over in the last byte are 0.
    """
    return pack_above(codes, bits, 0)[0]


def pack_above(codes: Codes, bits: int, qmin: int) -> tuple[NDArray[np.uint8], int]:
    """:func:`pack`, and how far above ``qmin`` codes reach: to 255 where one is below it."""
    check("codes", codes, (INT8, UINT8), "count")
    check_bits(bits)
    packed = np.empty((codes.size * bits + 7) // 8, np.uint8)
    reach = functions().pack(pointer(codes), codes.size, bits, qmin & 255, pointer(packed))
    return packed, reach


def unpack(packed: NDArray[np.uint8], count: int, bits: int, signed: bool) -> Codes:
    """The ``count`` codes that were packed.

    packed : uint8, (nbytes,); bytes after the last code are ignored
    Returns int8 if ``signed`` else uint8, (count,).
    Raises NativeError when ``packed`` is too short for ``count`` codes.
    """
    check("packed", packed, (UINT8,), "nbytes")
    check_bits(bits)
    most = packed.size * 8 // bits
    if not 0 <= count <= most:
        raise NativeError(
            f"count is {count}; {packed.size} packed bytes hold 0 to {most} codes of {bits} bits"
        )
    codes = empty_codes(count, signed)
    functions().unpack(pointer(packed), packed.size, count, bits, signed, pointer(codes))
    return codes
