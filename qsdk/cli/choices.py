"""Which kernel would run what on this CPU, from what kernels declare: no weight is needed."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import attrs

from qsdk.dispatch import Candidate, kernels
from qsdk.interfaces import InputForm, Kernel
from qsdk.interfaces.declaration import OPERATIONS
from qsdk.interfaces.kernel import ANY
from qsdk.scheme import Granularity

AFFINE = "affine"


@attrs.frozen
class Choice:
    """A kernel for one operation, encoding and form of input.

    limits : what of it the kernel takes, in words; empty when all
    reason : why it would not run; empty when it would, within its limits
    """

    operation: str
    encoding: str
    activations: str
    candidate: Candidate
    limits: str
    reason: str

    def to_dict(self) -> dict[str, Any]:
        kernel = self.candidate.kernel
        return {
            "operation": self.operation,
            "encoding": self.encoding,
            "activations": self.activations,
            "kernel": kernel.name,
            "full_name": self.candidate.full_name,
            "priority": kernel.priority,
            "features": sorted(kernel.features),
            "backend": kernel.backend,
            "limits": self.limits,
            "runs": not self.reason,
            "reason": self.reason,
        }


def choices() -> list[Choice]:
    """Every kernel wherever its declaration fits, best first."""
    registered = kernels()
    encodings = sorted({c.kernel.encoding for c in registered} - {ANY}) + [ANY]
    found: list[Choice] = []
    for operation, encoding, form in itertools.product(OPERATIONS, encodings, InputForm):
        fitting = [c for c in registered if _fits(c.kernel, operation, encoding, form)]
        found += _settled(operation, encoding, str(form), fitting)
    return found


def _fits(kernel: Kernel, operation: str, encoding: str, form: str) -> bool:
    return (
        kernel.operation == operation
        and kernel.encoding in (ANY, encoding)
        and form in kernel.activations
    )


def _settled(
    operation: str, encoding: str, form: str, fitting: Sequence[Candidate]
) -> Iterator[Choice]:
    """The first that can run takes all that it declares; the next what is left."""
    better: dict[tuple[Any, ...], str] = {}  # what is taken, by whom
    for candidate in fitting:
        takes = set(_combinations(candidate.kernel, encoding, form))
        reason = candidate.reason
        if not reason:
            taken = {combination: _who(better, combination) for combination in takes}
            if all(taken.values()):
                reason = f"lower priority than {' and '.join(sorted(set(taken.values())))}"
            for combination in takes - set(better):
                better[combination] = candidate.kernel.name
        limits = _limits(candidate.kernel, encoding)
        yield Choice(operation, encoding, form, candidate, limits, reason)


def _who(better: Mapping[tuple[Any, ...], str], combination: tuple[Any, ...]) -> str:
    """The better kernel that takes this; who takes groups of 4 takes those of 32."""
    *rest, multiple = combination
    names = (
        name for (*others, of), name in better.items() if others == rest and multiple % of == 0
    )
    return next(names, "")


def _combinations(kernel: Kernel, encoding: str, form: str) -> Iterator[tuple[Any, ...]]:
    """Every (output, bits, granularity, group multiple) that it takes."""
    outputs = kernel.outputs if form.startswith("fixed") else kernel.outputs & {"float32"}
    if encoding != AFFINE:
        yield from ((output, 1) for output in outputs)
        return
    for output, bits, granularity in itertools.product(outputs, kernel.bits, kernel.granularity):
        multiple = kernel.group_multiple if granularity == Granularity.PER_GROUP else 1
        yield output, bits, str(granularity), multiple


def _limits(kernel: Kernel, encoding: str) -> str:
    words = [", ".join(sorted(kernel.outputs)) + " out"] if len(kernel.outputs) > 1 else []
    if encoding == AFFINE:
        if len(kernel.bits) < 8:
            words.insert(0, f"{_ranges(kernel.bits)} bits")
        if len(kernel.granularity) < len(Granularity):
            words.insert(0, ", ".join(sorted(map(str, kernel.granularity))))
        if kernel.group_multiple > 1:
            words.append(f"groups of a multiple of {kernel.group_multiple}")
    return "; ".join(words)


def _ranges(numbers: Iterable[int]) -> str:
    """
    >>> _ranges({2, 3, 4, 8})
    '2-4, 8'
    """
    ordered = sorted(numbers)
    runs = [
        [number for _, number in run]
        for _, run in itertools.groupby(enumerate(ordered), lambda pair: pair[1] - pair[0])
    ]
    return ", ".join(str(run[0]) if len(run) == 1 else f"{run[0]}-{run[-1]}" for run in runs)
