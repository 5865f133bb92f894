"""Recipes: which quantizer, with which options, goes to which layers. attrs and TOML alike.

method = "greedy"
activations = "greedy"
passes = ["equalize", { name = "bias_correction", samples = 64 }]
exclude = ["*.bias"]

[options]
bits = 2

[activation_options]
bits = 3

[[rules]]
match = "fc*"
options = { bits = 4 }
"""

from __future__ import annotations

import fnmatch
import tomllib
from collections.abc import Collection, Iterable, Mapping
from pathlib import Path
from typing import Any, Self, TypeVar

import attrs

from qsdk.errors import RecipeError, did_you_mean
from qsdk.interfaces import Layer
from qsdk.scheme import SCHEME_WORDS

T = TypeVar("T")

POSITIONS = ("first", "last")  # of a layer in its model


def _texts(values: Iterable[str]) -> tuple[str, ...]:
    if isinstance(values, str):
        raise RecipeError(f"{values!r} is one text; give a list, such as [{values!r}]")
    return tuple(values)


def _passes(values: Iterable[Any]) -> tuple[Any, ...]:
    """Each a name, or a table of a name and options."""
    if isinstance(values, (str, Mapping)):
        raise RecipeError(f"passes is {values!r}; give a list, such as ['bias_correction']")
    found = tuple(dict(value) if isinstance(value, Mapping) else value for value in values)
    for value in found:
        name = value.get("name") if isinstance(value, dict) else value
        if not isinstance(name, str):
            raise RecipeError(
                f"{value!r} in passes names no pass; write 'bias_correction', or "
                "{ name = 'bias_correction', samples = 64 }"
            )
    return found


_is_text = attrs.validators.optional(attrs.validators.instance_of(str))
_is_texts = attrs.validators.deep_iterable(attrs.validators.instance_of(str))
_is_table = attrs.validators.instance_of(dict)


@attrs.frozen(kw_only=True)
class Rule:
    """What is different for some layers; of several rules that match, the last one counts.

    match : glob on a layer's name or its weight's
    operation : ONNX operator type, such as "Gemm"
    position : "first" or "last" of all layers of the model, in the order of :attr:`Model.layers`
    method : instead of the recipe's; it takes over the recipe's scheme words alone
    options : on top of those
    activations, activation_options : the same for the codes of inputs; "float32" for none
    keep : leave these layers in float
    """

    match: str = attrs.field(default="*", validator=attrs.validators.instance_of(str))
    operation: str | None = attrs.field(default=None, validator=_is_text)
    position: str | None = attrs.field(
        default=None, validator=attrs.validators.optional(attrs.validators.in_(POSITIONS))
    )
    method: str | None = attrs.field(default=None, validator=_is_text)
    options: dict[str, Any] = attrs.field(factory=dict, validator=_is_table)
    activations: str | None = attrs.field(default=None, validator=_is_text)
    activation_options: dict[str, Any] = attrs.field(factory=dict, validator=_is_table)
    keep: bool = attrs.field(default=False, validator=attrs.validators.instance_of(bool))

    def applies_to(self, layer: Layer, positions: Collection[str] = ()) -> bool:
        return (
            _matches(layer, self.match)
            and self.operation in (None, layer.operation)
            and self.position in (None, *positions)
        )


@attrs.frozen(kw_only=True)
class Recipe:
    """How to quantize a model.

    method : a quantizer's name in the registry
    options : its scheme words and options
    activations : how a layer's input is coded while the model runs: an observer, which finds codes
        that are fixed from then on; a quantizer that has ``activations()``, or a word of
        :func:`qsdk.linear`, for codes made in the run; "float32" leaves it as it is
    activation_options : of that observer, with scheme words for its codes, or of that quantizer
    passes : names of passes, or tables of a name and options, done in this order. Those that need
        the model before quantization ("reference") come after it, the others before it
    include, exclude : globs on names of layers or of their weights; exclude wins
    rules : exceptions, later ones winning

    >>> Recipe.from_dict({"method": "rtn", "options": {"bits": 8}}).options["bits"]
    8
    """

    method: str = attrs.field(default="squant", validator=attrs.validators.instance_of(str))
    options: dict[str, Any] = attrs.field(factory=dict, validator=_is_table)
    activations: str = attrs.field(default="float32", validator=attrs.validators.instance_of(str))
    activation_options: dict[str, Any] = attrs.field(factory=dict, validator=_is_table)
    passes: tuple[str | dict[str, Any], ...] = attrs.field(default=(), converter=_passes)
    include: tuple[str, ...] = attrs.field(default=("*",), converter=_texts, validator=_is_texts)
    exclude: tuple[str, ...] = attrs.field(default=(), converter=_texts, validator=_is_texts)
    rules: tuple[Rule, ...] = attrs.field(default=(), converter=tuple)

    @classmethod
    def from_dict(cls, table: Mapping[str, Any]) -> Self:
        """A recipe from plain tables; unknown keys are refused with the nearest name."""
        words = dict(table)
        rules = words.pop("rules", ())
        if not isinstance(rules, (list, tuple)):
            raise RecipeError("rules is not a list of tables; write [[rules]]")
        return _build(cls, {**words, "rules": tuple(_build(Rule, rule) for rule in rules)})

    @classmethod
    def from_file(cls, path: str | Path) -> Self:
        """A recipe from a TOML file."""
        try:
            text = Path(path).read_text(encoding="utf-8")
        except OSError as error:
            raise RecipeError(f"{path} cannot be read: {error.strerror}") from None
        except ValueError as error:
            raise RecipeError(f"{Path(path).name} is no TOML: {error}") from None
        return cls.from_text(text, Path(path).name)

    @classmethod
    def from_text(cls, text: str, name: str = "the text") -> Self:
        """A recipe from TOML; ``name`` is what errors call it."""
        try:
            table = tomllib.loads(text)
        except (ValueError, RecursionError) as error:  # also a number of too many digits
            raise RecipeError(f"{name} is no TOML: {error}") from None
        return cls.from_dict(table)

    def to_dict(self) -> dict[str, Any]:
        """Plain tables that :meth:`from_dict` takes back."""
        return attrs.asdict(self, recurse=True, value_serializer=_plain)

    def choice(
        self, layer: Layer, positions: Collection[str] = ()
    ) -> tuple[str, dict[str, Any]] | None:
        """Method and options for ``layer``; None when it stays in float.

        positions : those of :func:`positions`
        """
        included = any(_matches(layer, pattern) for pattern in self.include)
        if not included or any(_matches(layer, pattern) for pattern in self.exclude):
            return None
        rule = self._rule(layer, positions)
        if rule.keep:
            return None
        method = rule.method or self.method
        return method, _merged(self.options, rule.options, method == self.method)

    def activation_choice(
        self, layer: Layer, positions: Collection[str] = ()
    ) -> tuple[str, dict[str, Any]]:
        """The same for the codes of the input of a ``layer`` that has a choice."""
        rule = self._rule(layer, positions)
        method = rule.activations or self.activations
        shared, more = self.activation_options, rule.activation_options
        return method, _merged(shared, more, method == self.activations)

    def _rule(self, layer: Layer, positions: Collection[str]) -> Rule:
        return next((r for r in reversed(self.rules) if r.applies_to(layer, positions)), Rule())

    def pass_choices(self) -> list[tuple[str, dict[str, Any]]]:
        """Name and options of each pass, in order."""
        tables = [{"name": p} if isinstance(p, str) else dict(p) for p in self.passes]
        return [(table.pop("name"), table) for table in tables]

    def unused_patterns(self, layers: Iterable[Layer]) -> list[str]:
        """Globs that match no layer: a misspelt name, most likely."""
        layers = list(layers)
        patterns = [*self.include, *self.exclude, *(rule.match for rule in self.rules)]
        return [p for p in patterns if not any(_matches(layer, p) for layer in layers)]


def positions(place: int, layers: int) -> tuple[str, ...]:
    """What a rule calls the position of layer number ``place``, from 0, of so many.

    >>> positions(0, 3), positions(1, 3), positions(2, 3), positions(0, 1)
    (('first',), (), ('last',), ('first', 'last'))
    """
    found = {"first": place == 0, "last": place == layers - 1}
    return tuple(word for word in POSITIONS if found[word])


def _merged(shared: dict[str, Any], more: dict[str, Any], same: bool) -> dict[str, Any]:
    """Of another method's options only the number format is for all."""
    kept = {word: value for word, value in shared.items() if same or word in SCHEME_WORDS}
    return {**kept, **more}


def _matches(layer: Layer, pattern: str) -> bool:
    return any(
        fnmatch.fnmatchcase(name, pattern) or name == pattern
        for name in (layer.name, layer.weight_name)
    )


def _plain(instance: Any, attribute: Any, value: Any) -> Any:
    return list(value) if isinstance(value, tuple) else value


def _build(target: type[T], table: Any) -> T:
    if not isinstance(table, Mapping):
        raise RecipeError(f"{table!r} is not a table of settings")
    known = list(attrs.fields_dict(target))  # type: ignore[arg-type]
    for word in table:
        if word not in known:
            where = "a recipe" if target is Recipe else "a rule"
            raise RecipeError(f"{where} has no setting {word!r}{did_you_mean(word, known)}")
    try:
        return target(**table)
    except (TypeError, ValueError) as error:
        if isinstance(error, RecipeError):
            raise
        raise RecipeError(f"{error.args[0] if error.args else error}") from None
