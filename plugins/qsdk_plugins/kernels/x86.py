"""The x86 backend: which families have a kernel for which instruction set."""

from __future__ import annotations

import qsdk
from qsdk_plugins.kernels.conv_binary import ConvBinary
from qsdk_plugins.kernels.conv_int8 import ConvInt8
from qsdk_plugins.kernels.instruction_sets import MADDUBS, on
from qsdk_plugins.kernels.linear_binary import LinearBinary, LinearTernary
from qsdk_plugins.kernels.linear_groups import TO_7_BITS, LinearGroups
from qsdk_plugins.kernels.linear_int8 import LinearInt8

BW = "avx512bw avx512dq"
VNNI = f"{BW} avx512vl avx512vnni"
AMX = f"{VNNI} amx_tile amx_int8"
FOUR_UNITS = {2: 16, 4: 8, 8: 1}  # that native/linear_groups/avx2.c adds before it widens
POPCOUNT = f"{BW} avx512vpopcntdq"
TILES = f"{POPCOUNT} amx_tile amx_int8"


@qsdk.hookimpl
def qsdk_kernels() -> list[type[qsdk.Kernel]]:
    return [
        on(LinearInt8, "avx2", "x86", 20, "avx2"),
        on(LinearInt8, "avx2_pairs", "x86", 21, "avx2", pairs=MADDUBS),
        on(LinearInt8, "avxvnni", "x86", 25, "avx2 avxvnni"),
        on(LinearInt8, "avx512bw", "x86", 30, BW),
        on(LinearInt8, "avx512bw_pairs", "x86", 31, BW, pairs=MADDUBS),
        on(LinearInt8, "avx512vnni", "x86", 40, VNNI),
        on(LinearInt8, "amx", "x86", 50, AMX),
        on(LinearGroups, "avx2", "x86", 20, "avx2 fma", bits=TO_7_BITS, in_16_bits=FOUR_UNITS),
        on(LinearGroups, "avxvnni", "x86", 25, "avxvnni fma"),
        on(LinearGroups, "avx512vnni", "x86", 40, VNNI),
        on(LinearBinary, "avx2", "x86", 20, "avx2"),
        on(LinearBinary, "avx512bw", "x86", 30, BW),
        on(LinearBinary, "avx512vpopcntdq", "x86", 40, POPCOUNT),
        on(LinearBinary, "amx", "x86", 50, TILES),
        on(LinearTernary, "avx2", "x86", 20, "avx2"),
        on(LinearTernary, "avx512bw", "x86", 30, BW),
        on(LinearTernary, "avx512vpopcntdq", "x86", 40, POPCOUNT),
        on(LinearTernary, "amx", "x86", 50, TILES),
        on(ConvInt8, "avx2", "x86", 20, "avx2"),
        on(ConvInt8, "avx2_pairs", "x86", 21, "avx2", pairs=MADDUBS),
        on(ConvInt8, "avxvnni", "x86", 25, "avx2 avxvnni"),
        on(ConvInt8, "avx512vnni", "x86", 40, VNNI),
        on(ConvBinary, "avx2", "x86", 20, "avx2"),
        on(ConvBinary, "avx512vpopcntdq", "x86", 40, POPCOUNT),
    ]
