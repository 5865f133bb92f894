"""What is installed, and how every plugin does."""

from __future__ import annotations

import platform
import re
import sys
import traceback
from importlib import metadata
from typing import Any

from qsdk.plugins import Plugin
from qsdk.registry import Registry

NOT_FOR_USERS = frozenset({"test", "docs"})


def platform_facts() -> dict[str, str]:
    return {
        "qsdk": metadata.version("qsdk"),
        "Python": f"{platform.python_version()} ({sys.executable})",
        "numpy": metadata.version("numpy"),
        "platform": platform.platform(),
    }


def extras() -> list[dict[str, Any]]:
    """The packages of each extra, with the version that is installed or how to get it."""
    return [
        {
            "package": package,
            "extra": extra,
            "version": version,
            "health": "ok" if version else f"missing: pip install 'qsdk[{extra}]'",
        }
        for extra, package in _extra_packages()
        for version in [_version(package)]
    ]


def _extra_packages() -> list[tuple[str, str]]:
    found = []
    for requirement in metadata.requires("qsdk") or ():
        name = re.match(r"[\w.-]+", requirement)
        extra = re.search(r"extra == ['\"]([\w-]+)['\"]", requirement)
        if name and extra and extra[1] not in NOT_FOR_USERS:
            found.append((extra[1], name[0]))
    return sorted(found)


def _version(package: str) -> str | None:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None


def plugin_facts(registry: Registry) -> list[dict[str, Any]]:
    """Every plugin, loaded; those that are broken do not hinder the others."""
    registry.entries()
    return [facts_of(plugin) for plugin in registry.plugins]


def facts_of(plugin: Plugin) -> dict[str, Any]:
    return {
        "name": plugin.name,
        "distribution": plugin.distribution,
        "version": plugin.version,
        "module": plugin.value,
        "health": plugin.health,
        "seconds": plugin.seconds,
        "reason": plugin.reason,
        "provides": [entry.full_name for entry in plugin.entries],
        "traceback": _traceback_of(plugin),
    }


def _traceback_of(plugin: Plugin) -> str:
    """Where a broken plugin failed; empty for the others."""
    if plugin.error is None:
        return ""
    return "".join(traceback.format_exception(plugin.error)).rstrip()
