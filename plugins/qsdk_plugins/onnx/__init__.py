"""ONNX networks: weights of their layers in, standard or self-describing ONNX out."""

from __future__ import annotations

from pathlib import Path
from typing import Any, ClassVar

import qsdk
from qsdk.errors import MissingExtraError
from qsdk.interfaces import Adapter, Model


class OnnxAdapter(Adapter):
    """Opens ``.onnx`` files, external data included; needs the extra ``onnx``."""

    name: ClassVar[str] = "onnx"
    suffixes: ClassVar[tuple[str, ...]] = (".onnx",)

    def open(self, source: Any) -> Model:
        try:
            import onnx  # noqa: F401
        except ImportError:
            raise MissingExtraError("onnx", "onnx") from None
        from qsdk_plugins.onnx.model import OnnxModel
        from qsdk_plugins.onnx.reading import read_proto

        return OnnxModel(read_proto(source), source)

    @classmethod
    def example(cls, folder: Path) -> Path:
        try:
            from qsdk_plugins.onnx.example import two_layers
        except ImportError:
            raise MissingExtraError("onnx", "onnx") from None
        path = folder / "example.onnx"
        path.write_bytes(two_layers().SerializeToString())
        return path


@qsdk.hookimpl
def qsdk_adapters() -> list[type[Adapter]]:
    return [OnnxAdapter]
