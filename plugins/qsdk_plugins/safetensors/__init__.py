"""Safetensors files: weights only, read and written a tensor at a time."""

from __future__ import annotations

from typing import Any, ClassVar

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
        model = SafetensorsModel(container, container.metadata)
        model.source = source
        return model


@qsdk.hookimpl
def qsdk_adapters() -> list[type[Adapter]]:
    return [SafetensorsAdapter]
