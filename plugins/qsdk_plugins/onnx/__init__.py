"""ONNX networks: weights of their layers in, standard or self-describing ONNX out."""

from __future__ import annotations

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


@qsdk.hookimpl
def qsdk_adapters() -> list[type[Adapter]]:
    return [OnnxAdapter]
