"""How often each code occurs in a few layers, found by quantizing these once more."""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path

import attrs
import numpy as np

from qsdk.encodings import Affine
from qsdk.errors import QsdkError
from qsdk.job import prepared, uses_observers
from qsdk.pipeline import load
from qsdk.plan import make_plan
from qsdk.recipe import Recipe

Histogram = tuple[list[int], list[int]]  # the codes of the grid, and how often each occurs


def code_histograms(source: Path, recipe: Recipe, names: Collection[str]) -> dict[str, Histogram]:
    """Histograms of the named layers, in the order of ``names``.

    Layers without integer codes are absent; all are when the output took the source's place.
    """
    try:
        model, needs_data = prepared(load(source), recipe), uses_observers(recipe)
        plan = make_plan(model, attrs.evolve(recipe, passes=()), has_data=needs_data)
    except QsdkError:
        return {}
    found: dict[str, Histogram] = {}
    for task in plan.work:
        layer = task.layer
        if layer.name in names:
            encoding = task.quantizer.quantize(layer.weight, layer=layer)
            if isinstance(encoding, Affine):
                found[layer.name] = histogram(encoding)
    return {name: found[name] for name in names if name in found}


def histogram(encoding: Affine) -> Histogram:
    """Counts for every code of the grid, those that never occur included."""
    low, high = encoding.scheme.qmin, encoding.scheme.qmax
    codes = encoding.codes.reshape(-1).astype(np.int64) - low
    return list(range(low, high + 1)), np.bincount(codes, minlength=high - low + 1).tolist()
