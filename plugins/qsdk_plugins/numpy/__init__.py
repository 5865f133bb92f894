"""Arrays in memory and ``.npz`` files: named weights without a graph."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

import qsdk
from qsdk.interfaces import Adapter, Model


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
            model = NumpyModel(qsdk.ZippedArrays(source))
            model.source = source
            return model
        return NumpyModel({str(name): np.asarray(array) for name, array in source.items()})

    @classmethod
    def example(cls, folder: Path) -> Path:
        path = folder / "example.npz"
        weight = np.linspace(-1, 1, 60, dtype=np.float32)
        np.savez(path, conv=weight.reshape(5, 3, 2, 2), fc=weight.reshape(6, 10), bias=weight[:6])
        return path


@qsdk.hookimpl
def qsdk_adapters() -> list[type[Adapter]]:
    return [NumpyAdapter]
