"""What a run is going to do, and every problem it would meet, before any of it is done."""

from __future__ import annotations

import os
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import attrs

from qsdk.errors import (
    NothingQuantizedError,
    PreflightError,
    QsdkError,
    RecipeError,
    grouped,
)
from qsdk.interfaces import Activations, InputForm, Layer, Model, Quantizer
from qsdk.operations import as_activations
from qsdk.recipe import Recipe
from qsdk.registry import build, registry
from qsdk.scheme import Slices


@attrs.frozen
class Task:
    """One layer and what quantizes it; ``origin`` is the quantizer's distribution and version.

    activations : how the layer's input is to be coded when the model runs
    """

    layer: Layer
    quantizer: Quantizer
    origin: str
    activations: Activations


@attrs.frozen
class Plan:
    """What a run is going to do: found whole before any of it is done."""

    work: tuple[Task, ...]
    kept: Mapping[str, str]

    @property
    def activations(self) -> dict[str, Activations]:
        """By name of the layer, where its input is to be coded."""
        forms = {task.layer.name: task.activations for task in self.work}
        return {name: form for name, form in forms.items() if form.form != InputForm.FLOAT32}


def make_plan(model: Model, recipe: Recipe, output: Path | None = None) -> Plan:
    """Choose a quantizer for each layer; every problem of the whole run is reported at once."""
    work: list[Task] = []
    kept: dict[str, str] = dict(model.skipped)
    problems = [
        f"pattern {pattern!r} matches no layer (`qsdk inspect` lists them)"
        for pattern in dict.fromkeys(recipe.unused_patterns(model.layers))
        if pattern != "*"
    ]
    refused: list[tuple[str, str]] = []
    for layer in model.layers:
        choice = recipe.choice(layer)
        if choice is None:
            kept[layer.name] = "left out by the recipe"
        elif not layer.is_float:
            kept[layer.name] = f"already {layer.stored}"
        else:
            try:
                activations = chosen_activations(*recipe.activation_choice(layer))
                work.append(_task(layer, model, activations, *choice))
            except QsdkError as error:
                refused.append((layer.name, str(error)))
    problems += grouped(refused)
    plan = Plan(tuple(work), kept)
    if plan.activations:
        problems += model.activation_obstacles(plan.activations)
    if output is not None:
        problems += _output_problems(model, output)
        problems += model.obstacles([task.layer.name for task in work])
    if problems:
        raise PreflightError(problems)
    if not work:
        raise NothingQuantizedError(_why_nothing(kept))
    return plan


def chosen_activations(method: str, options: Mapping[str, Any]) -> Activations:
    """The codes of an input by a word of :func:`qsdk.linear`, or by a quantizer's name.

    Raises what finding or building it raises, and RecipeError for options that do not fit.
    """
    words = {str(form) for form in InputForm}
    if method not in words and method.rstrip("0123456789") not in words:
        quantizer: Quantizer = build(registry.find(_quantizer_name(method)), dict(options))
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


def _task(
    layer: Layer,
    model: Model,
    activations: Activations,
    method: str,
    options: Mapping[str, Any],
) -> Task:
    entry = registry.find(_quantizer_name(method))
    quantizer: Quantizer = build(entry, dict(options))
    Slices(quantizer.scheme, layer.shape)
    if "graph" in model.has and quantizer.scheme.axis != 0:
        raise RecipeError(
            f"axis is {quantizer.scheme.axis}; layers of a {model.format} model have their "
            "output channels on axis 0, whatever the file's layout"
        )
    lacking = quantizer.capabilities.needs - model.has
    if lacking:
        raise RecipeError(
            f"{method} needs {', '.join(sorted(lacking))}, which {model.format} lacks"
        )
    return Task(layer, quantizer, entry.origin, activations)


def _quantizer_name(method: str) -> str:
    return method if "quantizer:" in method else ":".join(_with_kind(method))


def _with_kind(method: str) -> list[str]:
    *distribution, name = method.split(":")
    return [*distribution, "quantizer", name]


def _why_nothing(kept: Mapping[str, str]) -> str:
    reasons = "; ".join(f"{name}: {reason}" for name, reason in list(kept.items())[:5])
    return f"no layer would be quantized ({reasons or 'the model has no weights'})"


def _output_problems(model: Model, output: Path) -> list[str]:
    """What would only fail at the end."""
    problems = []
    if output.suffix.lower() != model.suffix:
        problems.append(
            f"a {model.format} model is written as {model.suffix}, so -o cannot be {output.name!r}"
        )
    folder = output.resolve().parent
    if not folder.is_dir():
        problems.append(f"there is no folder {str(folder)!r}")
    elif not os.access(folder, os.W_OK):
        problems.append(f"the folder {str(folder)!r} cannot be written to")
    elif output.is_dir():
        problems.append(f"{output.name!r} is a folder")
    elif shutil.disk_usage(folder).free < sum(layer.nbytes for layer in model.layers) // 2:
        problems.append(f"the disk of {str(folder)!r} has less than half the model's size left")
    return problems
