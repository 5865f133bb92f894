"""The machine that the figures are of."""

from __future__ import annotations

import os
import platform
from collections.abc import Mapping
from importlib import metadata
from pathlib import Path

import attrs

from qsdk import cpu


@attrs.frozen
class Machine:
    """
    features : what kernels could use; disabled : what was taken away from qsdk's side
    cpus : how many this process may use; threads : how many each subject was held to
    versions : of qsdk, Python and the peers
    left_out : peers that are not there, with the reason
    """

    cpu: str
    platform: str
    cpus: int
    threads: int
    features: tuple[str, ...]
    disabled: tuple[str, ...]
    versions: Mapping[str, str]
    left_out: Mapping[str, str]

    @classmethod
    def here(
        cls, threads: int, versions: Mapping[str, str], left_out: Mapping[str, str]
    ) -> Machine:
        own = {"qsdk": metadata.version("qsdk"), "Python": platform.python_version()}
        return cls(
            cpu=cpu_model(),
            platform=platform.platform(),
            cpus=len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else 1,
            threads=threads,
            features=tuple(sorted(cpu.features())),
            disabled=tuple(sorted(cpu.disabled() & cpu.found())),
            versions={**own, **versions},
            left_out=left_out,
        )

    def lines(self) -> list[str]:
        """For the head of a table."""
        taken = f"; taken away: {', '.join(self.disabled)}" if self.disabled else ""
        return [
            f"CPU: {self.cpu}, {self.cpus} of them; {self.threads} thread"
            f"{'s' if self.threads > 1 else ''} each",
            f"features: {', '.join(self.features) or 'none, without the C extension'}{taken}",
            "versions: " + ", ".join(f"{name} {text}" for name, text in self.versions.items()),
            *(f"left out: {name}: {reason}" for name, reason in self.left_out.items()),
        ]


def cpu_model() -> str:
    """What the CPU calls itself, with family and model where the system says them."""
    try:
        text = Path("/proc/cpuinfo").read_text(encoding="utf-8")
    except OSError:
        return platform.processor() or platform.machine()
    words = {}
    for line in text.partition("\n\n")[0].splitlines():
        key, _, value = line.partition(":")
        words[key.strip()] = value.strip()
    name = words.get("model name") or platform.processor() or platform.machine()
    numbers = [f"{key} {words[key]}" for key in ("cpu family", "model") if key in words]
    return f"{name} ({', '.join(numbers)})" if numbers else name
