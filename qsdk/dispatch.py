"""Which kernel runs an operation on this CPU, and why no other does."""

from __future__ import annotations

from collections.abc import Iterator
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


def candidates(operation: Operation, of: Registry = registry) -> Iterator[Candidate]:
    """Every kernel of this kind of operation, best first, with what speaks against it.

    One at a time, because a kernel may have to look at the weight to say so.
    """
    for candidate in kernels(of):
        if candidate.kernel.operation == operation.name:
            reason = candidate.reason or candidate.kernel.refusal(operation)
            yield attrs.evolve(candidate, reason=reason)


def choose(operation: Operation, kernel: str | None = None, of: Registry = registry) -> Kernel:
    """The kernel of highest priority that can run ``operation``; ``kernel`` asks for one by name.

    Raises KernelError when none can, or the one asked for cannot, with the reasons.
    """
    if kernel is not None:
        return _asked_for(operation, kernel, of)
    found = []
    for candidate in candidates(operation, of):
        if candidate.can_run:
            return candidate.kernel
        found.append(f"{candidate.kernel.name}: {candidate.reason}")
    reasons = "; ".join(found)
    raise KernelError(f"no kernel can run {operation}: {reasons or 'none is registered'}")


def _asked_for(operation: Operation, name: str, of: Registry) -> Kernel:
    entry = of.find(name if ":" in name else f"kernel:{name}")
    kernel: Any = entry.target()
    reason = (
        quarantine.reason(entry.full_name, entry.version)
        or kernel.unavailable()
        or kernel.refusal(operation)
    )
    if reason:
        raise KernelError(f"kernel {entry.name} cannot run {operation}: {reason}")
    assert isinstance(kernel, Kernel)
    return kernel
