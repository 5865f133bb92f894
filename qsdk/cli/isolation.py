"""Plugins imported in processes of their own: what dies or hangs there takes nothing with it."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from qsdk.cli.checkup import facts_of
from qsdk.plugins import Plugin, find_plugins, load, new_manager

# The child looks for modules where its parent does, wherever that was told so.
CHILD = (
    "import json, sys; sys.path[:] = json.loads(sys.argv[1]); "
    "from qsdk.cli.isolation import tell; tell(*sys.argv[2:])"
)
TAIL = 4000  # bytes of what a process said before it died
LAST_WORDS = 1.0  # seconds that a process gets to say where it hangs


def tell(target: str, *full_names: str) -> None:
    """What the child does: import plugins, and write their facts to the file ``target``."""
    import resource  # not on every platform, and needed by none but this process

    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))  # a crash leaves no file behind
    plugins = {plugin.full_name: plugin for plugin in find_plugins()}
    for name in full_names:
        load(plugins[name], new_manager())
    facts = [facts_of(plugins[name]) for name in full_names]
    Path(target).write_text(json.dumps(facts), encoding="utf-8")


def isolated_facts(plugins: Sequence[Plugin], seconds: float) -> list[dict[str, Any]]:
    """The facts of every plugin, imported in children that have so many ``seconds`` each.

    Plugins of one distribution share a child; where that comes to a bad end, each gets its own.
    Nothing is imported here. A plugin that fails there is marked broken here, so that nobody
    imports it later.
    """
    together: dict[str, list[Plugin]] = {}
    for plugin in plugins:
        if plugin.health != "disabled":
            together.setdefault(plugin.distribution, []).append(plugin)
    found = {plugin.full_name: facts_of(plugin) for plugin in plugins}
    with ThreadPoolExecutor(os.cpu_count() or 1) as pool:
        for facts in pool.map(lambda group: _probe(group, seconds), together.values()):
            found.update(facts)
    names = Counter(plugin.name for plugin in plugins)
    for plugin in plugins:
        fact = found[plugin.full_name]
        if fact["health"] == "broken":
            word = plugin.name if names[plugin.name] == 1 else plugin.full_name
            fact["reason"] += f"; QSDK_DISABLE_PLUGINS={word} keeps it from being imported"
            plugin.health, plugin.reason = "broken", fact["reason"]
    return [found[plugin.full_name] for plugin in plugins]


def _probe(plugins: Sequence[Plugin], seconds: float) -> dict[str, dict[str, Any]]:
    """Facts by full name."""
    with tempfile.TemporaryDirectory(prefix="qsdk-doctor-") as folder:
        target, said = Path(folder, "facts.json"), Path(folder, "said")
        words = [json.dumps(sys.path), str(target), *(plugin.full_name for plugin in plugins)]
        with said.open("wb") as stream:
            process = subprocess.Popen(
                [sys.executable, "-X", "faulthandler", "-c", CHILD, *words],
                stdin=subprocess.DEVNULL,
                stdout=stream,
                stderr=stream,
                start_new_session=True,
            )
            ending = ending_of(process, seconds)
        facts = _read(target)
        if facts is not None and ending == "ended with exit status 0":
            return {plugin.full_name: fact for plugin, fact in zip(plugins, facts, strict=True)}
        if len(plugins) > 1:
            alone = (_probe([plugin], seconds) for plugin in plugins)
            return {name: fact for found in alone for name, fact in found.items()}
        return {
            plugins[0].full_name: {
                **(facts[0] if facts else facts_of(plugins[0])),
                "health": "broken",
                "reason": f"{'after' if facts else 'at'} its import the process {ending}",
                "traceback": said.read_bytes()[-TAIL:].decode(errors="replace").strip(),
            }
        }


def ending_of(process: subprocess.Popen[bytes], seconds: float) -> str:
    """How the process ended, in words; it is over then, and so is what it started."""
    try:
        status = process.wait(seconds)
    except subprocess.TimeoutExpired:
        process.send_signal(signal.SIGABRT)  # faulthandler then says where it was
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(LAST_WORDS)
        return f"did not end within {seconds:g} s"
    finally:
        with contextlib.suppress(OSError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
    return f"ended with exit status {status}" if status >= 0 else f"was killed by {_name(-status)}"


def _name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:  # the real-time signals between the first and the last have no name
        return f"signal {number}"


def _read(target: Path) -> list[dict[str, Any]] | None:
    """What the child wrote; None if it did not come to that."""
    try:
        facts = json.loads(target.read_bytes())
    except (OSError, ValueError):
        return None
    return facts if isinstance(facts, list) else None


def conflicts_of(facts: Sequence[dict[str, Any]]) -> list[str]:
    """Names that more than one distribution claims, as ``Registry.conflicts`` would find them."""
    claims: dict[tuple[str, str], set[str]] = {}
    for plugin in facts:
        for full_name in plugin["provides"]:
            _, kind, name = full_name.split(":")
            claims.setdefault((kind, name), set()).add(f"{full_name} {plugin['version']}")
    return [
        f"{kind} {name!r}: {' and '.join(sorted(found))}"
        for (kind, name), found in sorted(claims.items())
        if len(found) > 1
    ]
