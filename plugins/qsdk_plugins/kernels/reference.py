"""The reference backend: numpy, slow, and what every other kernel must equal."""

from __future__ import annotations

import qsdk
from qsdk_plugins.kernels.conv_binary_reference import ConvBinaryReference
from qsdk_plugins.kernels.conv_reference import ConvInt8Reference
from qsdk_plugins.kernels.conv_simulated import SimulatedConv
from qsdk_plugins.kernels.linear_binary_reference import (
    LinearBinaryReference,
    LinearTernaryReference,
)
from qsdk_plugins.kernels.linear_groups_reference import LinearGroupsReference
from qsdk_plugins.kernels.linear_int8_reference import LinearInt8Reference
from qsdk_plugins.kernels.simulated import SimulatedLinear


@qsdk.hookimpl
def qsdk_kernels() -> list[type[qsdk.Kernel]]:
    return [
        SimulatedLinear,
        SimulatedConv,
        LinearInt8Reference,
        LinearGroupsReference,
        LinearBinaryReference,
        LinearTernaryReference,
        ConvInt8Reference,
        ConvBinaryReference,
    ]
