"""A kernel in C, once for each instruction set that its folder under native/ has a file for."""

from __future__ import annotations

from typing import Any, ClassVar

from qsdk.interfaces import Kernel


class NativeKernel(Kernel):
    """A family of kernels; :func:`on` makes one of them.

    family : name of the kernel without its instruction set, such as ``linear-int8``
    instruction_set : a set of the family's folder under native/
    needs_room : it adds products in 16 bits, so it is exact for some weights only
    """

    family: ClassVar[str]
    instruction_set: ClassVar[str]
    needs_room: ClassVar[bool] = False


def on(
    family: type[NativeKernel],
    instruction_set: str,
    backend: str,
    priority: int,
    features: str = "",
    *,
    needs_room: bool = False,
) -> type[Kernel]:
    """The kernel of ``family`` for one instruction set.

    features : names of the CPU features it needs, beside the C extension
    """
    declared: dict[str, Any] = {
        "__module__": family.__module__,
        "__doc__": f"{family.__name__} on {instruction_set}.",
        "name": f"{family.family}-{instruction_set.replace('_', '-')}",
        "instruction_set": instruction_set,
        "backend": backend,
        "priority": priority,
        "features": frozenset({"extension", *features.split()}),
        "needs_room": needs_room,
    }
    return type(family.__name__ + instruction_set.title().replace("_", ""), (family,), declared)
