"""The arm backend: one kernel per operation and instruction set."""

from __future__ import annotations

from typing import ClassVar

import qsdk
from qsdk_plugins.kernels.linear_binary import LinearBinary, LinearTernary


class LinearBinaryNeon(LinearBinary):
    name = "linear-binary-neon"
    instruction_set = "neon"
    features: ClassVar[frozenset[str]] = frozenset({"extension", "neon"})
    priority = 20
    backend = "arm"


class LinearTernaryNeon(LinearTernary):
    name = "linear-ternary-neon"
    instruction_set = "neon"
    features: ClassVar[frozenset[str]] = frozenset({"extension", "neon"})
    priority = 20
    backend = "arm"


@qsdk.hookimpl
def qsdk_kernels() -> list[type[qsdk.Kernel]]:
    return [LinearBinaryNeon, LinearTernaryNeon]
