"""The ARM backend: which families have a kernel for which instruction set."""

from __future__ import annotations

import qsdk
from qsdk_plugins.kernels.conv_binary import ConvBinary
from qsdk_plugins.kernels.conv_int8 import ConvInt8
from qsdk_plugins.kernels.instruction_sets import SMLAL, on
from qsdk_plugins.kernels.linear_binary import LinearBinary, LinearTernary
from qsdk_plugins.kernels.linear_groups import TO_7_BITS, LinearGroups
from qsdk_plugins.kernels.linear_int8 import LinearInt8

ONE_PAIR = {2: 1, 4: 1, 8: 1}  # that native/linear_groups/neon.c adds before it widens


@qsdk.hookimpl
def qsdk_kernels() -> list[type[qsdk.Kernel]]:
    return [
        on(LinearInt8, "neon", "arm", 20, "neon"),
        on(LinearInt8, "neon_pairs", "arm", 21, "neon", pairs=SMLAL),
        on(LinearInt8, "dotprod", "arm", 30, "neon dotprod"),
        on(LinearInt8, "i8mm", "arm", 40, "neon i8mm"),
        on(LinearGroups, "neon", "arm", 20, "neon", bits=TO_7_BITS, in_16_bits=ONE_PAIR),
        on(LinearGroups, "dotprod", "arm", 30, "neon dotprod", bits=TO_7_BITS),
        on(LinearBinary, "neon", "arm", 20, "neon"),
        on(LinearTernary, "neon", "arm", 20, "neon"),
        on(ConvInt8, "neon", "arm", 20, "neon"),
        on(ConvInt8, "dotprod", "arm", 30, "neon dotprod"),
        on(ConvBinary, "neon", "arm", 20, "neon"),
    ]
