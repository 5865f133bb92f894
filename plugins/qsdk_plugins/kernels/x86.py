"""The x86 backend: one kernel per operation and instruction set."""

from __future__ import annotations

from typing import ClassVar

import qsdk
from qsdk_plugins.kernels.linear_groups import LinearGroups


class LinearGroupsAvx2(LinearGroups):
    name = "linear-groups-avx2"
    instruction_set = "avx2"
    bits = frozenset(range(2, 8))  # vpmaddubsw adds two products of 8 bits with saturation
    features: ClassVar[frozenset[str]] = frozenset({"extension", "avx2", "fma"})
    priority = 20
    backend = "x86"


class LinearGroupsAvxVnni(LinearGroups):
    name = "linear-groups-avxvnni"
    instruction_set = "avxvnni"
    features: ClassVar[frozenset[str]] = frozenset({"extension", "avxvnni", "fma"})
    priority = 25
    backend = "x86"


class LinearGroupsAvx512Vnni(LinearGroups):
    name = "linear-groups-avx512vnni"
    instruction_set = "avx512vnni"
    features: ClassVar[frozenset[str]] = frozenset(
        {"extension", "avx512bw", "avx512dq", "avx512vl", "avx512vnni"}
    )
    priority = 40
    backend = "x86"


@qsdk.hookimpl
def qsdk_kernels() -> list[type[qsdk.Kernel]]:
    return [LinearGroupsAvx2, LinearGroupsAvxVnni, LinearGroupsAvx512Vnni]
