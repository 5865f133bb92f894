"""Which kernel runs an operation on this CPU, and why no other does."""

from __future__ import annotations

from typing import Any

import attrs

from qsdk import quarantine
from qsdk.errors import KernelError
from qsdk.interfaces import Kernel, Operation
from qsdk.registry import Registry, registry


@attrs.frozen
class Candidate:
    """A registered kernel, and why it does not run the operation; empty where it can."""

    kernel: Kernel
    full_name: str
    origin: str
    reason: str

    @property
    def can_run(self) -> bool:
        return not self.reason


def kernels(of: Registry = registry) -> list[Candidate]:
    """All kernels, and why each cannot run on this machine; best first."""
    found = []
    for entry in of.entries("kernel"):
        kernel: Kernel = entry.target()
        reason = quarantine.reason(entry.full_name, entry.version) or kernel.unavailable()
        found.append(Candidate(kernel, entry.full_name, entry.origin, reason))
    return sorted(found, key=lambda c: (-c.kernel.priority, c.kernel.name))


def candidates(operation: Operation, of: Registry = registry) -> list[Candidate]:
    """Every kernel of this kind of operation, best first, with what speaks against it."""
    return [
        attrs.evolve(c, reason=c.kernel.refusal(operation) or c.reason)
        for c in kernels(of)
        if c.kernel.operation == operation.name
    ]


def choose(operation: Operation, kernel: str | None = None, of: Registry = registry) -> Kernel:
    """The kernel of highest priority that can run ``operation``; ``kernel`` asks for one by name.

    Raises KernelError when none can, or the one asked for cannot, with the reasons.
    """
    if kernel is not None:
        return _asked_for(operation, kernel, of)
    found = candidates(operation, of)
    for candidate in found:
        if candidate.can_run:
            return candidate.kernel
    reasons = "; ".join(f"{c.kernel.name}: {c.reason}" for c in found)
    raise KernelError(f"no kernel can run {operation}: {reasons or 'none is registered'}")


def _asked_for(operation: Operation, name: str, of: Registry) -> Kernel:
    entry = of.find(name if ":" in name else f"kernel:{name}")
    kernel: Any = entry.target()
    reason = (
        kernel.refusal(operation)
        or quarantine.reason(entry.full_name, entry.version)
        or kernel.unavailable()
    )
    if reason:
        raise KernelError(f"kernel {entry.name} cannot run {operation}: {reason}")
    assert isinstance(kernel, Kernel)
    return kernel
