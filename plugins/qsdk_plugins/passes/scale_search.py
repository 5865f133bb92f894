"""Scales of one tensor's codes and of the weights that meet them, tried one after the other.

Everything here knows layers as matrices: for each group of a convolution the rows of the weight,
and the columns that they are multiplied by at some places.
"""

from __future__ import annotations

from collections.abc import Sequence

import attrs
import numpy as np
from numpy.typing import NDArray

import qsdk
from qsdk.encodings import Affine
from qsdk.interfaces import FixedCodes

Doubles = NDArray[np.float64]
Floats = NDArray[np.float32]

BETTER = 1e-9  # by which a score must be larger, so that rounding decides nothing


@attrs.frozen(eq=False)
class Fed:
    """A layer and what it meets and should give at some places.

    weight : float32, as it was before it got codes; start : its codes now
    bias : float64, (channels,)
    columns : float32 (groups, K, n), what meets the codes of its input
    target : float64 (channels, n), what the float layer gives at the same places
    measure : "cosine" of outputs and target; or "error", 1 less the squared error over the target's
        square, which sees a gain as well
    """

    weight: Floats
    start: Affine
    bias: Doubles
    columns: Floats
    target: Doubles
    measure: str = "cosine"

    @property
    def units(self) -> int:
        """How many factors the weight has: one for each channel that has scales of its own."""
        return self.weight.shape[0] if self.start.scale.ndim else 1

    def encoding(self, factors: Doubles) -> Affine:
        """The weight nearest on the grid of ``factors * scale``; with factor 1 the start's codes.

        factors : (units,)
        """
        start, scheme = self.start, self.start.scheme
        moved = factors != 1
        if not moved.any():
            return start
        slices = qsdk.Slices(scheme, start.shape)
        zero = start.zero_point.astype(np.float32)
        scale = _scaled(start.scale, factors, zero, scheme)
        each_zero = slices.expand(zero)
        with np.errstate(over="ignore"):  # far outside the grid: clipped
            steps = np.rint(self.weight / slices.expand(scale))
        steps = np.clip(steps, scheme.qmin - each_zero, scheme.qmax - each_zero)
        changed = moved.reshape(-1, *(1,) * (len(start.shape) - 1))
        codes = np.where(changed, (steps + each_zero).astype(scheme.dtype), start.codes)
        return Affine.from_codes(codes, scale, start.zero_point, scheme, copy=False)

    def coded(self, codes: FixedCodes) -> Floats:
        """``columns`` after these codes."""
        return codes.rounded(self.columns)

    def scores(self, encoding: Affine, coded: Floats) -> Doubles:
        """How near outputs and target are, for each unit; 1 at most, 0 where nothing is."""
        weight = encoding.dequantize().reshape(len(coded), -1, coded.shape[1])
        found = (weight @ coded).reshape(len(self.target), -1) + self.bias[:, None]
        dot, target, square = (
            (a * b).sum(axis=1).reshape(self.units, -1).sum(axis=1)
            for a, b in ((self.target, found), (self.target, self.target), (found, found))
        )
        norm = np.sqrt(target) * np.sqrt(square) if self.measure == "cosine" else target
        score = dot if self.measure == "cosine" else 2 * dot - square
        scores: Doubles = np.divide(score, norm, out=np.zeros_like(dot), where=norm > 0)
        return scores


def _scaled(scale: Floats, factors: Doubles, zero: Floats, scheme: qsdk.Scheme) -> Floats:
    """``factors * scale``; where that leaves what float32 can hold, the scale as it was."""
    each = factors.reshape(-1, *(1,) * (scale.ndim - 1)) if scale.ndim else factors[0]
    reach = np.maximum(zero - scheme.qmin, scheme.qmax - zero)
    with np.errstate(over="ignore"):
        scaled = (scale * each).astype(np.float32)
        sound = (scaled >= np.finfo(np.float32).tiny) & np.isfinite(scaled * reach)
    return np.where(sound, scaled, scale)


@attrs.frozen(eq=False)
class Scales:
    """Factors on the start: ``weights`` of each layer, (units,), and ``codes`` of the tensor."""

    weights: tuple[Doubles, ...]
    codes: float = 1.0


@attrs.frozen(kw_only=True, eq=False)
class Search:
    """The layers that meet one tensor, whose scales are tried in turn.

    codes : of the tensor, at the start
    factors : to be tried on scales of weights; of equal scores the first stays
    code_factors : the same for the tensor's
    """

    layers: Sequence[Fed]
    codes: FixedCodes
    factors: Doubles
    code_factors: Doubles

    def best(self, rounds: int) -> Scales:
        """Weights by themselves, then the tensor, until nothing changes or for so many rounds."""
        scales = Scales(tuple(np.ones(layer.units) for layer in self.layers))
        for _ in range(rounds):
            found = self.best_codes(self.best_weights(scales))
            same = zip(found.weights, scales.weights, strict=True)
            if found.codes == scales.codes and all(np.array_equal(a, b) for a, b in same):
                break
            scales = found
        return scales

    def best_weights(self, scales: Scales) -> Scales:
        """The factors of each layer's units that are best for these codes of the tensor."""
        codes = self.at(scales.codes)
        chosen = []
        for layer, factors in zip(self.layers, scales.weights, strict=True):
            coded = layer.coded(codes)
            best, kept = layer.scores(layer.encoding(factors), coded), factors
            for factor in self.factors:
                scores = layer.scores(layer.encoding(np.full(layer.units, factor)), coded)
                better = scores > best + BETTER
                best, kept = np.where(better, scores, best), np.where(better, factor, kept)
            chosen.append(kept)
        return attrs.evolve(scales, weights=tuple(chosen))

    def best_codes(self, scales: Scales) -> Scales:
        """The tensor's factor that is best for these weights."""
        best, kept = self.score(scales), scales
        for factor in self.code_factors:
            tried = attrs.evolve(scales, codes=factor)
            score = self.score(tried)
            if score > best + BETTER:
                best, kept = score, tried
        return kept

    def score(self, scales: Scales) -> float:
        """Of each layer the mean over its units, added up."""
        codes = self.at(scales.codes)
        pairs = zip(self.layers, scales.weights, strict=True)
        return sum(
            float(layer.scores(layer.encoding(factors), layer.coded(codes)).mean())
            for layer, factors in pairs
        )

    def at(self, factor: float) -> FixedCodes:
        """The tensor's codes; the zero_point stays."""
        return attrs.evolve(self.codes, scale=self.codes.scale * factor)
