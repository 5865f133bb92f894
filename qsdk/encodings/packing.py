"""Codes of any width in a little-endian bit stream: code i lies at bits [i*bits, (i+1)*bits).

4 bits put the first code into the low nibble and 2 bits four codes into a byte, low ones
first: the layouts of ONNX INT4 and INT2.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from qsdk import native
from qsdk.errors import EncodingError


def packed_size(count: int, bits: int) -> int:
    """Bytes that ``count`` codes of ``bits`` bits take."""
    return (count * bits + 7) // 8


def pack(codes: NDArray[Any], bits: int) -> NDArray[np.uint8]:
    """The low ``bits`` of each int8 or uint8 code, one after the other.

    >>> pack(np.int8([1, -1, 7]), 4).tolist()  # 0x1, 0xf | 0x7
    [241, 7]
    """
    _check_bits(bits)
    if codes.dtype not in (np.int8, np.uint8):
        raise EncodingError(f"codes are {codes.dtype}; give int8 or uint8, one code each")
    flat = np.ascontiguousarray(codes).ravel()
    if native.available():
        return native.pack(flat, bits)
    bytes_ = flat.view(np.uint8)[:, None]
    stream = np.unpackbits(bytes_, axis=1, count=bits, bitorder="little")
    return np.packbits(stream, bitorder="little")


def pack_on_grid(codes: NDArray[Any], bits: int, qmin: int, qmax: int) -> NDArray[np.uint8] | None:
    """:func:`pack` of codes that all lie on the grid ``qmin`` to ``qmax``; else None.

    >>> pack_on_grid(np.int8([1, -1, 7]), 4, -8, 6) is None
    True
    """
    if codes.size and native.available():
        flat = np.ascontiguousarray(codes).reshape(-1)
        packed, reach = native.pack_above(flat, bits, qmin)
        return packed if reach <= qmax - qmin else None
    if codes.size and not (qmin <= codes.min() and codes.max() <= qmax):
        return None
    return pack(codes, bits)


def unpack(packed: NDArray[np.uint8], count: int, bits: int, *, signed: bool) -> NDArray[Any]:
    """The inverse of :func:`pack`: ``count`` codes, int8 when signed, else uint8."""
    _check_bits(bits)
    if packed.dtype != np.uint8 or packed.shape != (packed_size(count, bits),):
        raise EncodingError(
            f"{count} codes of {bits} bits take {packed_size(count, bits)} bytes of uint8, "
            f"not {packed.dtype} of shape {packed.shape}"
        )
    if native.available():
        return native.unpack(np.ascontiguousarray(packed), count, bits, signed)
    stream = np.unpackbits(packed, count=count * bits, bitorder="little").reshape(count, bits)
    codes = np.packbits(stream, axis=1, bitorder="little").reshape(count)
    if not signed:
        return codes
    sign = np.uint8(1 << (bits - 1))
    return ((codes ^ sign).astype(np.int16) - sign).astype(np.int8)


def _check_bits(bits: int) -> None:
    if not 1 <= bits <= 8:
        raise EncodingError(f"bits is {bits}; codes have 1 to 8 bits")
