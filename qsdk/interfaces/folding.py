"""Batch norms folded into the layers before them, on any model that tells its links.

With sigma = sqrt(var + eps): ``W' = (gamma / sigma) W`` per output channel and
``b' = beta + (gamma / sigma) (b - mean)``. Source: Jacob et al. 2018, arXiv:1712.05877, sec. 3.2.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

import numpy as np

from qsdk.interfaces.links import Changes, Link

if TYPE_CHECKING:
    from qsdk.interfaces.model import Layer


def folding(layers: Iterable[Layer], links: Iterable[Link]) -> Changes:
    """The weights and biases behind which no batch norm is needed, and the norms to leave out."""
    named = {layer.name: layer for layer in layers}
    weights, biases, removed, expected = {}, {}, [], {}
    for link in links:
        layer, step = named[link.first], link.steps[0] if link.steps else None
        if step is None or step.scale is None or not layer.is_float:
            continue
        bias = layer.bias
        if bias is None:
            continue
        along = step.scale.reshape(-1, *(1,) * (len(layer.shape) - 1))
        weights[layer.name] = layer.weight.astype(np.float64) * along
        biases[layer.name] = bias * step.scale + step.shift
        removed.append(step.output)
        if step.expected is not None:
            expected[layer.name] = step.expected
    return Changes(weights=weights, biases=biases, removed=removed, expected=expected)
