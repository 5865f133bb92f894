"""Kernels that crashed or gave wrong results on this machine: remembered, and not dispatched.

``qsdk doctor`` tries every kernel in a process of its own and writes what it finds to a file in
``QSDK_CACHE_DIR`` (default: the user's cache folder), for this CPU and this version.
"""

from __future__ import annotations

import functools
import json
import os
import sys
from collections.abc import Mapping
from pathlib import Path

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
    file = path()
    try:
        stamp = file.stat().st_mtime_ns
    except OSError:
        return ""
    found = _read(file, stamp).get(machine(), {}).get(f"{full_name} {version}", "")
    return f"in quarantine since `qsdk doctor` found: {found}" if found else ""


@functools.lru_cache(maxsize=4)
def _read(file: Path, stamp: int) -> Mapping[str, Mapping[str, str]]:
    try:
        document = json.loads(file.read_text("utf-8"))
        return {str(key): dict(value) for key, value in document["machines"].items()}
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return {}  # damaged: the doctor writes a new one
