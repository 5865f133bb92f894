"""Words and numbers as people read them."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping

from qsdk.errors import some


def printable(text: str) -> str:
    """``text`` with control characters escaped: a name in a file must not drive a terminal.

    >>> printable("a\\x1b[2Jb")
    'a\\\\x1b[2Jb'
    """
    return "".join(c if c.isprintable() else repr(c)[1:-1] for c in text)


def one_line(text: str) -> str:
    return printable(" ".join(text.split()))


def shape_text(shape: Iterable[int]) -> str:
    """``16x3x3x3``; ``scalar`` without axes."""
    return "x".join(map(str, shape)) or "scalar"


def decibels(value: float) -> str:
    return "exact" if value == math.inf else f"{value:.2f}"


def size_text(nbytes: int) -> str:
    """
    >>> size_text(187730), size_text(12)
    ('187.7 kB', '12 bytes')
    """
    if nbytes < 1000:
        return f"{nbytes} bytes"
    size, unit = float(nbytes), 0
    while size >= 999.95 and unit < 4:
        size, unit = size / 1000, unit + 1
    return f"{size:.1f} {['bytes', 'kB', 'MB', 'GB', 'TB'][unit]}"


def by_reason(kept: Mapping[str, str]) -> list[str]:
    """One line per reason, with how many names have it.

    >>> by_reason({"a": "too small", "b": "too small"})
    ['2 too small: a, b']
    """
    names: dict[str, list[str]] = {}
    for name, reason in kept.items():
        names.setdefault(reason, []).append(name)
    return [f"{len(which)} {reason}: {some(which)}" for reason, which in names.items()]
