"""What a run is going to do, and every problem it would meet, before any of it is done."""

from __future__ import annotations

import itertools
import os
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import attrs

from qsdk.calibration import Watch
from qsdk.errors import (
    ConflictError,
    NothingQuantizedError,
    PreflightError,
    QsdkError,
    RecipeError,
    UnknownNameError,
    did_you_mean,
    grouped,
)
from qsdk.interfaces import (
    Activations,
    AffineQuantizer,
    InputForm,
    Layer,
    Model,
    ModelPass,
    Quantizer,
    Site,
    Tuner,
    columns_refusal,
)
from qsdk.operations import as_activations
from qsdk.recipe import Recipe, positions
from qsdk.registry import build, registry
from qsdk.scheme import SCHEME_WORDS, Granularity, Scheme, Slices

Choice = tuple[str, dict[str, Any]]  # a name in the registry with options

FROM_DATA = frozenset({"hessian", "input_mean"})  # of a layer, where there is data
WORDS = frozenset(map(str, InputForm))
FIXED = Scheme(bits=8, signed=False, granularity=Granularity.PER_TENSOR)  # if nothing is said


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
                    work.append(_task(layer, model, Activations(), *_for_integers(*choice)))
                    observed[layer.name] = coding
                else:
                    work.append(_task(layer, model, chosen_activations(*coding), *choice))
            except QsdkError as error:
                refused.append((layer.name, str(error)))
    problems += grouped(refused)
    watches, more = _watches(model, recipe, observed)
    passes, wrong = chosen_passes(model, recipe)
    looking = any(task.quantizer.capabilities.needs & FROM_DATA for task in work)
    hungry = [pass_.name for pass_ in passes if "calibration" in pass_.needs]
    problems += more + wrong + _data_problems(watches, looking, hungry, has_data)
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
        return registry.find(_full_name(method, kind)).kind == kind
    except UnknownNameError:
        return False


def _for_integers(method: str, options: dict[str, Any]) -> Choice:
    """Options of a weight that meets codes: without a zero_point, unless one is asked for."""
    affine = issubclass(registry.find(_full_name(method)).target, AffineQuantizer)
    return method, {"symmetric": True, **options} if affine else options


def _watches(
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


def chosen_passes(model: Model, recipe: Recipe) -> tuple[list[ModelPass], list[str]]:
    """The passes of a recipe, and the problems with them."""
    passes: list[ModelPass] = []
    problems = []
    for name, options in recipe.pass_choices():
        try:
            passes.append(_pass(model, name, options))
        except QsdkError as error:
            problems.append(str(error))
    for earlier, later in itertools.pairwise(passes):
        if earlier.is_last and not later.is_last:
            problems.append(
                f"the pass {later.name} comes before quantization and {earlier.name} after it; "
                f"name {later.name} first"
            )
        elif earlier.is_last and isinstance(later, Tuner) and not isinstance(earlier, Tuner):
            problems.append(
                f"the pass {later.name} makes the quantized model anew from its codes, so what "
                f"{earlier.name} did to it would be lost; name {later.name} before it"
            )
    return passes, problems


def _pass(model: Model, name: str, options: dict[str, Any]) -> ModelPass:
    found: ModelPass = build(registry.find(_full_name(name, "pass")), options)
    lacking = (found.needs & {"graph", "run"}) - model.has
    if lacking:
        raise RecipeError(
            f"the pass {name} needs {', '.join(sorted(lacking))}, which {model.format} lacks"
        )
    return found


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


def chosen_activations(method: str, options: Mapping[str, Any]) -> Activations:
    """The codes of an input by a word of :func:`qsdk.linear`, or by a quantizer's name.

    Raises what finding or building it raises, and RecipeError for options that do not fit.
    """
    if method not in WORDS and method.rstrip("0123456789") not in WORDS:
        quantizer: Quantizer = build(registry.find(_full_name(method)), dict(options))
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
    entry = registry.find(_full_name(method))
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


def _full_name(method: str, kind: str = "quantizer") -> str:
    """``method`` as a name of this kind; what names its kind already stays."""
    if f"{kind}:" in method:
        return method
    *distribution, name = method.split(":")
    return ":".join([*distribution, kind, name])


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
