"""Cross-layer equalization: scales channels between two layers until both need the same range.

Source: Nagel et al., "Data-Free Quantization Through Weight Equalization and Bias Correction",
ICCV 2019, arXiv:1906.04721, section 4.1. Ours: bounds of a clip (ReLU6) become those of each
channel, which keeps the function; the paper replaces ReLU6 by ReLU.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, ClassVar

import attrs
import numpy as np
from numpy.typing import NDArray

import qsdk
from qsdk.errors import QsdkError
from qsdk.interfaces import Changes, Layer, Link, Model, ModelPass, noise
from qsdk.interfaces.model_pass import Feeds

Doubles = NDArray[np.float64]

LIMITS = (1e-8, 1e8)  # of a factor
STILL = 2e-7  # mean change of a weight in one round, below which it ends


@attrs.frozen(kw_only=True)
class Equalize(ModelPass):
    """``W1[i] / s_i``, ``b1_i / s_i`` and ``W2[:, i] * s_i`` with ``s_i = sqrt(r1_i / r2_i)``.

    r1, r2 : the largest magnitudes of a channel in the layers before and behind it
    rounds : through all pairs, at most
    tolerance : how far the outputs may differ, relative to the largest; more raises QsdkError.
        Looked at on the first calibration batch, or on noise where there is none
    """

    name: ClassVar[str] = "equalize"
    paper: ClassVar[str] = "arXiv:1906.04721"
    needs: ClassVar[frozenset[str]] = frozenset({"graph", "run"})
    preserves: ClassVar[bool] = True

    rounds: int = attrs.field(default=20, validator=attrs.validators.ge(1))
    tolerance: float = attrs.field(default=1e-3, converter=float, validator=attrs.validators.gt(0))

    def change(self, model: Model, reference: Model | None, calibration: Iterable[Feeds]) -> Model:
        layers = {layer.name: layer for layer in model.layers}
        pairs = [link for link in model.links if _scalable(link, layers)]
        names = {name for pair in pairs for name in (pair.first, pair.second or "")}
        weights = {name: layers[name].weight.astype(np.float64) for name in names}
        factors = {pair.first: np.ones(layers[pair.first].shape[0]) for pair in pairs}
        for _ in range(self.rounds):
            moved = [self._pair(pair, layers, weights, factors) for pair in pairs]
            if max(moved, default=0.0) < STILL:
                break
        changes = _changes(pairs, layers, weights, factors)
        told = {name: e for name, e in model.expected.items() if name in weights}
        expected = {name: e.over(factors.get(name, np.ones(1))) for name, e in told.items()}
        changed = model.changed(attrs.evolve(changes, expected=expected))
        self._compare(model, changed, next(iter(calibration), None))
        return changed

    def _pair(
        self, link: Link, layers: dict[str, Layer], weights: dict[str, Doubles],
        factors: dict[str, Doubles],
    ) -> float:  # fmt: skip
        """Equalize one pair in place; the mean change of its weights."""
        assert link.second is not None
        first = weights[link.first]
        second = layers[link.second].by_input(weights[link.second])
        before = np.abs(first.reshape(len(first), -1)).max(axis=1)
        behind = np.abs(second).max(axis=(1, 3)).reshape(-1)
        live = (before > 0) & (behind > 0)
        ratio = np.divide(before, behind, out=np.ones_like(before), where=live)
        s = np.clip(np.sqrt(ratio), *LIMITS)
        moved = first / s.reshape(-1, *(1,) * (first.ndim - 1))
        change = float(np.abs(moved - first).mean())
        weights[link.first] = moved
        scaled = second * s.reshape(len(second), 1, -1, 1)
        weights[link.second] = scaled.reshape(weights[link.second].shape)
        factors[link.first] *= s
        return change

    def _compare(self, before: Model, after: Model, feeds: Feeds | None) -> None:
        given = feeds if feeds is not None else noise(before, rows=1)
        ours, theirs = after.run(given), before.run(given)
        for name, expected in theirs.items():
            off = float(np.abs(ours[name] - expected).max(initial=0))
            largest = float(np.abs(expected).max(initial=0))
            if not off <= self.tolerance * largest:
                raise QsdkError(
                    f"equalize changed output {name!r} by {off:.3g} of {largest:.3g}; leave the "
                    "pass out, and please report the model"
                )


def _scalable(link: Link, layers: dict[str, Layer]) -> bool:
    if link.second is None or any(step.scale is not None for step in link.steps):
        return False
    first, second = layers[link.first], layers[link.second]
    return first.is_float and second.is_float and first.bias is not None


def _changes(
    pairs: list[Link], layers: dict[str, Layer], weights: dict[str, Doubles],
    factors: dict[str, Doubles],
) -> Changes:  # fmt: skip
    biases: dict[str, Any] = {}
    bounds: dict[str, Any] = {}
    for pair in pairs:
        s = factors[pair.first]
        biases[pair.first] = np.asarray(layers[pair.first].bias, np.float64) / s
        for step in pair.steps:
            if step.low is not None or step.high is not None:
                ends = (step.low, step.high)
                bounds[step.output] = tuple(None if e is None else e / s for e in ends)
    return Changes(weights=weights, biases=biases, bounds=bounds)


@qsdk.hookimpl
def qsdk_passes() -> list[type[ModelPass]]:
    return [Equalize]
