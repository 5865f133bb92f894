"""The ARM backend: one kernel per operation and instruction set."""

from __future__ import annotations

from typing import ClassVar

import qsdk
from qsdk_plugins.kernels.linear_groups import LinearGroups


class LinearGroupsNeon(LinearGroups):
    name = "linear-groups-neon"
    instruction_set = "neon"
    bits = frozenset(range(2, 8))  # weights are signed bytes there
    features: ClassVar[frozenset[str]] = frozenset({"extension", "neon"})
    priority = 20
    backend = "arm"


class LinearGroupsDotprod(LinearGroupsNeon):
    name = "linear-groups-dotprod"
    instruction_set = "dotprod"
    features: ClassVar[frozenset[str]] = frozenset({"extension", "dotprod"})
    priority = 30


@qsdk.hookimpl
def qsdk_kernels() -> list[type[qsdk.Kernel]]:
    return [LinearGroupsNeon, LinearGroupsDotprod]
