"""The portable backend: plain C, for every CPU."""

from __future__ import annotations

import qsdk
from qsdk_plugins.kernels.conv_binary import ConvBinary
from qsdk_plugins.kernels.conv_int8 import ConvInt8
from qsdk_plugins.kernels.instruction_sets import on
from qsdk_plugins.kernels.linear_binary import LinearBinary, LinearTernary
from qsdk_plugins.kernels.linear_groups import LinearGroups
from qsdk_plugins.kernels.linear_int8 import LinearInt8

FAMILIES = (LinearInt8, LinearGroups, LinearBinary, LinearTernary, ConvInt8, ConvBinary)


@qsdk.hookimpl
def qsdk_kernels() -> list[type[qsdk.Kernel]]:
    return [on(family, "portable", "portable", 10) for family in FAMILIES]
