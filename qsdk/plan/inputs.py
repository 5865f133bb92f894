"""How a recipe codes the inputs of layers: in the run, or by fixed codes that an observer finds."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import attrs

from qsdk.calibration import Watch
from qsdk.errors import (
    ConflictError,
    QsdkError,
    RecipeError,
    UnknownNameError,
    did_you_mean,
    grouped,
)
from qsdk.interfaces import Activations, AffineQuantizer, InputForm, Model, Quantizer, Site
from qsdk.operations import as_activations
from qsdk.recipe import Recipe
from qsdk.registry import build, full_name, registry
from qsdk.scheme import SCHEME_WORDS, Granularity, Scheme

Choice = tuple[str, dict[str, Any]]  # a name in the registry with options

WORDS = frozenset(map(str, InputForm))
FIXED = Scheme(bits=8, signed=False, granularity=Granularity.PER_TENSOR)  # if nothing is said


def is_observer(method: str) -> bool:
    """Whether inputs are coded by fixed codes that this observer finds, and not in the run.

    Raises UnknownNameError for what is nothing that codes inputs, ConflictError for two things.
    """
    if method in WORDS or method.rstrip("0123456789") in WORDS or "quantizer:" in method:
        return False
    found = {kind for kind in ("observer", "quantizer") if _knows(kind, method)}
    if len(found) > 1:
        raise ConflictError(
            f"{method!r} is an observer and a quantizer; say observer:{method} or "
            f"quantizer:{method}"
        )
    if not found:
        names = {e.name for kind in ("observer", "quantizer") for e in registry.entries(kind)}
        raise UnknownNameError(
            f"no observer and no quantizer named {method!r}{did_you_mean(method, names | WORDS)}"
        )
    return found == {"observer"}


def _knows(kind: str, method: str) -> bool:
    try:
        return registry.find(full_name(method, kind)).kind == kind
    except UnknownNameError:
        return False


def chosen_activations(method: str, options: Mapping[str, Any]) -> Activations:
    """The codes of an input by a word of :func:`qsdk.linear`, or by a quantizer's name.

    Raises what finding or building it raises, and RecipeError for options that do not fit.
    """
    if method not in WORDS and method.rstrip("0123456789") not in WORDS:
        quantizer: Quantizer = build(registry.find(full_name(method)), dict(options))
        return quantizer.activations()
    form = as_activations(method)
    if form.form is InputForm.FLOAT32:
        return form  # options are for the layers that have codes
    taken = {"bits", "cycles"} if form.form is InputForm.BINARY else set()
    for word in options:
        if word not in taken:
            raise RecipeError(f"{method} activations have no option {word!r}")
    if method != form.form and options.get("bits", form.bits) != form.bits:
        raise RecipeError(f"the activations are {method!r}, and bits is {options['bits']}")
    return attrs.evolve(form, **options)


def for_integers(method: str, options: dict[str, Any]) -> Choice:
    """Options of a weight that meets codes: without a zero_point, unless one is asked for."""
    affine = issubclass(registry.find(full_name(method)).target, AffineQuantizer)
    return method, {"symmetric": True, **options} if affine else options


def find_watches(
    model: Model, recipe: Recipe, observed: Mapping[str, Choice]
) -> tuple[list[Watch], list[str]]:
    """What to look at so that these layers get fixed codes, and the problems with that."""
    if not observed:
        return [], []
    if is_observer(recipe.activations):
        default = recipe.activations, dict(recipe.activation_options)
    else:
        default = next(iter(observed.values()))
    watches: list[Watch] = []
    refused: list[tuple[str, str]] = []
    try:
        sites = model.sites(list(observed), [n for n, c in observed.items() if _is_low(c)])
    except QsdkError as error:
        return [], [str(error)]
    for site in sites:
        choice = next((observed[name] for name in site.layers if name in observed), default)
        try:
            watches.append(_watch(site, *choice))
        except QsdkError as error:
            refused.append((site.name, str(error)))
    return watches, grouped(refused)


def _is_low(choice: Choice) -> bool:
    """Whether codes are so short that no runtime computes with them in integers."""
    return int(choice[1].get("bits", FIXED.bits)) < FIXED.bits


def _watch(site: Site, method: str, options: Mapping[str, Any]) -> Watch:
    words = {word: value for word, value in options.items() if word in SCHEME_WORDS}
    own = {word: value for word, value in options.items() if word not in SCHEME_WORDS}
    scheme = FIXED.replace(**words)
    if scheme.granularity is not Granularity.PER_TENSOR:
        raise RecipeError(
            f"activations are to have {scheme}; fixed codes have one scale per tensor, for a scale "
            "along the channels cannot be taken out of a layer's sum"
        )
    watch = Watch(site=site, observer=method, options=own, scheme=scheme)
    watch.new()
    return watch
