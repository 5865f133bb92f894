"""What is put to the test: a registered name, a class, or an instance with its options."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import attrs

from qsdk.errors import OptionError
from qsdk.plugins import KINDS, Entry
from qsdk.registry import build, default_scheme, find, option_fields
from qsdk.scheme import Scheme


@attrs.frozen(eq=False)
class Subject:
    """One plugin's class, with the options it is to be tested with.

    full_name : how the registry finds it; empty when it is not registered
    """

    kind: str
    target: type[Any]
    full_name: str = ""
    options: Mapping[str, Any] = attrs.field(factory=dict)

    @property
    def name(self) -> str:
        name: str = self.target.name
        return name

    @property
    def scheme(self) -> Scheme:
        """That of the instance given, or the default of its class."""
        scheme = self.options.get("scheme") or default_scheme(self.target)
        assert isinstance(scheme, Scheme)
        return scheme

    def build(self, **options: Any) -> Any:
        """A new instance; ``options`` go before those that the subject was given with."""
        return self.target(**{**self.options, **options})

    def plain_options(self) -> dict[str, Any]:
        """The options as JSON has them."""
        return {
            word: attrs.asdict(value) if isinstance(value, Scheme) else value
            for word, value in self.options.items()
            if isinstance(value, (Scheme, bool, int, float, str, type(None)))
        }


def subject_of(given: Any, options: Mapping[str, Any] | None = None) -> Subject:
    """The subject that ``given`` means: a name, a registry entry, a class or an instance."""
    if isinstance(given, Subject):
        return given
    if isinstance(given, str):
        given = find(given)
    if isinstance(given, Entry):
        return Subject(given.kind, given.target, given.full_name, _from_plain(given, options))
    target = given if isinstance(given, type) else type(given)
    kind = next((kind for kind, base in KINDS.items() if issubclass(target, base)), None)
    if kind is None:
        raise OptionError(
            f"{given!r} is no plugin; give a name, or a class or an instance of "
            + ", ".join(base.__name__ for base in KINDS.values())
        )
    own = {} if given is target or kind == "encoding" else _options_of(given)
    return Subject(kind, target, options={**own, **(options or {})})


def _options_of(instance: Any) -> dict[str, Any]:
    return {
        word: getattr(instance, word)
        for word in option_fields(type(instance))
        if hasattr(instance, word)
    }


def _from_plain(entry: Entry, options: Mapping[str, Any] | None) -> dict[str, Any]:
    """Options as ``plain_options`` gave them."""
    given = dict(options or {})
    if isinstance(given.get("scheme"), Mapping):
        given["scheme"] = Scheme(**given["scheme"])
    if given:
        build(entry, given)  # refuses unknown options
    return given
