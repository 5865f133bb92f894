"""Whether the C extension is there, which sets of functions this CPU can use, and why not."""

from __future__ import annotations

import functools
import importlib
import os
from typing import Any

from qsdk.errors import NativeError


def available() -> bool:
    """True when C can be called."""
    return not reason()


def reason() -> str:
    """Why it cannot; empty when it can."""
    if os.environ.get("QSDK_DISABLE_NATIVE") == "1":
        return "switched off by QSDK_DISABLE_NATIVE"
    return loaded()[1]


def library() -> Any:
    """The compiled module, with its ``ffi`` and ``lib``, for the kernels that are in it.

    Raises NativeError with the reason when there is none to use.
    """
    if why := reason():
        raise NativeError(f"the C extension is asked for but not available: {why}")
    return loaded()[0]


def cpu_features() -> list[str]:
    """Names of the CPU features that are there and usable, as ``native/cpu`` finds them."""
    module = library()
    mask = module.lib.qsdk_cpu_features()
    names: list[str] = []
    while (name := module.lib.qsdk_cpu_feature_name(len(names))) != module.ffi.NULL:
        names.append(module.ffi.string(name).decode())
    return [name for bit, name in enumerate(names) if mask >> bit & 1]


def array_sets() -> dict[str, frozenset[str]]:
    """The sets of functions that this build has, the fastest first, and the features each needs."""
    return {name: features for name, features, _ in sets(library())}


def array_set() -> str:
    """Which of them is called: the first whose features may all be used."""
    return str(library().ffi.string(functions().name).decode())


def functions() -> Any:
    """The functions of the set to use."""
    return _chosen(library(), os.environ.get("QSDK_DISABLE_CPU_FEATURES", ""))


@functools.cache
def loaded() -> tuple[Any, str]:
    """The compiled module and "", or None and why it did not load."""
    try:
        return importlib.import_module("qsdk._native"), ""
    except ImportError as error:
        return None, str(error)


@functools.cache
def _chosen(module: Any, disabled: str) -> Any:
    from qsdk import cpu  # which asks here what is found

    usable = cpu.features()
    return next(functions for _, features, functions in sets(module) if features <= usable)


@functools.cache
def sets(module: Any) -> list[tuple[str, frozenset[str], Any]]:
    """Name, features and functions of each set, the fastest first."""
    found: list[tuple[str, frozenset[str], Any]] = []
    while (functions := module.lib.qsdk_arrays(len(found))) != module.ffi.NULL:
        name, words = (
            module.ffi.string(text).decode() for text in (functions.name, functions.features)
        )
        found.append((name, frozenset(words.split()), functions))
    return found
