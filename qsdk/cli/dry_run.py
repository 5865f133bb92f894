"""``qsdk quantize --dry-run``: the whole preflight, and the plan it gives."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

from qsdk.cli.output import Output
from qsdk.cli.text import by_reason, shape_text, size_text
from qsdk.interfaces import Layer, Quantizer
from qsdk.job import with_norms_folded
from qsdk.pipeline import load
from qsdk.plan import make_plan
from qsdk.recipe import Recipe
from qsdk.scheme import Slices


def show_plan(
    output: Output, source: Path, target: Path | None, recipe: Recipe, *, has_data: bool = False
) -> None:
    """Say what a run would do; raises what the run would raise before it starts."""
    model = with_norms_folded(load(source), recipe)
    plan = make_plan(model, recipe, target, has_data=has_data)
    rows = [_row(task.layer, task.quantizer) for task in plan.work]
    before = sum(row["nbytes_before"] for row in rows)
    after = sum(row["nbytes_after"] for row in rows)
    output.document(
        {
            "dry_run": True,
            "recipe": recipe.to_dict(),
            "layers": rows,
            "kept": plan.kept,
            "activations": {watch.name: watch.observer for watch in plan.watches},
            "passes": {
                "before": [pass_.name for pass_ in plan.first],
                "after": [pass_.name for pass_ in plan.last],
            },
            "nbytes_before": before,
            "nbytes_after": after,
        }
    )
    output.table(
        ["layer", "shape", "from -> to", "method", ">bytes"],
        [
            (
                row["name"],
                shape_text(row["shape"]),
                f"{row['stored_before']} -> {row['stored_after']}",
                row["method"],
                f"{row['nbytes_before']} -> {row['nbytes_after']}",
            )
            for row in rows
        ],
    )
    output.say()
    for line in by_reason(plan.kept):
        output.say(f"kept: {line}")
    for when, passes in (("before", plan.first), ("after", plan.last)):
        if passes:
            output.say(f"{when} quantization: {', '.join(pass_.name for pass_ in passes)}")
    if plan.watches:
        output.say(f"{len(plan.watches)} tensors would get fixed codes after calibration")
    output.say(
        f"{len(rows)} layers would be quantized, {len(plan.kept)} kept; weights "
        f"{size_text(before)} -> about {size_text(after)}; nothing was written"
    )


def _row(layer: Layer, quantizer: Quantizer) -> dict[str, Any]:
    return {
        "name": layer.name,
        "operation": layer.operation,
        "shape": layer.shape,
        "method": quantizer.name,
        "stored_before": layer.stored,
        "stored_after": str(quantizer.scheme),
        "nbytes_before": layer.nbytes,
        "nbytes_after": estimated_nbytes(layer.shape, quantizer),
    }


def estimated_nbytes(shape: tuple[int, ...], quantizer: Quantizer) -> int:
    """Packed codes, with a float scale and a zero_point of one byte for each slice."""
    scheme = quantizer.scheme
    slices = math.prod(Slices(scheme, shape).params_shape)
    return (math.prod(shape) * scheme.bits + 7) // 8 + 5 * slices
