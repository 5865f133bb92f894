"""Everything that qsdk raises on purpose, and the exit status each gives the command line.

A message says what was given, what was expected, and what to do.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Sequence


class QsdkError(Exception):
    """Base of all errors of qsdk; ``exit_status`` is what the command line returns."""

    exit_status = 1


class SchemeError(QsdkError, ValueError):
    """A number format that does not exist, or does not fit the array."""

    exit_status = 2


class OptionError(QsdkError, ValueError):
    """An unknown option, or a value that the option does not take."""

    exit_status = 2


class RecipeError(QsdkError, ValueError):
    """A recipe that cannot be read, or that fits no layer."""

    exit_status = 2


class PreflightError(QsdkError, ValueError):
    """Problems found before any work was done; ``problems`` holds them all."""

    exit_status = 2

    def __init__(self, problems: Sequence[str]):
        self.problems = tuple(problems)
        count = f"{len(problems)} problem{'s' if len(problems) > 1 else ''}"
        super().__init__(f"{count} found before starting: " + "; ".join(problems))


class UnknownNameError(QsdkError, LookupError):
    """Nothing is registered under this name."""

    exit_status = 2


class ConflictError(QsdkError, LookupError):
    """Several distributions, or several kinds of thing, answer to one name."""

    exit_status = 2


class DataError(QsdkError, ValueError):
    """An array that cannot be quantized: NaN, infinity, not a float."""

    exit_status = 4


class EncodingError(QsdkError, ValueError):
    """Arrays that no quantizer could have written."""

    exit_status = 4


class FileRefusedError(QsdkError, ValueError):
    """A file that is damaged, hostile, or not what its name says."""

    exit_status = 4


class PluginError(QsdkError, RuntimeError):
    """A plugin that did not load, or broke its contract."""

    exit_status = 5


class MissingExtraError(QsdkError, ImportError):
    """A package that an optional part of qsdk needs is not installed."""

    exit_status = 5

    def __init__(self, what: str, extra: str):
        super().__init__(f"{what} is not installed; type: pip install 'qsdk[{extra}]'")


class NativeError(QsdkError, RuntimeError):
    """The C extension was asked for and is not there, or was handed an array it cannot take."""


class KernelError(QsdkError, RuntimeError):
    """No kernel can run the operation here, or the one asked for cannot."""


class QualityError(QsdkError, RuntimeError):
    """The result was written, but misses a limit that the caller set."""

    exit_status = 3


class NothingQuantizedError(QsdkError, RuntimeError):
    """The run would have changed nothing."""


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """``"; did you mean 'x'?"`` for the nearest known names, or the list of them all.

    >>> did_you_mean("gtpq", ["gptq", "rtn"])
    "; did you mean 'gptq'?"
    >>> did_you_mean("other", ["gptq", "rtn"])
    '; known: gptq, rtn'
    """
    names = sorted(set(known))
    near = difflib.get_close_matches(name, names, n=3, cutoff=0.6)
    if near:
        return "; did you mean " + " or ".join(repr(n) for n in near) + "?"
    return "; known: " + (", ".join(names) or "none")


def some(names: Iterable[str], most: int = 5) -> str:
    """The first few of many names.

    >>> some("abc", most=2)
    'a, b and 1 more'
    """
    listed = list(names)
    more = f" and {len(listed) - most} more" if len(listed) > most else ""
    return ", ".join(listed[:most]) + more


def grouped(reasons: Iterable[tuple[str, str]]) -> list[str]:
    """From (name, reason) one line for all names of which the same is to be said.

    >>> grouped([("conv1", "too small"), ("fc", "odd"), ("conv2", "too small")])
    ['conv1, conv2: too small', 'fc: odd']
    """
    names: dict[str, list[str]] = {}
    for name, reason in reasons:
        names.setdefault(reason, []).append(name)
    return [f"{some(which)}: {reason}" for reason, which in names.items()]
