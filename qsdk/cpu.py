"""What this CPU can run: features found, taken away by the user, and left; how many threads.

``QSDK_DISABLE_CPU_FEATURES=avx512f,amx_int8`` takes features away, with all that build on them.
It can only take away: nothing here makes a kernel run where it would crash.
"""

from __future__ import annotations

import functools
import os
import warnings
from collections.abc import Mapping

from qsdk import native
from qsdk.errors import OptionError

EXTENSION = "extension"  # the C extension is there: what every kernel in C needs

# Every feature that a kernel may name, on any platform, and what it builds on.
FEATURES: Mapping[str, frozenset[str]] = {
    EXTENSION: frozenset(),
    "avx2": frozenset(),
    "fma": frozenset({"avx2"}),
    "f16c": frozenset(),
    "avxvnni": frozenset({"avx2"}),
    "avx512f": frozenset({"avx2"}),
    "avx512dq": frozenset({"avx512f"}),
    "avx512bw": frozenset({"avx512f"}),
    "avx512vl": frozenset({"avx512f"}),
    "avx512vbmi": frozenset({"avx512bw"}),
    "avx512vnni": frozenset({"avx512f"}),
    "avx512vpopcntdq": frozenset({"avx512f"}),
    "amx_tile": frozenset(),
    "amx_int8": frozenset({"amx_tile"}),
    "neon": frozenset(),
    "dotprod": frozenset({"neon"}),
    "i8mm": frozenset({"neon"}),
}


def found() -> frozenset[str]:
    """What the CPU has and the operating system lets run; empty without the C extension."""
    return _found() if native.available() else frozenset()


def disabled() -> frozenset[str]:
    """What ``QSDK_DISABLE_CPU_FEATURES`` takes away, with all that builds on it."""
    return _disabled(os.environ.get("QSDK_DISABLE_CPU_FEATURES", ""))


def features() -> frozenset[str]:
    """What kernels may use."""
    return found() - disabled()


def threads() -> int:
    """Threads that a layer may use: QSDK_NUM_THREADS, or 0 for as many as OpenMP gives."""
    text = os.environ.get("QSDK_NUM_THREADS", "").strip()
    if not text:
        return 0
    if not text.isdecimal() or int(text) < 1:
        raise OptionError(f"QSDK_NUM_THREADS is {text!r}; give a whole number from 1")
    return int(text)


def cores() -> int:
    """CPUs for work of more than one thread: QSDK_NUM_THREADS, or all that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return threads() or len(os.sched_getaffinity(0))
    return threads() or os.cpu_count() or 1


_after_fork = False


def most_threads(asked: int = 0) -> int:
    """What a call may use of the threads ``asked`` for, 0 being as many as OpenMP gives.

    1 in a forked child: the threads of its parent are gone, and GNU OpenMP waits for them.
    """
    return 1 if _after_fork else asked


def _note_fork() -> None:
    global _after_fork
    _after_fork = True


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_note_fork)


def why_not(needed: frozenset[str]) -> str:
    """Why a kernel that needs these features cannot run here; empty when it can."""
    if EXTENSION in needed and not native.available():
        return f"the C extension is not in use: {native.reason()}"
    missing = sorted(needed - found())
    if missing:
        return f"this CPU has no {', '.join(missing)}"
    taken = sorted(needed & disabled())
    if taken:
        return f"QSDK_DISABLE_CPU_FEATURES takes away {', '.join(taken)}"
    return ""


@functools.cache
def _found() -> frozenset[str]:
    names = {EXTENSION, *native.cpu_features()}
    return frozenset(name for name in names if FEATURES[name] <= names)


@functools.cache
def _disabled(words: str) -> frozenset[str]:
    named = {word.strip().lower() for word in words.split(",") if word.strip()}
    unknown = sorted(named - set(FEATURES))
    if unknown:
        warnings.warn(
            f"QSDK_DISABLE_CPU_FEATURES names {', '.join(unknown)}, which is no feature; "
            f"known: {', '.join(FEATURES)}",
            stacklevel=3,
        )
    taken = named & set(FEATURES)
    while more := {name for name, needs in FEATURES.items() if needs & taken} - taken:
        taken |= more
    return frozenset(taken)
