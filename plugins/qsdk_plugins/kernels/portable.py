"""The portable backend: plain C, for every CPU that the extension is built for."""

from __future__ import annotations

from typing import ClassVar

import qsdk
from qsdk_plugins.kernels.linear_groups import LinearGroups


class LinearGroupsPortable(LinearGroups):
    name = "linear-groups-portable"
    instruction_set = "portable"
    features: ClassVar[frozenset[str]] = frozenset({"extension"})
    priority = 10
    backend = "portable"


@qsdk.hookimpl
def qsdk_kernels() -> list[type[qsdk.Kernel]]:
    return [LinearGroupsPortable]
