"""Safetensors files: weights only, read and written a tensor at a time."""

from __future__ import annotations

from pathlib import Path
from typing import Any, ClassVar

import numpy as np

import qsdk
from qsdk.interfaces import Adapter, Model


class SafetensorsModel(qsdk.ArrayModel):
    """A file of named tensors, plain or quantized by qsdk."""

    format: ClassVar[str] = "safetensors"


class SafetensorsAdapter(Adapter):
    """Opens ``.safetensors`` files, those of others and those that qsdk wrote."""

    name: ClassVar[str] = "safetensors"
    suffixes: ClassVar[tuple[str, ...]] = (".safetensors",)

    def open(self, source: Any) -> Model:
        container = qsdk.Container(source)
        texts = {key: text for key, text in container.file.metadata.items() if key != "qsdk"}
        model = SafetensorsModel(container, container.metadata, texts)
        model.source = source
        return model

    @classmethod
    def example(cls, folder: Path) -> Path:
        path = folder / "example.safetensors"
        weight = np.linspace(-1, 1, 60, dtype=np.float32)
        arrays = {"conv": weight.reshape(5, 3, 2, 2), "fc": weight.reshape(6, 10), "bias": weight}
        qsdk.write_container(path, arrays.items(), dict)
        return path


@qsdk.hookimpl
def qsdk_adapters() -> list[type[Adapter]]:
    return [SafetensorsAdapter]
