"""The x86 backend: one kernel per operation and instruction set."""

from __future__ import annotations

from typing import ClassVar

import qsdk
from qsdk_plugins.kernels.linear_binary import LinearBinary, LinearTernary


class LinearBinaryAvx2(LinearBinary):
    name = "linear-binary-avx2"
    instruction_set = "avx2"
    features: ClassVar[frozenset[str]] = frozenset({"extension", "avx2"})
    priority = 20
    backend = "x86"


class LinearTernaryAvx2(LinearTernary):
    name = "linear-ternary-avx2"
    instruction_set = "avx2"
    features: ClassVar[frozenset[str]] = frozenset({"extension", "avx2"})
    priority = 20
    backend = "x86"


class LinearBinaryAvx512Bw(LinearBinary):
    name = "linear-binary-avx512bw"
    instruction_set = "avx512bw"
    features: ClassVar[frozenset[str]] = frozenset({"extension", "avx512bw", "avx512dq"})
    priority = 30
    backend = "x86"


class LinearTernaryAvx512Bw(LinearTernary):
    name = "linear-ternary-avx512bw"
    instruction_set = "avx512bw"
    features: ClassVar[frozenset[str]] = frozenset({"extension", "avx512bw", "avx512dq"})
    priority = 30
    backend = "x86"


class LinearBinaryAvx512Vpopcntdq(LinearBinary):
    name = "linear-binary-avx512vpopcntdq"
    instruction_set = "avx512vpopcntdq"
    features: ClassVar[frozenset[str]] = frozenset(
        {"extension", "avx512bw", "avx512dq", "avx512vpopcntdq"}
    )
    priority = 40
    backend = "x86"


class LinearTernaryAvx512Vpopcntdq(LinearTernary):
    name = "linear-ternary-avx512vpopcntdq"
    instruction_set = "avx512vpopcntdq"
    features: ClassVar[frozenset[str]] = frozenset(
        {"extension", "avx512bw", "avx512dq", "avx512vpopcntdq"}
    )
    priority = 40
    backend = "x86"


@qsdk.hookimpl
def qsdk_kernels() -> list[type[qsdk.Kernel]]:
    return [
        LinearBinaryAvx2,
        LinearTernaryAvx2,
        LinearBinaryAvx512Bw,
        LinearTernaryAvx512Bw,
        LinearBinaryAvx512Vpopcntdq,
        LinearTernaryAvx512Vpopcntdq,
    ]
