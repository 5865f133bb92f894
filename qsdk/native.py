"""The one door to C for qsdk and its built-ins: checks dtype, shape, contiguity.

What each function computes is stated, to the bit, in ``native/qsdk_native.h``; which instruction
set computes it makes no difference but the time. Values are not checked: the caller sees to it
that arrays are finite, scales positive, zero points on the grid.
``QSDK_DISABLE_NATIVE=1`` switches C off, at any time, and ``QSDK_DISABLE_CPU_FEATURES`` a set.
"""

from __future__ import annotations

import functools
import importlib
import os
from typing import Any

import attrs
import numpy as np
from numpy.typing import NDArray

from qsdk.errors import NativeError

Codes = NDArray[np.int8] | NDArray[np.uint8]

_INT8, _UINT8, _UINT32 = np.dtype(np.int8), np.dtype(np.uint8), np.dtype(np.uint32)
_INT32, _INT64, _UINT64 = np.dtype(np.int32), np.dtype(np.int64), np.dtype(np.uint64)
_FLOAT32 = np.dtype(np.float32)
_C_TYPES = {
    _INT8: "uint8_t[]",  # C stores the low byte of a code
    _UINT8: "uint8_t[]",
    _INT32: "int32_t[]",
    _UINT32: "uint32_t[]",
    _INT64: "int64_t[]",
    _UINT64: "uint64_t[]",
    _FLOAT32: "float[]",
}


def available() -> bool:
    """True when the functions below can run."""
    return not reason()


def reason() -> str:
    """Why they cannot; empty when they can."""
    if os.environ.get("QSDK_DISABLE_NATIVE") == "1":
        return "switched off by QSDK_DISABLE_NATIVE"
    return _extension()[1]


def library() -> Any:
    """The compiled module, with its ``ffi`` and ``lib``, for the kernels that are in it.

    Raises NativeError with the reason when there is none to use.
    """
    return _native()


def cpu_features() -> list[str]:
    """Names of the CPU features that are there and usable, as ``native/cpu`` finds them."""
    module = _native()
    mask = module.lib.qsdk_cpu_features()
    names: list[str] = []
    while (name := module.lib.qsdk_cpu_feature_name(len(names))) != module.ffi.NULL:
        names.append(module.ffi.string(name).decode())
    return [name for bit, name in enumerate(names) if mask >> bit & 1]


def array_sets() -> dict[str, frozenset[str]]:
    """The sets of functions that this build has, the fastest first, and the features each needs."""
    return {name: features for name, features, _ in _sets(_native())}


def array_set() -> str:
    """Which of them the functions below call: the first whose features may all be used."""
    return str(_native().ffi.string(_arrays().name).decode())


def pack(codes: Codes, bits: int) -> NDArray[np.uint8]:
    """The low ``bits`` of every code as a little-endian bit stream, like ONNX INT4 and INT2.

    codes : int8 or uint8, (count,)
    bits : 1 to 8
    Returns uint8, (ceil(count * bits / 8),); the bits left over in the last byte are 0.
    """
    return pack_above(codes, bits, 0)[0]


def pack_above(codes: Codes, bits: int, qmin: int) -> tuple[NDArray[np.uint8], int]:
    """:func:`pack`, and how far above ``qmin`` codes reach: to 255 where one is below it."""
    _check("codes", codes, (_INT8, _UINT8), "count")
    _check_bits(bits)
    packed = np.empty((codes.size * bits + 7) // 8, np.uint8)
    reach = _arrays().pack(_pointer(codes), codes.size, bits, qmin & 255, _pointer(packed))
    return packed, reach


def unpack(packed: NDArray[np.uint8], count: int, bits: int, signed: bool) -> Codes:
    """The ``count`` codes that were packed.

    packed : uint8, (nbytes,); bytes after the last code are ignored
    Returns int8 if ``signed`` else uint8, (count,).
    Raises NativeError when ``packed`` is too short for ``count`` codes.
    """
    _check("packed", packed, (_UINT8,), "nbytes")
    _check_bits(bits)
    most = packed.size * 8 // bits
    if not 0 <= count <= most:
        raise NativeError(
            f"count is {count}; {packed.size} packed bytes hold 0 to {most} codes of {bits} bits"
        )
    codes = _empty_codes(count, signed)
    _arrays().unpack(_pointer(packed), packed.size, count, bits, signed, _pointer(codes))
    return codes


def range_rows(
    rows: NDArray[np.float32],
) -> tuple[NDArray[np.float32], NDArray[np.float32], bool]:
    """The least and the greatest value of each row, and whether all values are finite.

    rows : float32, (rows, length); of no length: the ends are infinity and minus infinity
    Returns two float32 (rows,). In a row with NaN they may be any two of its other values.
    """
    _check("rows", rows, (_FLOAT32,), "rows", "length")
    low, high = np.empty(len(rows), np.float32), np.empty(len(rows), np.float32)
    finite = _arrays().range_rows(_pointer(rows), *rows.shape, _pointer(low), _pointer(high))
    return low, high, bool(finite)


def grid_rows(
    low: NDArray[np.float32],
    high: NDArray[np.float32],
    qmin: int,
    qmax: int,
    symmetric: bool,
) -> tuple[NDArray[np.float32], NDArray[np.int32]]:
    """``scale_and_zero_point`` of ranges ``low`` to ``high``, float32 (rows,), finite."""
    _check("low", low, (_FLOAT32,), "rows")
    _check("high", high, (_FLOAT32,), len(low))
    scale, zero_point = np.empty(len(low), np.float32), np.empty(len(low), np.int32)
    _native().lib.qsdk_grid_rows_portable(
        _pointer(low), _pointer(high), len(low), qmin, qmax, symmetric,
        _pointer(scale), _pointer(zero_point),
    )  # fmt: skip
    return scale, zero_point


def quantize_rows(
    rows: NDArray[np.float32],
    scale: NDArray[np.float32],
    zero_point: NDArray[np.int32],
    qmin: int,
    qmax: int,
) -> Codes:
    """``clip(rint(rows / scale) + zero_point, qmin, qmax)``, each row with its own scale.

    rows : float32, (rows, length)
    scale : float32, (rows,)
    zero_point : int32, (rows,)
    qmin, qmax : the grid, within -128..127 or 0..255
    Returns int8 if ``qmin < 0`` else uint8, shape of ``rows``.
    """
    _check_rows(rows, scale, zero_point, qmin, qmax)
    codes = _empty_codes(rows.shape, qmin < 0)
    _arrays().quantize_rows(
        _pointer(rows), *rows.shape, _pointer(scale), _pointer(zero_point), qmin, qmax,
        _pointer(codes),
    )  # fmt: skip
    return codes


def dequantize_rows(
    codes: Codes, scale: NDArray[np.float32], zero_point: NDArray[np.int32]
) -> NDArray[np.float32]:
    """``scale * (codes - zero_point)`` in float32, each row with its own scale.

    codes : int8 or uint8, (rows, length)
    scale, zero_point : float32 and int32, (rows,)
    """
    _check("codes", codes, (_INT8, _UINT8), "rows", "length")
    _check("scale", scale, (_FLOAT32,), len(codes))
    _check("zero_point", zero_point, (_INT32,), len(codes))
    values = np.empty(codes.shape, np.float32)
    _arrays().dequantize_rows(
        _pointer(codes), *codes.shape, _pointer(scale), _pointer(zero_point),
        codes.dtype == _INT8, _pointer(values),
    )  # fmt: skip
    return values


def decode_rows(
    packed: NDArray[np.uint8],
    length: int,
    bits: int,
    signed: bool,
    scale: NDArray[np.float32],
    zero_point: NDArray[np.int32],
) -> NDArray[np.float32]:
    """``unpack`` and ``dequantize_rows`` in one, of as many rows as there are scales.

    packed : uint8, (nbytes,), the codes of all rows without a gap
    length : of a row
    Returns float32, (rows, length). Raises NativeError when ``packed`` has another size.
    """
    count = len(scale)
    _check_bits(bits)
    _check("packed", packed, (_UINT8,), (count * max(length, 0) * bits + 7) // 8)
    _check("scale", scale, (_FLOAT32,), "rows")
    _check("zero_point", zero_point, (_INT32,), count)
    values = np.empty((count, length), np.float32)
    scratch = np.empty(_native().lib.QSDK_DECODE, np.uint8)
    _native().lib.qsdk_decode_rows_portable(
        _arrays(), _pointer(packed), count, length, bits, signed,
        _pointer(scale), _pointer(zero_point), _pointer(scratch), _pointer(values),
    )  # fmt: skip
    return values


def requantize_rows(
    accumulator: NDArray[np.int32],
    mantissa: NDArray[np.int32],
    shift: NDArray[np.int32],
    zero_point: int,
    qmin: int,
    qmax: int,
) -> Codes:
    """``clip(zero_point + requantize(accumulator, mantissa, shift), qmin, qmax)``, row by row.

    accumulator : int32, (rows, length)
    mantissa, shift : int32, (rows,), as ``qsdk.fixed_multiplier`` gives them
    Returns int8 if ``qmin < 0`` else uint8, shape of ``accumulator``.
    """
    _check("accumulator", accumulator, (_INT32,), "rows", "length")
    _check("mantissa", mantissa, (_INT32,), len(accumulator))
    _check("shift", shift, (_INT32,), len(accumulator))
    _check_grid(qmin, qmax)
    if not qmin <= zero_point <= qmax:
        raise NativeError(f"zero_point is {zero_point}; the grid is {qmin}..{qmax}")
    codes = _empty_codes(accumulator.shape, qmin < 0)
    _arrays().requantize_rows(
        _pointer(accumulator), *accumulator.shape, _pointer(mantissa), _pointer(shift),
        zero_point, qmin, qmax, _pointer(codes),
    )  # fmt: skip
    return codes


def squared_error_rows(
    rows: NDArray[np.float32],
    scale: NDArray[np.float32],
    zero_point: NDArray[np.int32],
    qmin: int,
    qmax: int,
) -> NDArray[np.int64]:
    """What ``quantize_rows`` with the same arguments gets wrong, in 2**-20 squared steps per row.

    Returns int64, (rows,). A value further than 1024 steps outside the grid counts as that far.
    """
    _check_rows(rows, scale, zero_point, qmin, qmax)
    error = np.empty(len(rows), np.int64)
    _arrays().squared_error_rows(
        _pointer(rows), *rows.shape, _pointer(scale), _pointer(zero_point), qmin, qmax,
        _pointer(error),
    )  # fmt: skip
    return error


MOST_BINS = 2**20  # on each side of zero, that a histogram in C may have


@attrs.frozen(eq=False)
class Histogram:
    """How often values lie in equal bins over ``[-2**exponent, 2**exponent)``.

    low, high : the least and the greatest; infinity and minus infinity of no values
    exponent : as small as it can be; None where there is nothing but zeros
    zeros : values that are 0, which are in no bin
    counts : int64, (2 * bins,)
    """

    low: float
    high: float
    exponent: int | None
    zeros: int
    counts: NDArray[np.int64]


def histogram(values: NDArray[np.float32], bins: int) -> Histogram | None:
    """The values at ``floor(x * bins / 2**exponent) + bins``, as if the product were exact.

    values : float32, (n,)
    bins : on each side of zero, a power of two from 2 to MOST_BINS
    None if a value is not finite. Memory is read once.
    """
    _check("values", values, (_FLOAT32,), "n")
    if not 2 <= bins <= MOST_BINS or bins & (bins - 1):
        raise NativeError(f"bins is {bins}; give a power of two from 2 to {MOST_BINS}")
    tables, counts = np.empty(4 * (2 * bins + 1), np.uint32), np.empty(2 * bins, np.int64)
    seen = _native().ffi.new("struct qsdk_histogram *")
    if not _native().lib.qsdk_histogram_portable(
        _arrays(), _pointer(values), values.size, bins, _pointer(tables), _pointer(counts), seen
    ):
        return None
    exponent = None if seen.exponent == np.iinfo(np.int32).min else seen.exponent
    return Histogram(seen.low, seen.high, exponent, seen.zeros, counts)


def squant(
    rows: NDArray[np.float32],
    kernel_size: int,
    scale: NDArray[np.float32],
    zero_point: NDArray[np.int32],
    qmin: int,
    qmax: int,
    *,
    stage_k: bool,
    stage_c: bool,
) -> Codes:
    """SQuant codes (arXiv:2202.07471): ``quantize_rows``, then a few codes moved by one step.

    rows : float32, (rows, kernels * kernel_size); the rest as in ``quantize_rows``
    stage_k : let the errors of every kernel nearly cancel; no effect if ``kernel_size`` is 1
    stage_c : let those of every row nearly cancel
    """
    _check_rows(rows, scale, zero_point, qmin, qmax)
    length = rows.shape[1]
    _check_kernels(length, kernel_size)
    codes = _empty_codes(rows.shape, qmin < 0)
    scratch = np.empty(length, np.int32)
    _arrays().squant(
        _pointer(rows), len(rows), length // kernel_size, kernel_size,
        _pointer(scale), _pointer(zero_point), qmin, qmax,
        stage_k, stage_c, _pointer(scratch), _pointer(codes),
    )  # fmt: skip
    return codes


def encode_rows(
    rows: NDArray[np.float32],
    kernel_size: int,
    bits: int,
    qmin: int,
    qmax: int,
    *,
    symmetric: bool,
    stage_k: bool,
    stage_c: bool,
) -> tuple[NDArray[np.float32], NDArray[np.int32], NDArray[np.uint8]] | None:
    """``range_rows``, ``grid_rows``, ``squant`` and ``pack`` in one, which reads memory once.

    Without stages the codes are those of ``quantize_rows``.
    Returns scale, zero_point and packed codes; None if a value is not finite.
    """
    _check("rows", rows, (_FLOAT32,), "rows", "length")
    _check_grid(qmin, qmax)
    _check_bits(bits)
    count, length = rows.shape
    _check_kernels(length, kernel_size)
    block = _block(length, bits)
    scale, zero_point = np.empty(count, np.float32), np.empty(count, np.int32)
    packed = np.empty((rows.size * bits + 7) // 8, np.uint8)
    errors, codes = np.empty(length, np.int32), np.empty(block * length, np.uint8)
    finite = _native().lib.qsdk_encode_rows_portable(
        _arrays(), _pointer(rows), count, length // kernel_size, kernel_size,
        bits, qmin, qmax, symmetric, stage_k, stage_c, block, _pointer(errors), _pointer(codes),
        _pointer(scale), _pointer(zero_point), _pointer(packed),
    )  # fmt: skip
    return (scale, zero_point, packed) if finite else None


# Sets of native/sign_codes, the fastest first, and the features each needs.
SIGN_SETS = {
    "avx512bw": frozenset({"avx512bw", "avx512dq"}),
    "avx2": frozenset({"avx2"}),
    "neon": frozenset({"neon"}),
    "portable": frozenset[str](),
}


def sign_codes(
    rows: NDArray[np.float32],
    bits: int,
    start: int,
    *,
    nearest: bool,
    cycles: int,
    final: bool,
    threads: int,
) -> tuple[NDArray[np.float32], NDArray[np.uint64]]:
    """Alphas (bits, rows) and planes of signs (bits, rows, words): ``SignCoder.code``.

    rows : float32, (rows, length)
    start : 0 greedy, 1 refined, 2 uniform
    """
    _check("rows", rows, (_FLOAT32,), "rows", "length")
    _check_bits(bits)
    count, length = rows.shape
    alpha = np.empty((bits, count), np.float32)
    planes = np.empty((bits, count, -(-length // 64)), np.uint64)
    how = _native().ffi.new("qsdk_sign_how *", [bits, start, nearest, cycles, final])
    _native().lib.qsdk_sign_codes_rows(
        _sign_set(_native(), os.environ.get("QSDK_DISABLE_CPU_FEATURES", "")),
        _pointer(rows), count, length, how, _pointer(alpha), _pointer(planes), threads,
    )  # fmt: skip
    return alpha, planes


@functools.cache
def _sign_set(module: Any, disabled: str) -> Any:
    from qsdk import cpu  # which asks this module for what it finds

    usable = cpu.features()
    named = [name for name, features in SIGN_SETS.items() if features <= usable]
    found = [module.lib.qsdk_sign_codes_find(name.encode()) for name in named]
    return next(table for table in found if table)


def _block(length: int, bits: int) -> int:
    """Rows at a time: 256 KB of floats, less than a core's own cache, and whole bytes of codes."""
    block = min(64, max(1, 2**16 // max(length, 1)))
    return block if block * length * bits % 8 == 0 else (block + 7) // 8 * 8


@functools.cache
def _extension() -> tuple[Any, str]:
    """The compiled module and "", or None and why it did not load."""
    try:
        return importlib.import_module("qsdk._native"), ""
    except ImportError as error:
        return None, str(error)


def _native() -> Any:
    """The extension, or NativeError with the reason why there is none to use."""
    if why := reason():
        raise NativeError(f"the C extension is asked for but not available: {why}")
    return _extension()[0]


def _arrays() -> Any:
    """The functions of the set to use."""
    return _chosen(_native(), os.environ.get("QSDK_DISABLE_CPU_FEATURES", ""))


@functools.cache
def _chosen(module: Any, disabled: str) -> Any:
    from qsdk import cpu  # which asks this module for what it finds

    usable = cpu.features()
    return next(functions for _, features, functions in _sets(module) if features <= usable)


@functools.cache
def _sets(module: Any) -> list[tuple[str, frozenset[str], Any]]:
    found: list[tuple[str, frozenset[str], Any]] = []
    while (functions := module.lib.qsdk_arrays(len(found))) != module.ffi.NULL:
        name, words = (
            module.ffi.string(text).decode() for text in (functions.name, functions.features)
        )
        found.append((name, frozenset(words.split()), functions))
    return found


def _pointer(array: NDArray[Any]) -> Any:
    """Where C finds the data of a checked array; keeps the array alive."""
    return _extension()[0].ffi.from_buffer(_C_TYPES[array.dtype], array)


def _empty_codes(shape: int | tuple[int, ...], signed: bool) -> Codes:
    return np.empty(shape, np.int8) if signed else np.empty(shape, np.uint8)


def _check(name: str, array: object, dtypes: tuple[np.dtype[Any], ...], *shape: int | str) -> None:
    """Refuse all but a C-contiguous array of ``shape``, where a word stands for any length."""
    given = f"a {type(array).__name__}"
    if isinstance(array, np.ndarray):
        contiguous = array.flags.c_contiguous
        if contiguous and array.dtype in dtypes and len(shape) == array.ndim:
            for have, want in zip(array.shape, shape, strict=True):
                if have != want and not isinstance(want, str):
                    break
            else:
                return
        layout = "" if contiguous else ", not C-contiguous"
        given = f"{array.dtype} of shape {array.shape}{layout}"
    names = " or ".join(dtype.name for dtype in dtypes)
    lengths = ", ".join(map(str, shape))
    raise NativeError(f"{name} is {given}; give a C-contiguous {names} array of shape [{lengths}]")


def _check_bits(bits: int) -> None:
    if not 1 <= bits <= 8:
        raise NativeError(f"bits is {bits}; codes have 1 to 8 bits")


def _check_rows(
    rows: NDArray[Any], scale: object, zero_point: object, qmin: int, qmax: int
) -> None:
    _check("rows", rows, (_FLOAT32,), "rows", "length")
    _check("scale", scale, (_FLOAT32,), len(rows))
    _check("zero_point", zero_point, (_INT32,), len(rows))
    _check_grid(qmin, qmax)


def _check_kernels(length: int, kernel_size: int) -> None:
    if kernel_size < 1 or length % kernel_size or length >= 2**31:
        raise NativeError(
            f"rows have {length} values; give kernels of {kernel_size}, fewer than 2**31 in all"
        )


def _check_grid(qmin: int, qmax: int) -> None:
    if not (-128 <= qmin <= qmax <= 127 or 0 <= qmin <= qmax <= 255):
        raise NativeError(f"the grid is {qmin}..{qmax}; it must lie within -128..127 or 0..255")
