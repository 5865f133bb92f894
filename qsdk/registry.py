"""One place to ask for anything by name: ``registry.get("squant", bits=4)``."""

from __future__ import annotations

import inspect
import operator
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any

import attrs

from qsdk.encodings import Encoding
from qsdk.errors import ConflictError, OptionError, QsdkError, UnknownNameError, did_you_mean
from qsdk.interfaces import Quantizer
from qsdk.plugins import KINDS, Entry, Plugin, find_plugins, load, new_manager
from qsdk.scheme import SCHEME_WORDS, Scheme

# Names that people ask for and that come with something not installed here.
KNOWN_ELSEWHERE: dict[str, str] = {}
BY_NAME = operator.attrgetter("kind", "name", "distribution", "version", "plugin")
ORIGIN = re.compile(r"[A-Za-z0-9][\w.-]{0,63} [0-9][\w.+!]{0,31}", re.ASCII)  # name and version


class Registry:
    """Everything registered, found by entry points when first asked for.

    A name is ``[distribution:][kind:]name``; the short form serves where it is unambiguous.

    Who owns a name: the plugin whose entry point has it. A claim of the same name by another
    distribution is a conflict that is never settled by order: two entry points of one name are
    an error that names both, and a claim without the entry point is reachable only in full.
    """

    def __init__(self, find: Callable[[], list[Plugin]] = find_plugins):
        self._find = find
        self._plugins: list[Plugin] | None = None
        self._manager = new_manager()

    @property
    def plugins(self) -> Sequence[Plugin]:
        """Every plugin found, loaded or not."""
        if self._plugins is None:
            self._plugins = self._find()
        return self._plugins

    def get(self, name: str, /, **options: Any) -> Any:
        """Build what is registered under ``name``.

        Scheme words (bits, group_size, ...) go into a quantizer's ``scheme``, other options are
        its fields. Encodings and adapters' classes are given as they are.
        Raises UnknownNameError, ConflictError, PluginError, OptionError, SchemeError.
        """
        entry = self.find(name)
        return entry.target if entry.kind == "encoding" else build(entry, options)

    def find(self, name: str) -> Entry:
        """The entry under ``name``, without building it."""
        distribution, kind, short = _split(name)
        owners = [
            p for p in self.plugins if p.name == short and distribution in (None, p.distribution)
        ]
        for plugin in owners:
            self._load(plugin)
        found = [e for p in owners for e in p.entries if _fits(e, distribution, kind, short)]
        if not found:
            for plugin in owners:
                if plugin.health in ("broken", "disabled"):
                    raise plugin.failure()
            found = _once(e for e in self._all() if _fits(e, distribution, kind, short))
        if not found:
            raise UnknownNameError(self._unknown(kind, short, name))
        return _only(found, short)

    def encoding(self, name: str, noted: Mapping[str, Any]) -> type[Encoding]:
        """The class of an encoding that stands in a file; ``noted`` is that file's metadata.

        Raises UnknownNameError, which names what is to be installed as far as the file tells.
        """
        try:
            target: type[Encoding] = self.get(f"encoding:{name}")
        except UnknownNameError as error:
            here = {f"{plugin.distribution} {plugin.version}" for plugin in self.plugins}
            absent = [origin for origin in _origins(noted) if origin not in here]
            if not absent:
                raise
            pins = " ".join(f"'{origin.replace(' ', '==')}'" for origin in absent)
            raise UnknownNameError(
                f"{error}, by its own account {' and '.join(absent)}: pip install {pins}"
            ) from None
        return target

    def entries(self, kind: str | None = None) -> list[Entry]:
        """All that loads, sorted by kind and name; broken plugins are in ``plugins``."""
        if kind is not None and kind not in KINDS:
            raise UnknownNameError(f"no kind {kind!r}{did_you_mean(kind, KINDS)}")
        return _once(entry for entry in self._all() if kind in (None, entry.kind))

    def conflicts(self) -> dict[tuple[str, str], list[Entry]]:
        """(kind, name) that more than one distribution claims, with the claims."""
        claims: dict[tuple[str, str], list[Entry]] = {}
        for entry in self.entries():
            claims.setdefault((entry.kind, entry.name), []).append(entry)
        return {key: found for key, found in claims.items() if len(found) > 1}

    def _all(self) -> Iterator[Entry]:
        for plugin in self.plugins:
            self._load(plugin)
            yield from plugin.entries

    def _load(self, plugin: Plugin) -> None:
        load(plugin, self._manager)

    def _unknown(self, kind: str | None, short: str, name: str) -> str:
        if kind is not None and kind not in KINDS:
            return f"no kind {kind!r} in {name!r}{did_you_mean(kind, KINDS)}"
        if short in KNOWN_ELSEWHERE:
            return f"no {kind or 'plugin'} named {short!r}; {KNOWN_ELSEWHERE[short]}"
        names = [e.name for e in self.entries(kind)]
        # Who asks for an encoding by name has a file that was written with it.
        hint = "; install the package that the file was made with" if kind == "encoding" else ""
        return f"no {kind or 'plugin'} named {short!r}{did_you_mean(short, names)}{hint}"


def full_name(method: str, kind: str = "quantizer") -> str:
    """``method`` as a name of this kind; what names its kind already stays."""
    if f"{kind}:" in method:
        return method
    *distribution, name = method.split(":")
    return ":".join([*distribution, kind, name])


def _split(name: str) -> tuple[str | None, str | None, str]:
    """``[distribution:][kind:]name``; two parts begin with a kind if there is such a kind."""
    parts = name.split(":")
    match parts:
        case [short]:
            return None, None, short
        case [first, short]:
            return (None, first, short) if first in KINDS else (first, None, short)
        case [distribution, kind, short]:
            return distribution, kind, short
    raise UnknownNameError(f"{name!r} has too many parts; write [distribution:][kind:]name")


def _origins(noted: Mapping[str, Any]) -> list[str]:
    """Distributions, with their versions, whose quantizers a file says that it was made with.

    A file may say anything: what is no name and version, and so no word for pip, is left out.
    """
    made = noted.get("quantizers")
    rows = [row for row in made if isinstance(row, Mapping)] if isinstance(made, list) else []
    origins = dict.fromkeys(str(row.get("origin")) for row in rows)
    return [origin for origin in origins if ORIGIN.fullmatch(origin)]


def _once(entries: Iterable[Entry]) -> list[Entry]:
    """Each thing once, also when its module has several entry points; sorted."""
    chosen: dict[tuple[str, str, type[Any]], Entry] = {}
    for entry in sorted(entries, key=lambda e: e.plugin != e.name):  # that of its own name first
        chosen.setdefault((entry.kind, entry.distribution, entry.target), entry)
    return sorted(chosen.values(), key=BY_NAME)


def _fits(entry: Entry, distribution: str | None, kind: str | None, short: str) -> bool:
    return (
        entry.name == short
        and distribution in (None, entry.distribution)
        and kind in (None, entry.kind)
    )


def _only(found: list[Entry], short: str) -> Entry:
    if len({entry.kind for entry in found}) > 1:
        choices = ", ".join(f"{entry.kind}:{short}" for entry in found)
        raise ConflictError(f"{short!r} is of several kinds; ask for one of {choices}")
    if len(found) > 1:
        origins = " and ".join(entry.origin for entry in found)
        choices = " or ".join(f"{entry.distribution}:{short}" for entry in found)
        raise ConflictError(f"{short!r} is claimed by {origins}; ask for {choices}")
    return found[0]


def build(entry: Entry, options: dict[str, Any]) -> Any:
    """An instance of the entry's class; unknown options are refused with the nearest name."""
    target = entry.target
    fields = option_fields(target)
    words = SCHEME_WORDS if issubclass(target, Quantizer) else frozenset()
    for word in options:
        if word not in fields and word not in words:
            known = [*fields, *words]
            raise OptionError(f"{entry.name} has no option {word!r}{did_you_mean(word, known)}")
    given = {word: value for word, value in options.items() if word in fields}
    scheme = {word: value for word, value in options.items() if word in words}
    if scheme:
        start = given.get("scheme", default_scheme(target))
        if not isinstance(start, Scheme):
            raise OptionError(f"scheme is {start!r}; give a Scheme, or its words: bits=4")
        given["scheme"] = start.replace(**scheme)
    try:
        return target(**given)
    except QsdkError:
        raise
    except (TypeError, ValueError) as error:
        reason = error.args[0] if error.args else error
        raise OptionError(f"{entry.name}: {reason}") from None


def option_fields(target: type[Any]) -> dict[str, Any]:
    """The options of a class: its attrs fields, or its constructor's parameters."""
    if attrs.has(target):
        return {f.name: f for f in attrs.fields(target) if f.init}
    return {n: p for n, p in inspect.signature(target).parameters.items() if n != "args"}


def default_scheme(target: type[Quantizer]) -> Scheme:
    """The scheme that a quantizer class has when nothing is said."""
    default: Any = attrs.fields_dict(target)["scheme"].default
    scheme = default.factory() if hasattr(default, "factory") else default
    assert isinstance(scheme, Scheme)
    return scheme


registry = Registry()

# ``qsdk.registry`` is this module, so that it can be imported and asked alike.
get, find, encoding = registry.get, registry.find, registry.encoding
entries, conflicts = registry.entries, registry.conflicts


def plugins() -> Sequence[Plugin]:
    """Every plugin found, loaded or not."""
    return registry.plugins
