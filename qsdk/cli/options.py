"""The options of a class, read from its attrs fields, validators and docstrings."""

from __future__ import annotations

import inspect
import re
from typing import Any

import attrs

from qsdk.interfaces import Quantizer
from qsdk.registry import default_scheme, option_fields
from qsdk.scheme import Scheme


@attrs.frozen
class Option:
    """One thing that ``registry.get(name, option=...)`` takes.

    limits : in words; empty when the type says all
    """

    name: str
    type: str
    default: Any
    limits: str
    meaning: str

    def to_dict(self) -> dict[str, Any]:
        return attrs.asdict(self)


def options_of(target: type[Any]) -> list[Option]:
    """Scheme words first, for a quantizer, then the options of its own."""
    fields = option_fields(target)
    own = [_option(target, name, field) for name, field in fields.items() if name != "scheme"]
    if not issubclass(target, Quantizer):
        return own
    scheme = default_scheme(target)
    words = [
        attrs.evolve(_option(Scheme, name, field), default=getattr(scheme, name))
        for name, field in attrs.fields_dict(Scheme).items()
    ]
    return [*words, *own]


def _option(target: type[Any], name: str, field: Any) -> Option:
    default: Any = getattr(field, "default", None)
    if hasattr(default, "factory"):
        default = "computed" if default.takes_self else default.factory()
    if default is attrs.NOTHING or default is inspect.Parameter.empty:
        default = "required"
    kind = getattr(field, "type", None) or getattr(field, "annotation", "")
    text = kind if isinstance(kind, str) else getattr(kind, "__name__", str(kind))
    allowed = limits(getattr(field, "validator", None))
    return Option(name, text, default, allowed, _meaning(target, name))


def limits(validator: Any) -> str:
    """What a validator allows, in words: ``> 50, <= 100``.

    >>> limits([attrs.validators.gt(50), attrs.validators.le(100)])
    '> 50, <= 100'
    >>> limits(attrs.validators.in_(("E", "EK")))
    'E or EK'
    """
    if validator is None:
        return ""
    if isinstance(validator, (list, tuple)):
        return ", ".join(filter(None, map(limits, validator)))
    if hasattr(validator, "_validators"):
        return limits(validator._validators)
    if hasattr(validator, "compare_op"):
        return f"{validator.compare_op} {validator.bound}"
    if hasattr(validator, "options"):
        return " or ".join(map(str, validator.options))
    if hasattr(validator, "validator"):
        return limits(validator.validator)
    return ""


def _meaning(target: type[Any], name: str) -> str:
    """The words after ``name :`` in the docstring of the class, or of one it builds on."""
    pattern = re.compile(rf"^ *(?:\w+, )*{re.escape(name)}(?:, \w+)* : (.*(?:\n    .+)*)", re.M)
    for base in target.__mro__:
        found = pattern.search(inspect.cleandoc(base.__dict__.get("__doc__") or ""))
        if found:
            return " ".join(found[1].replace("``", "").split())
    return ""
