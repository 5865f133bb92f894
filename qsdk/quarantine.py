"""Kernels that crashed or gave wrong results on this machine: remembered, and not dispatched.

``qsdk doctor`` tries every kernel in a process of its own and writes what it finds to a file in
``QSDK_CACHE_DIR`` (default: the user's cache folder), for this CPU and this version.
"""

from __future__ import annotations

import functools
import json
import os
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from qsdk import cpu


def path() -> Path:
    """The file."""
    folder = os.environ.get("QSDK_CACHE_DIR")
    if folder:
        return Path(folder, "quarantine.json")
    if sys.platform == "win32":
        base = os.environ.get("LOCALAPPDATA") or str(Path.home() / "AppData" / "Local")
    else:
        base = os.environ.get("XDG_CACHE_HOME") or str(Path.home() / ".cache")
    return Path(base, "qsdk", "quarantine.json")


def machine() -> str:
    """What the findings hold for: another CPU may run what this one cannot."""
    return ",".join(sorted(cpu.found()))


def reason(full_name: str, version: str) -> str:
    """Why this version of a kernel is not to run on this machine; empty when it may."""
    found = _read_now(path()).get(machine(), {}).get(f"{full_name} {version}", "")
    return f"in quarantine, because `qsdk doctor` found: {found}" if found else ""


def note(findings: Mapping[tuple[str, str], str]) -> bool:
    """Write down what was found of kernels on this machine; what others hold stays as it is.

    findings : (full name, version) -> what is wrong; empty for a kernel that is sound, which
        takes it out of quarantine
    Returns whether the file had to be changed. Raises OSError where it cannot be.
    """
    file, here = path(), machine()
    document = {key: dict(held) for key, held in _read_now(file).items()}
    before = document.get(here, {})
    found = {" ".join(key): text for key, text in findings.items()}
    after = {key: text for key, text in {**before, **found}.items() if text}
    if after == before:
        return False
    _write(file, {"machines": {**document, here: after}})
    return True


def _write(file: Path, document: Mapping[str, Any]) -> None:
    """Whole or not at all: others may be reading."""
    file.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.NamedTemporaryFile(
        "w", encoding="utf-8", dir=file.parent, prefix="quarantine-", delete=False
    ) as other:
        name = Path(other.name)
        try:
            json.dump(document, other, indent=2)
        except BaseException:
            name.unlink()
            raise
    name.replace(file)


def _read_now(file: Path) -> Mapping[str, Mapping[str, str]]:
    try:
        return _read(file, file.stat().st_mtime_ns)
    except OSError:
        return {}


@functools.lru_cache(maxsize=4)
def _read(file: Path, stamp: int) -> Mapping[str, Mapping[str, str]]:
    try:
        document = json.loads(file.read_text("utf-8"))
        return {str(key): dict(value) for key, value in document["machines"].items()}
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return {}  # damaged: the doctor writes a new one
