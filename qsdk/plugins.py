"""Finding plugins by their entry points, and loading each on its own.

pluggy's bulk loader imports everything and lets one bad package take the host down, so loading
is ours: guarded, timed, rolled back when it fails. Registering and checking hooks is pluggy's.
"""

from __future__ import annotations

import importlib
import inspect
import os
import time
from collections.abc import Iterable, Sequence
from importlib import metadata
from types import ModuleType
from typing import Any

import attrs
import pluggy

from qsdk import hookspecs
from qsdk.encodings import Encoding
from qsdk.errors import PluginError, QsdkError
from qsdk.interfaces import (
    CONTRACT,
    Adapter,
    Kernel,
    ModelPass,
    Observer,
    Quantizer,
    misdeclared,
)
from qsdk.streams import output_to_stderr

GROUP = "qsdk"
KINDS: dict[str, type[Any]] = {
    "quantizer": Quantizer,
    "observer": Observer,
    "adapter": Adapter,
    "encoding": Encoding,
    "kernel": Kernel,
    "pass": ModelPass,
}
HOOKS = {kind: f"qsdk_{kind}s" for kind in KINDS} | {"pass": "qsdk_passes"}


@attrs.frozen
class Entry:
    """A registered thing: what ``registry.get`` finds."""

    kind: str
    name: str
    distribution: str
    version: str
    plugin: str
    target: type[Any] = attrs.field(repr=False)

    @property
    def full_name(self) -> str:
        return f"{self.distribution}:{self.kind}:{self.name}"

    @property
    def origin(self) -> str:
        return f"{self.distribution} {self.version}"


@attrs.define
class Plugin:
    """An entry point: found by metadata alone, imported when it is first needed.

    health : "not loaded", "ok", "broken" or "disabled"; ``reason`` says why
    seconds : what importing it took
    """

    name: str
    distribution: str
    version: str
    value: str
    health: str = "not loaded"
    reason: str = ""
    error: BaseException | None = attrs.field(default=None, repr=False)
    seconds: float = 0.0
    entries: tuple[Entry, ...] = ()

    @property
    def full_name(self) -> str:
        return f"{self.distribution}:{self.name}"

    def failure(self) -> PluginError:
        """The error to raise when somebody asks for this plugin."""
        error = PluginError(
            f"plugin {self.name!r} of {self.distribution} {self.version} is {self.health}: "
            f"{self.reason}; `qsdk doctor` shows more"
        )
        error.__cause__ = self.error
        return error


def find_plugins(entry_points: Iterable[metadata.EntryPoint] | None = None) -> list[Plugin]:
    """Every plugin that is installed, sorted, so that order of discovery decides nothing."""
    if entry_points is None:
        entry_points = metadata.entry_points(group=GROUP)
    found: dict[tuple[str, str], Plugin] = {}
    for point in entry_points:
        distribution = point.dist.name if point.dist else "unknown"
        version = point.dist.version if point.dist else "unknown"
        plugin = Plugin(point.name, distribution, version, point.value)
        found.setdefault((distribution, point.name), plugin)  # a path listed twice
    disabled = {
        name.strip() for name in os.environ.get("QSDK_DISABLE_PLUGINS", "").split(",") if name
    }
    for plugin in found.values():
        if plugin.name in disabled or plugin.full_name in disabled:
            plugin.health, plugin.reason = "disabled", "named in QSDK_DISABLE_PLUGINS"
    return [found[key] for key in sorted(found)]


def new_manager() -> pluggy.PluginManager:
    manager = pluggy.PluginManager("qsdk")
    manager.add_hookspecs(hookspecs)
    return manager


def load(plugin: Plugin, manager: pluggy.PluginManager) -> None:
    """Import ``plugin`` and collect what it gives; on any failure mark it broken and undo."""
    if plugin.health == "not loaded":
        _load(plugin, manager)
    if plugin.health == "broken" and os.environ.get("QSDK_STRICT") == "1":
        raise plugin.failure()


def _load(plugin: Plugin, manager: pluggy.PluginManager) -> None:
    start = time.perf_counter()
    module = None
    try:
        # Whatever a plugin prints must not end up in a document on standard output.
        with output_to_stderr():
            module = _import(plugin.value)
            if not manager.is_registered(module):  # it may have an entry point for each name
                manager.register(module, name=plugin.full_name)
                manager.check_pending()
            plugin.entries = tuple(_entries(plugin, module, manager))
        plugin.health = "ok"
    except (Exception, SystemExit) as error:
        plugin.health, plugin.error = "broken", error
        plugin.reason = str(error) if isinstance(error, QsdkError) else _in_words(error)
        if module is not None and manager.has_plugin(plugin.full_name):
            manager.unregister(name=plugin.full_name)
    plugin.seconds = time.perf_counter() - start


def _in_words(error: BaseException) -> str:
    text = " ".join(str(error).split())
    return f"{type(error).__name__}: {text}" if text else type(error).__name__


def _import(value: str) -> ModuleType:
    module = importlib.import_module(value)
    written_for = getattr(module, "qsdk_contract", CONTRACT)
    if written_for != CONTRACT:
        raise PluginError(
            f"it was written for contract version {written_for}, and this qsdk has {CONTRACT}; "
            "install versions that fit each other"
        )
    return module


def _entries(plugin: Plugin, module: ModuleType, manager: pluggy.PluginManager) -> list[Entry]:
    others = [p for p in manager.get_plugins() if p is not module]
    entries = []
    for kind in KINDS:
        hook = manager.subset_hook_caller(HOOKS[kind], others)
        for given in hook():
            if not isinstance(given, Sequence) or isinstance(given, str):
                raise PluginError(f"{HOOKS[kind]} gave {given!r}; give a list of classes")
            for target in given:
                _check(kind, target)
                entry = Entry(
                    kind, target.name, plugin.distribution, plugin.version, plugin.name, target
                )
                entries.append(entry)
    if not entries:
        raise PluginError(
            f"module {plugin.value} gives nothing; mark a function such as "
            "qsdk_quantizers() with @qsdk.hookimpl and return a list of classes"
        )
    return entries


def _check(kind: str, target: Any) -> None:
    """Refuse what cannot be an entry of this kind, with the reason."""
    interface: Any = KINDS[kind]
    is_class = isinstance(target, type)
    if not (is_class and issubclass(target, interface)):
        raise PluginError(f"{HOOKS[kind]} gave {target!r}; give subclasses of {interface.__name__}")
    name = getattr(target, "name", None)
    if not isinstance(name, str) or not name or ":" in name:
        raise PluginError(f"{target.__name__}.name is {name!r}; give a short text without ':'")
    if target.contract != CONTRACT:
        raise PluginError(
            f"{name!r} was written for contract version {target.contract}, "
            f"and this qsdk has {CONTRACT}; install versions that fit each other"
        )
    if inspect.isabstract(target):
        missing = ", ".join(sorted(getattr(target, "__abstractmethods__", ())))
        raise PluginError(f"{target.__name__} does not define {missing}")
    if kind == "quantizer" and not hasattr(target, "capabilities"):
        raise PluginError(f"{target.__name__} does not declare its capabilities")
    if kind == "kernel" and (fault := misdeclared(target)):
        raise PluginError(fault)
