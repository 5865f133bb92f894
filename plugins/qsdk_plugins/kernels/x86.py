"""The x86 backend: one kernel per operation and instruction set."""

from __future__ import annotations

from typing import ClassVar

import qsdk
from qsdk_plugins.kernels.linear_groups import LinearGroups


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
    return [LinearGroupsAvx512Vnni]
