"""What a kernel's class must declare for dispatch to read it."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from qsdk.cpu import FEATURES
from qsdk.errors import did_you_mean
from qsdk.interfaces.kernel import Kernel
from qsdk.interfaces.operation import OUTPUTS, InputForm
from qsdk.scheme import Granularity

OPERATIONS = ("linear", "conv")
SETS: dict[str, tuple[Iterable[Any], bool]] = {  # the words to choose from; whether none is enough
    "activations": (tuple(map(str, InputForm)), False),
    "outputs": (OUTPUTS, False),
    "bits": (range(1, 9), False),
    "granularity": (tuple(map(str, Granularity)), False),
    "features": (FEATURES, True),
}


def misdeclared(target: type[Kernel]) -> str:
    """What is wrong with the declaration of a kernel's class; empty when it is sound."""
    name, declared = target.__name__, {word: getattr(target, word, None) for word in _WORDS}
    if declared["operation"] not in OPERATIONS:
        return f"{name}.operation is {declared['operation']!r}; give {' or '.join(OPERATIONS)}"
    for word in ("encoding", "backend", "reference"):
        text = declared[word]
        if not isinstance(text, str) or not (text or word == "reference"):
            return f"{name}.{word} is {text!r}; give a name"
    for word, least in (("group_multiple", 1), ("priority", 0)):
        number = declared[word]
        if type(number) is not int or number < least:
            return f"{name}.{word} is {number!r}; give a whole number from {least}"
    return next(filter(None, (_fault(name, word, declared[word]) for word in SETS)), "")


_WORDS = ("operation", "encoding", "backend", "reference", "group_multiple", "priority", *SETS)


def _fault(name: str, word: str, given: Any) -> str:
    known, may_be_empty = SETS[word]
    if not isinstance(given, frozenset) or not (given or may_be_empty):
        choices = ", ".join(map(str, known))
        return f"{name}.{word} is {given!r}; give a frozenset of {choices}"
    unknown = sorted(map(str, given - set(known)))
    if not unknown:
        return ""
    hint = did_you_mean(unknown[0], [str(choice) for choice in known])
    return f"{name}.{word} names {', '.join(unknown)}, which there is not{hint}"
