"""Intel MKL through the C door of its runtime library; weights packed once where it can."""

from __future__ import annotations

import contextlib
import ctypes
import ctypes.util
import sys
from collections.abc import Iterable, Iterator
from functools import cached_property
from importlib import metadata
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from qsdk.bench.peers.base import FLOAT, SAME, Candidate, Peer
from qsdk.bench.timing import Call
from qsdk.bench.works import Product

# Constants of mkl_cblas.h.
ROW_MAJOR, PLAIN, TRANSPOSED, PACKED = 101, 111, 112, 151
B_MATRIX, FIXED_OFFSET = 162, 173
PAGE = 4096


class Mkl(Peer):
    name: ClassVar[str] = "mkl"

    def version(self) -> str:
        text = ctypes.create_string_buffer(200)
        self._library.mkl_get_version_string(text, len(text))
        words = text.value.decode().split()
        numbers = [word for word in words if word[:1].isdigit()]
        return numbers[0].split("-")[0] if numbers else " ".join(words)

    @cached_property
    def _library(self) -> Any:
        for name in _names():
            with contextlib.suppress(OSError):
                library = ctypes.CDLL(name)
                library.MKL_Set_Num_Threads(self.threads)
                return library
        raise OSError("no library mkl_rt; type: pip install mkl")

    def product(self, work: Product) -> Iterable[Candidate]:
        if work.m == 1:
            yield Candidate("sgemv", FLOAT, lambda: self._sgemv(work))
        yield Candidate("sgemm", FLOAT, lambda: self._sgemm(work))
        yield Candidate("sgemm packed", FLOAT, lambda: self._sgemm_packed(work))

    def int8(self, work: Product, output: str) -> Iterable[Candidate]:
        if output == "int32":
            yield Candidate("gemm_s8u8s32", SAME, lambda: self._gemm_int8(work))
            yield Candidate("gemm_s8u8s32 packed", SAME, lambda: self._gemm_int8_packed(work))

    def _sgemv(self, work: Product) -> Call:
        x, w, y = work.x, work.w, np.empty(work.out_shape, np.float32)
        return _Call(self._library.cblas_sgemv, ROW_MAJOR, PLAIN, work.n, work.k, 1.0, w, work.k,
                     x, 1, 0.0, y, 1)  # fmt: skip

    def _sgemm(self, work: Product) -> Call:
        x, w, y = work.x, work.w, np.empty(work.out_shape, np.float32)
        return _Call(self._library.cblas_sgemm, ROW_MAJOR, PLAIN, TRANSPOSED, work.m, work.n,
                     work.k, 1.0, x, work.k, w, work.k, 0.0, y, work.n)  # fmt: skip

    def _sgemm_packed(self, work: Product) -> Call:
        x, w, y = work.x, work.w, np.empty(work.out_shape, np.float32)
        packed = self._room("cblas_sgemm_pack_get_size", work)
        _Call(self._library.cblas_sgemm_pack, ROW_MAJOR, B_MATRIX, TRANSPOSED, work.m, work.n,
              work.k, 1.0, w, work.k, packed)()  # fmt: skip
        return _Call(self._library.cblas_sgemm_compute, ROW_MAJOR, PLAIN, PACKED, work.m, work.n,
                     work.k, x, work.k, packed, work.n, 0.0, y, work.n)  # fmt: skip

    def _gemm_int8(self, work: Product) -> Call:
        return self._int8_call("cblas_gemm_s8u8s32", PLAIN, work, work.codes_w)

    def _gemm_int8_packed(self, work: Product) -> Call:
        packed = self._room("cblas_gemm_s8u8s32_pack_get_size", work)
        _Call(self._library.cblas_gemm_s8u8s32_pack, ROW_MAJOR, B_MATRIX, PLAIN, work.m, work.n,
              work.k, work.codes_w, work.n, packed)()  # fmt: skip
        return self._int8_call("cblas_gemm_s8u8s32_compute", PACKED, work, packed)

    def _int8_call(self, function: str, form: int, work: Product, w: NDArray[Any]) -> Call:
        none, y = ctypes.c_byte(0), np.empty(work.out_shape, np.int32)
        return _Call(getattr(self._library, function), ROW_MAJOR, PLAIN, form, FIXED_OFFSET,
                     work.m, work.n, work.k, 1.0, work.codes_x, work.k, none, w, work.n, none,
                     0.0, y, work.n, np.zeros(1, np.int32))  # fmt: skip

    def _room(self, function: str, work: Product) -> NDArray[np.uint8]:
        """Memory for a packed weight, from the start of a page."""
        size_of = getattr(self._library, function)
        size_of.restype = ctypes.c_size_t
        size = size_of(B_MATRIX, work.m, work.n, work.k)
        room = np.zeros(size + PAGE, np.uint8)
        start = -room.ctypes.data % PAGE
        return room[start : start + size]


class _Call:
    """A C function with its arguments, converted once; keeps their memory alive."""

    def __init__(self, function: Any, *arguments: Any):
        self._function, self._keep = function, arguments
        self._arguments = [_converted(argument) for argument in arguments]

    def __call__(self) -> None:
        self._function(*self._arguments)


def _converted(argument: Any) -> Any:
    if isinstance(argument, np.ndarray):
        return ctypes.c_void_p(argument.ctypes.data)
    return ctypes.c_float(argument) if isinstance(argument, float) else argument


def _names() -> Iterator[str]:
    """Where the library may be: in the package's files, in this environment, in the system."""
    with contextlib.suppress(metadata.PackageNotFoundError):
        for file in metadata.files("mkl") or ():
            if file.name.startswith(("libmkl_rt.", "mkl_rt.")):
                yield str(file.locate())
    for folder in ("lib", "Library/bin"):
        yield from map(str, sorted(Path(sys.prefix, folder).glob("*mkl_rt.*")))
    if name := ctypes.util.find_library("mkl_rt"):
        yield name
