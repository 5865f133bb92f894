"""Arrays in memory and ``.npz`` files: named weights without a graph."""

from __future__ import annotations

import contextlib
import math
import zipfile
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, ClassVar

import attrs
import numpy as np
from numpy.typing import NDArray

import qsdk
from qsdk.errors import FileRefusedError
from qsdk.interfaces import Adapter, Model

_read_long_header = np.lib.format.read_array_header_2_0
LARGE = 2**28  # bytes above which a member of an archive must not be a bomb
BOMB_RATIO = 200  # times that data may grow when unpacked without being suspicious


@attrs.frozen
class ZippedArray:
    """One array of an archive: what its header says, and its values when asked for."""

    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    read: Callable[[], NDArray[Any]] = attrs.field(repr=False)

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
            with open(path, "rb") as file, np.load(file, allow_pickle=False) as archive:
                self._names = list(archive.files)
                members = archive.zip.infolist()
        except (ValueError, OSError, EOFError, TypeError, zipfile.BadZipFile) as error:
            raise FileRefusedError(f"{path.name} is no .npz archive of arrays: {error}") from None
        for member in members:
            if member.file_size > max(LARGE, BOMB_RATIO * member.compress_size):
                raise FileRefusedError(
                    f"{path.name}: {member.filename!r} grows from {member.compress_size} to "
                    f"{member.file_size} bytes when unpacked, which looks like a bomb"
                )

    def __getitem__(self, name: str) -> ZippedArray:
        if name not in self._names:
            raise KeyError(name)
        with self._reading(name):
            shape, dtype = self._header(f"{name}.npy")
        return ZippedArray(shape, dtype, lambda: self._read(name))

    def _header(self, member: str) -> tuple[tuple[int, ...], np.dtype[Any]]:
        """Shape and dtype of one array, which must fit the bytes that it has."""
        with zipfile.ZipFile(self._path) as archive, archive.open(member) as file:
            major, _ = np.lib.format.read_magic(file)
            read = np.lib.format.read_array_header_1_0 if major == 1 else _read_long_header
            shape, _, dtype = read(file)
            held = archive.getinfo(member).file_size - file.tell()
        if dtype.hasobject:
            raise ValueError("it holds Python objects, and nothing here is unpickled")
        if held != math.prod(shape) * dtype.itemsize:
            raise ValueError(f"{dtype} {shape} does not take {held} bytes")
        return shape, dtype

    def _read(self, name: str) -> NDArray[Any]:
        with self._reading(name), np.load(self._path, allow_pickle=False) as archive:
            return np.asarray(archive[name])

    @contextlib.contextmanager
    def _reading(self, name: str) -> Iterator[None]:
        try:
            yield
        except Exception as error:  # zipfile, zlib and numpy raise what they like on bad bytes
            raise FileRefusedError(f"{self._path.name}: {name!r} cannot be read: {error}") from None

    def __iter__(self) -> Iterator[str]:
        return iter(self._names)

    def __len__(self) -> int:
        return len(self._names)


class NumpyModel(qsdk.ArrayModel):
    """A dict of arrays, or the arrays of an archive."""

    format: ClassVar[str] = "numpy"


class NumpyAdapter(Adapter):
    """Opens a dict of arrays, or an ``.npz`` file; writes a safetensors container."""

    name: ClassVar[str] = "numpy"
    suffixes: ClassVar[tuple[str, ...]] = (".npz",)

    def accepts(self, source: Any) -> bool:
        return isinstance(source, Mapping) or super().accepts(source)

    def open(self, source: Any) -> Model:
        if isinstance(source, Path):
            model = NumpyModel(ZippedArrays(source))
            model.source = source
            return model
        return NumpyModel({str(name): np.asarray(array) for name, array in source.items()})


@qsdk.hookimpl
def qsdk_adapters() -> list[type[Adapter]]:
    return [NumpyAdapter]
