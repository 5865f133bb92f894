"""``qsdk cpu``: what this CPU can, and which kernel would run what, and why no other."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from qsdk.cli.output import Output
from qsdk.cli.verb import verb

if TYPE_CHECKING:
    from qsdk.cli.choices import Choice


@verb("cpu")
def command(output: Output) -> None:
    """Show the CPU's features, and for every operation, encoding and input which kernel would run.

    QSDK_DISABLE_CPU_FEATURES takes features away, and with them the kernels that need them.
    """
    from qsdk import cpu
    from qsdk.cli.choices import choices

    facts = {
        "found": sorted(cpu.found()),
        "disabled": sorted(cpu.disabled()),
        "used": sorted(cpu.features()),
    }
    threads, found = _threads(), choices()
    output.document(
        {"features": facts, "threads": threads, "kernels": [c.to_dict() for c in found]}
    )
    for word, names in facts.items():
        output.say(f"features {word}: {', '.join(names) or 'none'}")
    output.say(f"threads: {_threads_in_words(threads)}")
    _say_choices(output, found)


def _say_choices(output: Output, found: Sequence[Choice]) -> None:
    output.say()
    inputs: dict[tuple[str, ...], list[str]] = {}
    for c in found:
        if not c.reason:
            encoding = "any other" if c.encoding == "*" else c.encoding
            key = (c.operation, encoding, c.candidate.kernel.name, c.limits or "all")
            inputs.setdefault(key, []).append(c.activations)
    output.table(
        ["operation", "encoding", "kernel", "input", "takes"],
        [(*key[:3], ", ".join(forms), key[3]) for key, forms in inputs.items()],
    )
    idle = _idle(found)
    if idle:
        output.say()
        output.table(["not used", "why"], list(idle.items()))


def _idle(found: Sequence[Choice]) -> dict[str, str]:
    """Every kernel that would run nothing, with its reasons."""
    used = {c.candidate.full_name for c in found if not c.reason}
    reasons: dict[str, dict[str, None]] = {}
    for choice in found:
        if choice.candidate.full_name not in used:
            reasons.setdefault(choice.candidate.kernel.name, {})[choice.reason] = None
    return {name: "; ".join(words) for name, words in reasons.items()}


def _threads() -> dict[str, Any]:
    """limit : QSDK_NUM_THREADS; without it as many as OpenMP takes, from its own variable or the
    CPUs of this process."""
    from qsdk import cpu

    first = os.environ.get("OMP_NUM_THREADS", "").split(",")[0].strip()
    here = (
        os.sched_getaffinity(0) if hasattr(os, "sched_getaffinity") else range(os.cpu_count() or 1)
    )
    openmp = int(first) if first.isdecimal() and int(first) else len(here)
    return {"limit": cpu.threads() or None, "openmp": openmp, "cpus": len(here)}


def _threads_in_words(threads: dict[str, Any]) -> str:
    limit = threads["limit"]
    of = f"at most {limit} (QSDK_NUM_THREADS), and " if limit else ""
    return f"{of}{threads['openmp']} of OpenMP, on {threads['cpus']} CPUs"
