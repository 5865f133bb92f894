"""The passes of a recipe, and whether they can be done in its order."""

from __future__ import annotations

import itertools
from typing import Any

from qsdk.errors import QsdkError, RecipeError
from qsdk.interfaces import Model, ModelPass, Tuner
from qsdk.recipe import Recipe
from qsdk.registry import build, full_name, registry


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
    found: ModelPass = build(registry.find(full_name(name, "pass")), options)
    lacking = (found.needs & {"graph", "run"}) - model.has
    if lacking:
        raise RecipeError(
            f"the pass {name} needs {', '.join(sorted(lacking))}, which {model.format} lacks"
        )
    return found
