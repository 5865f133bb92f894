"""The ARM backend: one kernel per operation and instruction set."""

from __future__ import annotations

from typing import ClassVar

import qsdk
from qsdk_plugins.kernels.conv_int8 import ConvInt8
from qsdk_plugins.kernels.linear_int8 import LinearInt8


class LinearInt8Neon(LinearInt8):
    name = "linear-int8-neon"
    instruction_set = "neon"
    features: ClassVar[frozenset[str]] = frozenset({"extension", "neon"})
    priority = 20
    backend = "arm"


class LinearInt8NeonPairs(LinearInt8):
    name = "linear-int8-neon-pairs"
    instruction_set = "neon_pairs"
    features: ClassVar[frozenset[str]] = frozenset({"extension", "neon"})
    needs_room = True
    priority = 21
    backend = "arm"


class LinearInt8Dotprod(LinearInt8):
    name = "linear-int8-dotprod"
    instruction_set = "dotprod"
    features: ClassVar[frozenset[str]] = frozenset({"extension", "neon", "dotprod"})
    priority = 30
    backend = "arm"


class LinearInt8I8mm(LinearInt8):
    name = "linear-int8-i8mm"
    instruction_set = "i8mm"
    features: ClassVar[frozenset[str]] = frozenset({"extension", "neon", "i8mm"})
    priority = 40
    backend = "arm"


class ConvInt8Neon(ConvInt8):
    name = "conv-int8-neon"
    instruction_set = "neon"
    features: ClassVar[frozenset[str]] = frozenset({"extension", "neon"})
    priority = 20
    backend = "arm"


class ConvInt8Dotprod(ConvInt8):
    name = "conv-int8-dotprod"
    instruction_set = "dotprod"
    features: ClassVar[frozenset[str]] = frozenset({"extension", "neon", "dotprod"})
    priority = 30
    backend = "arm"


@qsdk.hookimpl
def qsdk_kernels() -> list[type[qsdk.Kernel]]:
    return [
        LinearInt8Neon,
        LinearInt8NeonPairs,
        LinearInt8Dotprod,
        LinearInt8I8mm,
        ConvInt8Neon,
        ConvInt8Dotprod,
    ]
