"""Arrays in memory and ``.npz`` files: named weights without a graph."""

from __future__ import annotations

import zipfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

import qsdk
from qsdk.errors import FileRefusedError
from qsdk.interfaces import Adapter, Model

LARGE = 2**28  # bytes above which a member of an archive must not be a bomb
BOMB_RATIO = 200  # times that data may grow when unpacked without being suspicious


class ZippedArrays(Mapping[str, "NDArray[Any]"]):
    """The arrays of an ``.npz`` file, each read when asked for, none that is pickled."""

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

    def __getitem__(self, name: str) -> NDArray[Any]:
        if name not in self._names:
            raise KeyError(name)
        try:
            with np.load(self._path, allow_pickle=False) as archive:
                return np.asarray(archive[name])
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
