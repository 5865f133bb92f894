"""The health of kernels: what their trial found goes into quarantine, or comes out of it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from qsdk import quarantine
from qsdk.cli.kernel_trial import SKIPPED, findings


def trials(plugins: Sequence[dict[str, Any]]) -> tuple[list[dict[str, str]], str]:
    """Facts of every kernel that the plugins provide, and why they could not be written down.

    plugins : facts as ``qsdk.cli.checkup`` gives them
    """
    versions = {
        name: plugin["version"]
        for plugin in plugins
        for name in plugin["provides"]
        if name.split(":")[1] == "kernel"
    }
    unsound = [
        f"{plugin['distribution']}:{plugin['name']}"
        for plugin in plugins
        if plugin["health"] == "broken"
    ]
    found = findings(sorted(versions), unsound)
    trouble = _noted(
        {
            (name, versions[name]): reason if health == "quarantined" else ""
            for name, (health, reason) in found.items()
            if health != SKIPPED
        }
    )
    facts = [
        {
            "name": name.rpartition(":")[2],
            "full_name": name,
            "version": versions[name],
            "health": found[name][0],
            "reason": found[name][1],
        }
        for name in sorted(found)
    ]
    return facts, trouble


def _noted(found: dict[tuple[str, str], str]) -> str:
    try:
        quarantine.note(found)
    except OSError as error:
        return f"the quarantine in {quarantine.path()} could not be written: {error}"
    return ""
