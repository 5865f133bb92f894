"""An ``.npz`` archive, an array at a time: nothing is unpickled, and no bomb goes off."""

from __future__ import annotations

import contextlib
import functools
import math
import zipfile
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import attrs
import numpy as np
from numpy.typing import NDArray

from qsdk.errors import FileRefusedError

_read_long_header = np.lib.format.read_array_header_2_0
LARGE = 2**28  # bytes above which a member of an archive must not be a bomb
BOMB_RATIO = 200  # times that data may grow when unpacked without being suspicious


@attrs.frozen
class ZippedArray:
    """One array of an archive: what its header says, and its values when asked for.

    pieces : gives so many rows at a time, in order, and holds no more than these
    """

    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    read: Callable[[], NDArray[Any]] = attrs.field(repr=False)
    pieces: Callable[[int], Iterator[NDArray[Any]]] = attrs.field(repr=False)

    @property
    def ndim(self) -> int:
        return len(self.shape)

    @property
    def size(self) -> int:
        return math.prod(self.shape)

    @property
    def nbytes(self) -> int:
        return self.size * self.dtype.itemsize

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> NDArray[Any]:
        return np.asarray(self.read(), dtype)


class ZippedArrays(Mapping[str, ZippedArray]):
    """The arrays of an ``.npz`` file, each unpacked when asked for, none that is pickled."""

    def __init__(self, path: Path):
        self._path = path
        try:
            self._archive = zipfile.ZipFile(path)  # stays open: finding a member anew is slow
        except Exception as error:  # zipfile has one of its own for a version it does not know
            raise FileRefusedError(f"{path.name} is no .npz archive of arrays: {error}") from None
        self._arrays: dict[str, ZippedArray] = {}
        for member in self._archive.infolist():
            name = member.filename.removesuffix(".npy")
            with self._reading(name):
                self._arrays[name] = self._header(name, member)

    def _header(self, name: str, member: zipfile.ZipInfo) -> ZippedArray:
        """Shape and dtype of one array, which must fit the bytes that it has."""
        if member.file_size > max(LARGE, BOMB_RATIO * member.compress_size):
            raise ValueError(
                f"it grows from {member.compress_size} to {member.file_size} bytes "
                "when unpacked, which looks like a bomb"
            )
        with self._archive.open(member) as file:
            major, _ = np.lib.format.read_magic(file)
            read = np.lib.format.read_array_header_1_0 if major == 1 else _read_long_header
            shape, by_column, dtype = read(file)
            held = member.file_size - file.tell()
        if dtype.hasobject:
            raise ValueError("it holds Python objects, which take pickle to read")
        if held != math.prod(shape) * dtype.itemsize:
            raise ValueError(f"{dtype} {shape} does not take {held} bytes")
        whole = functools.partial(self._read, name, member)
        in_rows = len(shape) > 0 and not by_column
        return ZippedArray(
            shape,
            dtype,
            whole,
            functools.partial(self._pieces, name, member, shape, dtype)
            if in_rows
            else lambda rows: _cut(whole(), rows),
        )

    def _pieces(
        self,
        name: str,
        member: zipfile.ZipInfo,
        shape: tuple[int, ...],
        dtype: np.dtype[Any],
        rows: int,
    ) -> Iterator[NDArray[Any]]:
        """Read a member from its start to its end."""
        row = shape[1:]
        with self._reading(name), self._archive.open(member) as file:
            major, _ = np.lib.format.read_magic(file)
            (np.lib.format.read_array_header_1_0 if major == 1 else _read_long_header)(file)
            for start in range(0, shape[0], rows):
                count = min(rows, shape[0] - start)
                data = file.read(count * math.prod(row) * dtype.itemsize)
                yield np.frombuffer(data, dtype).reshape(count, *row)

    def _read(self, name: str, member: zipfile.ZipInfo) -> NDArray[Any]:
        with self._reading(name), self._archive.open(member) as file:
            return np.asarray(np.lib.format.read_array(file, allow_pickle=False))

    def __getitem__(self, name: str) -> ZippedArray:
        return self._arrays[name]

    @contextlib.contextmanager
    def _reading(self, name: str) -> Iterator[None]:
        try:
            yield
        except Exception as error:  # zipfile, zlib and numpy raise what they like on bad bytes
            raise FileRefusedError(f"{self._path.name}: {name!r} cannot be read: {error}") from None

    def __iter__(self) -> Iterator[str]:
        return iter(self._arrays)

    def __len__(self) -> int:
        return len(self._arrays)


def _cut(array: NDArray[Any], rows: int) -> Iterator[NDArray[Any]]:
    """An array that lies in memory, so many rows at a time; without axes it is one piece."""
    if not array.ndim:
        yield array
        return
    for start in range(0, len(array), rows):
        yield array[start : start + rows]
