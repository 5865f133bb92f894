"""A kernel in C, once for each instruction set that its folder under native/ has a file for."""

from __future__ import annotations

from typing import Any, ClassVar

import attrs
import numpy as np
from numpy.typing import NDArray

import qsdk
from qsdk import native
from qsdk.interfaces import Accumulator, Kernel


@attrs.frozen
class Pairs:
    """Two products added in 16 bits: with codes from low to high, of neighbours or of any two."""

    low: int
    high: int
    neighbours: bool

    def worst(self, codes: NDArray[np.integer]) -> Accumulator:
        """The worst pair of weights (out, k), zero_points still in them."""
        worst = qsdk.worst_pairs(codes, self.low, self.high, neighbours=self.neighbours)
        return Accumulator(bits=16, worst=int(worst.max(initial=0)), adds="pairs")


MADDUBS = Pairs(low=0, high=255, neighbours=True)
SMLAL = Pairs(low=-128, high=127, neighbours=False)  # of two quads of inputs, a multiple of 4 apart


class NativeKernel(Kernel):
    """A family of kernels; :func:`on` makes one of them.

    family : name of the kernel without its instruction set, such as ``linear-int8``
    folder : where under native/ it is written: ``qsdk_<folder>_find`` gives its sets
    instruction_set : a set of that folder
    pairs : which two products it adds in 16 bits, so that it is exact for some weights only; None
        where it adds none
    """

    family: ClassVar[str]
    folder: ClassVar[str]
    instruction_set: ClassVar[str]
    pairs: ClassVar[Pairs | None] = None

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
