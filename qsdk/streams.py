"""Standard output is for results: what code of others prints meanwhile goes to standard error."""

from __future__ import annotations

import contextlib
import os
import sys
import threading
from collections.abc import Iterator
from typing import Any

STDOUT, STDERR = 1, 2  # file descriptors


class _Diversion:
    """Standard output as Python and as C have it, led elsewhere and back.

    It is one for the whole process, so blocks are counted: the first diverts, the last restores.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()  # not held within a block: an import has locks of its own
        self._blocks = 0
        self._stream: Any = None
        self._descriptor: int | None = None

    def enter(self) -> None:
        with self._lock:
            self._blocks += 1
            if self._blocks == 1:
                _flush()
                self._stream, sys.stdout = sys.stdout, sys.stderr
                self._descriptor = _divert()

    def leave(self) -> None:
        with self._lock:
            self._blocks -= 1
            if self._blocks == 0:
                sys.stdout = self._stream
                _flush()  # while it still goes to standard error
                if self._descriptor is not None:
                    _restore(self._descriptor)


def _divert() -> int | None:
    """A copy of descriptor 1, which then is as descriptor 2; None where one of them is closed."""
    try:
        kept = os.dup(STDOUT)
    except OSError:
        return None
    try:
        os.dup2(STDERR, STDOUT)
    except OSError:
        os.close(kept)
        return None
    return kept


def _restore(kept: int) -> None:
    with contextlib.suppress(OSError):  # whoever closes all descriptors has closed this one too
        os.dup2(kept, STDOUT)
        os.close(kept)


def _flush() -> None:
    """Write out what Python and C hold back, each on its way of now."""
    with contextlib.suppress(AttributeError, OSError, ValueError):  # no stdout, broken or closed
        sys.stdout.flush()
    with contextlib.suppress(ImportError, AttributeError, OSError, TypeError):  # no C library
        import ctypes

        ctypes.CDLL(None).fflush(None)


_diversion = _Diversion()


@contextlib.contextmanager
def output_to_stderr() -> Iterator[None]:
    """What is printed in the block, by Python or by C, goes to standard error.

    Blocks may nest and overlap in threads; output of other threads goes there meanwhile too.
    """
    _diversion.enter()
    try:
        yield
    finally:
        _diversion.leave()
