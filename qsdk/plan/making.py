"""A plan is made: a quantizer for each layer, and all problems at once."""

from __future__ import annotations

import os
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import attrs

from qsdk.calibration import Watch
from qsdk.errors import NothingQuantizedError, PreflightError, QsdkError, RecipeError, grouped
from qsdk.interfaces import (
    Activations,
    InputForm,
    Layer,
    Model,
    ModelPass,
    Quantizer,
    columns_refusal,
)
from qsdk.plan.inputs import Choice, chosen_activations, find_watches, for_integers, is_observer
from qsdk.plan.passes import chosen_passes
from qsdk.recipe import Recipe, positions
from qsdk.registry import build, full_name, registry
from qsdk.scheme import Slices

FROM_DATA = frozenset({"hessian", "input_mean"})  # of a layer, where there is data


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
    watches: tuple[Watch, ...] = ()  # what to look at before codes can be fixed
    passes: tuple[ModelPass, ...] = ()  # those before quantization first

    @property
    def first(self) -> list[ModelPass]:
        """Passes before quantization."""
        return [pass_ for pass_ in self.passes if not pass_.is_last]

    @property
    def last(self) -> list[ModelPass]:
        """Passes after quantization."""
        return [pass_ for pass_ in self.passes if pass_.is_last]

    @property
    def activations(self) -> dict[str, Activations]:
        """By name of the layer, where its input is to be coded."""
        forms = {task.layer.name: task.activations for task in self.work}
        return {name: form for name, form in forms.items() if form.form != InputForm.FLOAT32}


def make_plan(
    model: Model, recipe: Recipe, output: Path | None = None, *, has_data: bool = False
) -> Plan:
    """Choose a quantizer for each layer; every problem of the whole run is reported at once.

    has_data : whether there is data to calibrate on
    """
    work: list[Task] = []
    kept: dict[str, str] = dict(model.skipped)
    problems = [
        f"pattern {pattern!r} matches no layer (`qsdk inspect` lists them)"
        for pattern in dict.fromkeys(recipe.unused_patterns(model.layers))
        if pattern != "*"
    ]
    refused: list[tuple[str, str]] = []
    observed: dict[str, Choice] = {}
    layers = model.layers
    for place, layer in enumerate(layers):
        at = positions(place, len(layers))
        choice = recipe.choice(layer, at)
        if choice is None:
            kept[layer.name] = "left out by the recipe"
        elif not layer.is_float:
            kept[layer.name] = f"already {layer.stored}"
        else:
            try:
                coding = recipe.activation_choice(layer, at)
                if is_observer(coding[0]):
                    work.append(_task(layer, model, Activations(), *for_integers(*choice)))
                    observed[layer.name] = coding
                else:
                    work.append(_task(layer, model, chosen_activations(*coding), *choice))
            except QsdkError as error:
                refused.append((layer.name, str(error)))
    problems += grouped(refused)
    watches, more = find_watches(model, recipe, observed)
    passes, wrong = chosen_passes(model, recipe)
    looking = any(task.quantizer.capabilities.needs & FROM_DATA for task in work)
    hungry = [pass_.name for pass_ in passes if "calibration" in pass_.needs]
    problems += more + wrong + _data_problems(watches, looking, hungry, has_data)
    coded = [pass_.name for pass_ in passes if "codes" in pass_.needs]
    if coded and not watches:
        problems.append(
            f"the pass {', '.join(coded)} moves scales of activations, and none has fixed codes: "
            "give activations='minmax' (`--activations minmax`), or leave the pass out"
        )
    plan = Plan(tuple(work), kept, tuple(watches), tuple(passes))
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


def _data_problems(
    watches: list[Watch], looking: bool, hungry: list[str], is_there: bool
) -> list[str]:
    """What is wrong with there being data, or not.

    watches : for activations with fixed codes; looking : quantizers look at layers' inputs
    hungry : passes that need data
    """
    seeing = any(not watch.new().is_data_free for watch in watches)
    needing = {
        "the method looks at the inputs of layers": looking,
        "activations with fixed codes need data to calibrate on": seeing,
        f"the pass {', '.join(hungry)} needs data": bool(hungry),
    }
    why = next((why for why, needs in needing.items() if needs), None)
    if why is not None and not is_there:
        return [
            f"{why}: give calibration=batches (`--calibration DATA`), some hundred samples "
            "without labels; the recipe data-free does without"
        ]
    if is_there and why is None and not watches:
        return [
            "there is calibration data, and nothing to calibrate: give activations='minmax' "
            "(`--activations minmax`), or leave the data out"
        ]
    return []


def _task(
    layer: Layer,
    model: Model,
    activations: Activations,
    method: str,
    options: Mapping[str, Any],
) -> Task:
    entry = registry.find(full_name(method))
    quantizer: Quantizer = build(entry, dict(options))
    Slices(quantizer.scheme, layer.shape)
    if "graph" in model.has and quantizer.scheme.axis != 0:
        raise RecipeError(
            f"axis is {quantizer.scheme.axis}; layers of a {model.format} model have their "
            "output channels on axis 0, whatever the file's layout"
        )
    needs = quantizer.capabilities.needs
    lacking = (needs - FROM_DATA if "run" in model.has else needs) - model.has
    if lacking:
        raise RecipeError(
            f"{method} needs {', '.join(sorted(lacking))}, which {model.format} lacks"
        )
    if needs & FROM_DATA and (reason := columns_refusal(layer)):
        raise RecipeError(f"{method} needs the layer's inputs, and {reason}")
    return Task(layer, quantizer, entry.origin, activations)


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
