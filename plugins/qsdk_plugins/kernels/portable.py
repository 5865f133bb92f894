"""The portable backend: plain C, for every CPU that the extension is built for."""

from __future__ import annotations

from typing import ClassVar

import qsdk
from qsdk_plugins.kernels.conv_int8 import ConvInt8
from qsdk_plugins.kernels.linear_int8 import LinearInt8


class LinearInt8Portable(LinearInt8):
    name = "linear-int8-portable"
    instruction_set = "portable"
    features: ClassVar[frozenset[str]] = frozenset({"extension"})
    priority = 10
    backend = "portable"


class ConvInt8Portable(ConvInt8):
    name = "conv-int8-portable"
    instruction_set = "portable"
    features: ClassVar[frozenset[str]] = frozenset({"extension"})
    priority = 10
    backend = "portable"


@qsdk.hookimpl
def qsdk_kernels() -> list[type[qsdk.Kernel]]:
    return [LinearInt8Portable, ConvInt8Portable]
