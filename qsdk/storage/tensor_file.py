"""Safetensors files, read strictly and a tensor at a time, written as a stream.

Format: 8 bytes length of the header, a JSON header, then the data without gaps. The safetensors
package reads whole headers of others' making; this reader also refuses what that one lets pass
(a name that stands twice), hands out bfloat16 and float8, and never copies a file as a whole.
"""

from __future__ import annotations

import contextlib
import json
import math
import shutil
import struct
from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, BinaryIO

import attrs
import ml_dtypes
import numpy as np
from numpy.typing import NDArray

from qsdk.errors import DataError, FileRefusedError
from qsdk.storage.atomic import temporary, write_atomic

DTYPES: dict[str, np.dtype[Any]] = {
    "F64": np.dtype("<f8"),
    "F32": np.dtype("<f4"),
    "F16": np.dtype("<f2"),
    "BF16": np.dtype(ml_dtypes.bfloat16),
    "F8_E4M3": np.dtype(ml_dtypes.float8_e4m3fn),
    "F8_E5M2": np.dtype(ml_dtypes.float8_e5m2),
    "I64": np.dtype("<i8"),
    "I32": np.dtype("<i4"),
    "I16": np.dtype("<i2"),
    "I8": np.dtype("i1"),
    "U64": np.dtype("<u8"),
    "U32": np.dtype("<u4"),
    "U16": np.dtype("<u2"),
    "U8": np.dtype("u1"),
    "BOOL": np.dtype("?"),
}
NAMES = {dtype: name for name, dtype in DTYPES.items()}
HEADER_LIMIT = 100 * 2**20  # the format's own


@attrs.frozen
class Tensor:
    """Where one tensor lies: byte offsets into the file's data."""

    name: str
    dtype: np.dtype[Any]
    shape: tuple[int, ...]
    start: int
    end: int

    @property
    def nbytes(self) -> int:
        return self.end - self.start


class TensorFile:
    """A safetensors file, checked when opened, each tensor read when asked for."""

    def __init__(self, path: str | Path):
        self.path = Path(path)
        self.metadata: dict[str, str] = {}
        self.tensors: dict[str, Tensor] = {}
        header, self._data_start, size = self._read_header()
        for name, entry in header.items():
            if name == "__metadata__":
                self.metadata = self._metadata(entry)
            else:
                self.tensors[name] = self._tensor(name, entry)
        self._check_cover(size - self._data_start)
        # Mapped once, so that what is read stays what was opened, even if the file is replaced.
        self._map = np.memmap(self.path, np.uint8, "r")

    def read(self, name: str) -> NDArray[Any]:
        """One tensor, read-only, mapped from the file where its alignment allows."""
        tensor = self.tensors[name]
        if tensor.nbytes == 0:
            return np.empty(tensor.shape, tensor.dtype)
        mapped = self._map[self._data_start + tensor.start : self._data_start + tensor.end]
        array: NDArray[Any] = np.asarray(mapped).view(tensor.dtype).reshape(tensor.shape)
        if not array.flags.aligned:
            array = array.copy()
        array.flags.writeable = False
        return array

    def _refuse(self, reason: str) -> FileRefusedError:
        return FileRefusedError(f"{self.path.name} is not a sound safetensors file: {reason}")

    def _read_header(self) -> tuple[dict[str, Any], int, int]:
        with open(self.path, "rb") as file:
            size = file.seek(0, 2)
            file.seek(0)
            start = file.read(8)
            if len(start) < 8:
                raise self._refuse(f"it has {size} bytes, and 8 say how long its header is")
            (length,) = struct.unpack("<Q", start)
            if length > min(HEADER_LIMIT, size - 8):
                raise self._refuse(
                    f"its header claims {length} bytes; the file has {size - 8} more, "
                    f"and a header at most {HEADER_LIMIT}"
                )
            text = file.read(length)
        if not text.startswith(b"{"):
            raise self._refuse("its header does not begin with '{'")
        try:
            header = json.loads(text.decode(), object_pairs_hook=self._no_name_twice)
        except (ValueError, RecursionError) as error:
            if isinstance(error, FileRefusedError):
                raise
            raise self._refuse(f"its header is no JSON ({error})") from None
        return header, 8 + length, size

    def _no_name_twice(self, pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        found = dict(pairs)
        if len(found) < len(pairs):
            ((twice, _),) = Counter(name for name, _ in pairs).most_common(1)
            raise self._refuse(f"{twice!r} stands twice in its header")
        return found

    def _metadata(self, entry: Any) -> dict[str, str]:
        if not isinstance(entry, dict) or not all(isinstance(v, str) for v in entry.values()):
            raise self._refuse("__metadata__ is not a table of texts")
        return entry

    def _tensor(self, name: str, entry: Any) -> Tensor:
        try:
            dtype, shape, (start, end) = entry["dtype"], entry["shape"], entry["data_offsets"]
        except (TypeError, KeyError, ValueError):
            raise self._refuse(f"{name!r} lacks a dtype, a shape or two data_offsets") from None
        if not isinstance(dtype, str) or dtype not in DTYPES:
            raise self._refuse(f"{name!r} has dtype {dtype!r}; known: {', '.join(DTYPES)}")
        whole = isinstance(shape, list) and all(type(n) is int and n >= 0 for n in shape)
        if not whole or len(shape) > 64 or math.prod(max(n, 1) for n in shape) > 2**60:
            raise self._refuse(f"{name!r} has shape {shape!r}")
        if not (type(start) is int and type(end) is int and 0 <= start <= end):
            raise self._refuse(f"{name!r} has data_offsets {entry['data_offsets']!r}")
        nbytes = math.prod(shape) * DTYPES[dtype].itemsize
        if end - start != nbytes:
            raise self._refuse(
                f"{name!r} of {dtype} {shape} takes {nbytes} bytes, not {end - start}"
            )
        return Tensor(name, DTYPES[dtype], tuple(shape), start, end)

    def _check_cover(self, data_bytes: int) -> None:
        """The tensors must follow each other without hole or overlap, to the file's end."""
        position = 0
        for tensor in sorted(self.tensors.values(), key=lambda t: (t.start, t.end)):
            if tensor.start != position:
                what = "overlaps another" if tensor.start < position else "follows a hole"
                raise self._refuse(f"{tensor.name!r} {what} at byte {tensor.start} of the data")
            position = tensor.end
        if position != data_bytes:
            raise self._refuse(f"its tensors take {position} bytes, and the data has {data_bytes}")


def held_as(dtype: np.dtype[Any]) -> np.dtype[Any] | None:
    """The type in which a file holds arrays of ``dtype``; None when it has none for them."""
    little = dtype.newbyteorder("<") if dtype.byteorder == ">" else dtype
    return little if little in NAMES else None


class TensorWriter:
    """Collects tensors in a temporary file, so that only one is in memory at a time."""

    def __init__(self, data: BinaryIO):
        self._data = data
        self._header: dict[str, Any] = {}

    def add(self, name: str, array: NDArray[Any]) -> None:
        """Append one tensor."""
        if name in self._header or name == "__metadata__":
            raise DataError(f"two tensors would be named {name!r}; rename one of them")
        dtype = held_as(array.dtype)
        if dtype is None:
            raise DataError(f"tensor {name!r} is {array.dtype}, which safetensors cannot hold")
        start = self._data.tell()
        contiguous = np.ascontiguousarray(array, dtype)
        self._data.write(contiguous.reshape(-1).view(np.uint8).data)
        self._header[name] = {
            "dtype": NAMES[dtype],
            "shape": list(array.shape),
            "data_offsets": [start, self._data.tell()],
        }

    def copy_to(self, file: BinaryIO, metadata: Mapping[str, str]) -> None:
        """Write the finished file: header, then the data collected."""
        header = {"__metadata__": dict(metadata), **self._header} if metadata else self._header
        text = json.dumps(header, separators=(",", ":")).encode()
        text += b" " * (-len(text) % 8)  # readers may map the data: keep it aligned
        file.write(struct.pack("<Q", len(text)) + text)
        self._data.seek(0)
        shutil.copyfileobj(self._data, file, 1 << 20)


@contextlib.contextmanager
def write_tensors(path: Path, metadata: Mapping[str, str]) -> Iterator[TensorWriter]:
    """Add tensors in the block; the file appears whole at its end.

    ``metadata`` is read at the end, so the block may still fill it.
    """
    with temporary(path.resolve()) as (data, _):
        writer = TensorWriter(data)
        yield writer
        with write_atomic(path) as file:
            writer.copy_to(file, metadata)
