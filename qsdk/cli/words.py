"""A recipe from words of the command line, on top of a recipe file."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from qsdk.errors import OptionError

if TYPE_CHECKING:
    from qsdk.recipe import Recipe


def parse_value(text: str) -> Any:
    """A value as TOML has it; what is none is text.

    >>> [parse_value(text) for text in ("4", "0.5", "true", "mse", "[1, 2]")]
    [4, 0.5, True, 'mse', [1, 2]]
    """
    try:
        value = tomllib.loads(f"value = {text}") if "\n" not in text else {}
    except (tomllib.TOMLDecodeError, RecursionError):
        return text
    found = value.get("value")
    return found if isinstance(found, (bool, int, float, str, list)) else text


def parse_options(texts: Sequence[str], word: str = "--option") -> dict[str, Any]:
    """``key=value`` texts, each after ``word``, as a table."""
    options: dict[str, Any] = {}
    for text in texts:
        key, equals, value = text.partition("=")
        if not (equals and key):
            raise OptionError(f"{word} {text!r} has no '='; write {word} key=value")
        _add(options, key.strip(), parse_value(value.strip()))
    return options


def build_recipe(
    recipe: str | None,
    method: str | None,
    scheme_words: Mapping[str, Any],
    option_texts: Sequence[str],
    include: Sequence[str],
    exclude: Sequence[str],
) -> Recipe:
    """The recipe of that name or file, or the default one, with what the command line says instead.

    ``include`` takes the place of the recipe's; ``exclude`` comes on top of it.
    """
    import attrs

    from qsdk import recipes
    from qsdk.recipe import Recipe

    base = Recipe()
    if recipe is not None:
        base = recipes.find(recipe) if recipe in recipes.names() else Recipe.from_file(recipe)
    options = parse_options(option_texts)
    for word, value in scheme_words.items():
        if value is not None:
            _add(options, word, value)
    return attrs.evolve(
        base,
        method=method or base.method,
        options={**base.options, **options},
        include=tuple(include) or base.include,
        exclude=(*base.exclude, *exclude),
    )


def with_activations(
    recipe: Recipe, method: str | None, bits: int | None, option_texts: Sequence[str]
) -> Recipe:
    """The recipe with what the command line says of the inputs of layers."""
    import attrs

    options = parse_options(option_texts, "--activation-option")
    if bits is not None:
        _add(options, "bits", bits)
    if options and method is None and recipe.activations == "float32":
        raise OptionError(
            "--activations is missing: say what codes the inputs, such as minmax or binary2"
        )
    return attrs.evolve(
        recipe,
        activations=method or recipe.activations,
        activation_options={**recipe.activation_options, **options},
    )


def _add(options: dict[str, Any], word: str, value: Any) -> None:
    if options.get(word, value) != value:
        raise OptionError(f"{word} is given as {options[word]!r} and as {value!r}; say it once")
    options[word] = value
