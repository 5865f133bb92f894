"""A kernel in C, once for each instruction set that its folder under native/ has a file for."""

from __future__ import annotations

from typing import Any, ClassVar

from qsdk import native
from qsdk.interfaces import Kernel


class NativeKernel(Kernel):
    """A family of kernels; :func:`on` makes one of them.

    family : name of the kernel without its instruction set, such as ``linear-int8``
    folder : where under native/ it is written: ``qsdk_<folder>_find`` gives its sets
    instruction_set : a set of that folder
    needs_room : it adds products in 16 bits, so it is exact for some weights only
    """

    family: ClassVar[str]
    folder: ClassVar[str]
    instruction_set: ClassVar[str]
    needs_room: ClassVar[bool] = False

    def unavailable(self) -> str:
        missing = super().unavailable()
        if not missing and not self.table():
            return f"this build of the C extension has no {self.instruction_set} code"
        return missing

    def table(self) -> Any:
        """The functions of the instruction set, as C knows them; false where there are none."""
        find = getattr(native.library().lib, f"qsdk_{self.folder}_find")
        return find(self.instruction_set.encode())


def on(
    family: type[NativeKernel],
    instruction_set: str,
    backend: str,
    priority: int,
    features: str = "",
    **limits: Any,
) -> type[Kernel]:
    """The kernel of ``family`` for one instruction set.

    features : names of the CPU features it needs, beside the C extension
    limits : what it declares otherwise than its family
    """
    declared: dict[str, Any] = {
        "__module__": family.__module__,
        "__doc__": f"{family.__name__} on {instruction_set}.",
        "name": f"{family.family}-{instruction_set.replace('_', '-')}",
        "instruction_set": instruction_set,
        "backend": backend,
        "priority": priority,
        "features": frozenset({"extension", *features.split()}),
        **limits,
    }
    return type(family.__name__ + instruction_set.title().replace("_", ""), (family,), declared)
