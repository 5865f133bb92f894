"""The x86 backend: one kernel per operation and instruction set."""

from __future__ import annotations

from typing import ClassVar

import qsdk
from qsdk_plugins.kernels.conv_int8 import ConvInt8
from qsdk_plugins.kernels.linear_int8 import LinearInt8


class LinearInt8Avx2(LinearInt8):
    name = "linear-int8-avx2"
    instruction_set = "avx2"
    features: ClassVar[frozenset[str]] = frozenset({"extension", "avx2"})
    priority = 20
    backend = "x86"


class LinearInt8Avx2Pairs(LinearInt8):
    name = "linear-int8-avx2-pairs"
    instruction_set = "avx2_pairs"
    features: ClassVar[frozenset[str]] = frozenset({"extension", "avx2"})
    needs_room = True
    priority = 21
    backend = "x86"


class LinearInt8AvxVnni(LinearInt8):
    name = "linear-int8-avxvnni"
    instruction_set = "avxvnni"
    features: ClassVar[frozenset[str]] = frozenset({"extension", "avx2", "avxvnni"})
    priority = 25
    backend = "x86"


class LinearInt8Avx512Bw(LinearInt8):
    name = "linear-int8-avx512bw"
    instruction_set = "avx512bw"
    features: ClassVar[frozenset[str]] = frozenset({"extension", "avx512bw", "avx512dq"})
    priority = 30
    backend = "x86"


class LinearInt8Avx512BwPairs(LinearInt8):
    name = "linear-int8-avx512bw-pairs"
    instruction_set = "avx512bw_pairs"
    features: ClassVar[frozenset[str]] = frozenset({"extension", "avx512bw", "avx512dq"})
    needs_room = True
    priority = 31
    backend = "x86"


class LinearInt8Avx512Vnni(LinearInt8):
    name = "linear-int8-avx512vnni"
    instruction_set = "avx512vnni"
    features: ClassVar[frozenset[str]] = frozenset(
        {"extension", "avx512bw", "avx512dq", "avx512vnni"}
    )
    priority = 40
    backend = "x86"


class LinearInt8Amx(LinearInt8):
    name = "linear-int8-amx"
    instruction_set = "amx"
    features: ClassVar[frozenset[str]] = frozenset(
        {"extension", "avx512bw", "avx512dq", "avx512vnni", "amx_tile", "amx_int8"}
    )
    priority = 50
    backend = "x86"


class ConvInt8Avx2(ConvInt8):
    name = "conv-int8-avx2"
    instruction_set = "avx2"
    features: ClassVar[frozenset[str]] = frozenset({"extension", "avx2"})
    priority = 20
    backend = "x86"


class ConvInt8AvxVnni(ConvInt8):
    name = "conv-int8-avxvnni"
    instruction_set = "avxvnni"
    features: ClassVar[frozenset[str]] = frozenset({"extension", "avx2", "avxvnni"})
    priority = 25
    backend = "x86"


class ConvInt8Avx512Vnni(ConvInt8):
    name = "conv-int8-avx512vnni"
    instruction_set = "avx512vnni"
    features: ClassVar[frozenset[str]] = frozenset(
        {"extension", "avx512f", "avx512bw", "avx512dq", "avx512vl", "avx512vnni"}
    )
    priority = 40
    backend = "x86"


@qsdk.hookimpl
def qsdk_kernels() -> list[type[qsdk.Kernel]]:
    return [
        LinearInt8Avx2,
        LinearInt8Avx2Pairs,
        LinearInt8AvxVnni,
        LinearInt8Avx512Bw,
        LinearInt8Avx512BwPairs,
        LinearInt8Avx512Vnni,
        LinearInt8Amx,
        ConvInt8Avx2,
        ConvInt8AvxVnni,
        ConvInt8Avx512Vnni,
    ]
