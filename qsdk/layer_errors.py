"""What each layer's codes cost by themselves: clipping, rounding, and saturating in 16 bits.

Of a layer ``y = W x`` (its bias is left out: corrections move it on purpose), with x as the float
model has it, and codes as the quantized model has them:

    clipping    Wc xc - W x      xc is x with every value whose code leaves the grid,
                                 ``rint(x / scale) + zero_point``, at the nearest end; Wc likewise
    rounding    Wq xq - Wc xc    what the codes stand for, less the clipped values
    saturation  what 16 bits lose on x86 without VNNI, see :mod:`qsdk.saturation`

Errors of the layers before have no part in it. Parts may cancel, so their powers do not add up to
that of the whole.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import attrs
import numpy as np
from numpy.typing import NDArray

from qsdk.affine import dequantize, quantize
from qsdk.encodings import Affine
from qsdk.interfaces import (
    FixedCodes,
    Layer,
    Model,
    columns_refusal,
    input_columns,
    input_pieces,
)
from qsdk.saturation import Saturation
from qsdk.scheme import Scheme, Slices

Arrays = Mapping[str, NDArray[Any]]
Floats = NDArray[np.float32]
PARTS = ("clipping", "rounding", "saturation")


@attrs.frozen(kw_only=True)
class LayerError:
    """One layer by itself. Decibels compare a part with the float product; inf where it is 0.

    sqnr_db, cosine : of what the codes give, clipped and rounded
    clipping_db, rounding_db : of the two parts of that
    saturation_db : of what x86 without VNNI adds to it
    clipped : share of the input's values whose code leaves the grid
    saturated : share of the results that lose something in 16 bits
    """

    sqnr_db: float
    cosine: float
    clipping_db: float
    rounding_db: float
    saturation_db: float
    clipped: float
    saturated: float

    @property
    def cause(self) -> str:
        """The largest part; empty where nothing is lost."""
        worst = min(PARTS, key=lambda part: float(getattr(self, f"{part}_db")))
        return worst if math.isfinite(self.worst_db) else ""

    @property
    def worst_db(self) -> float:
        """Of the codes or of saturation, whichever costs more."""
        return min(self.sqnr_db, self.saturation_db)


def layer_errors(before: Model, after: Model, feeds: Arrays) -> dict[str, LayerError]:
    """The error that each layer of ``after`` makes of its own, by name.

    before : the float model, with what was done to its weights before they were quantized
    feeds : one batch
    Layers are left out where nothing tells which inputs meet the weight, or nothing is coded.
    """
    others, codes = {layer.name: layer for layer in after.layers}, after.codes
    layers = [
        layer
        for layer in before.layers
        if layer.name in others
        and layer.shape == others[layer.name].shape
        and not columns_refusal(layer)
    ]
    wanted = [name for name in dict.fromkeys(x.input_name for x in layers) if name not in feeds]
    tensors = {**feeds, **(before.run(feeds, wanted) if wanted else {})}
    found = {}
    for layer in layers:
        other = others[layer.name]
        known = codes.get(layer.input_name, codes.get(other.input_name))
        if known is not None or not other.is_float:
            x = np.asarray(tensors[layer.input_name], np.float32)
            found[layer.name] = _Parts(layer, other, known).of(x)
    return found


@attrs.frozen(kw_only=True)
class CodeError:
    """What fixed codes make of one tensor of the float model; words as of :class:`LayerError`."""

    codes: str
    sqnr_db: float
    clipping_db: float
    rounding_db: float
    clipped: float


def code_errors(before: Model, after: Model, feeds: Arrays) -> dict[str, CodeError]:
    """What the codes of ``after`` cost each tensor of both models, read by a layer or not."""
    codes = after.codes
    if not codes:
        return {}
    sites = before.sites([layer.name for layer in before.layers])
    names = [name for site in sites for name in site.tensors if name in codes]
    wanted = [name for name in names if name not in feeds]
    tensors = {**feeds, **(before.run(feeds, wanted) if wanted else {})}
    found = {}
    for name in names:
        x = np.asarray(tensors[name], np.float32)
        clipped, decoded, count = coded(x, codes[name])
        signal = float(np.square(x, dtype=np.float64).sum())
        parts = {"sqnr": decoded - x, "clipping": clipped - x, "rounding": decoded - clipped}
        found[name] = CodeError(
            codes=str(codes[name]),
            clipped=count / max(x.size, 1),
            **{f"{word}_db": _db(signal, float(np.vdot(e, e))) for word, e in parts.items()},
        )
    return found


def coded(x: Floats, codes: FixedCodes) -> tuple[Floats, Floats, int]:
    """``x`` clipped, and decoded from its codes; how many values were clipped."""
    scale, zero = np.asarray(codes.scale, np.float32), np.asarray(codes.zero_point, np.int32)
    clipped, count = grid_clipped(x, scale, zero, codes.scheme)
    return clipped, dequantize(quantize(x, scale, zero, codes.scheme), scale, zero), count


def grid_clipped(
    values: Floats, scale: Floats, zero_point: NDArray[Any], scheme: Scheme
) -> tuple[Floats, int]:
    """``values`` with those whose code leaves the grid at its nearest end, and how many they are.

    >>> x, count = grid_clipped(np.float32([1.2, 9.0]), np.float32(1), np.int32(0), Scheme(bits=2))
    >>> x.tolist(), count  # codes reach 1, and 1.2 rounds to that
    ([1.2000000476837158, 1.0], 1)
    """
    with np.errstate(over="ignore"):
        codes = np.rint(values / scale) + zero_point
    low, high = (scale * (end - np.float32(1) * zero_point) for end in (scheme.qmin, scheme.qmax))
    above, below = codes > scheme.qmax, codes < scheme.qmin
    clipped = np.where(above, high, np.where(below, low, values)).astype(np.float32)
    return clipped, int(np.count_nonzero(above) + np.count_nonzero(below))


class _Parts:
    """One layer's product in floats, clipped, and decoded; some inputs at a time."""

    def __init__(self, layer: Layer, other: Layer, codes: FixedCodes | None):
        self._layer, self._codes, encoding = layer, codes, other.encoding
        weight = np.asarray(layer.weight, np.float32)
        clipped = weight
        if isinstance(encoding, Affine):
            slices = Slices(encoding.scheme, encoding.shape)
            scale, zero = slices.expand(encoding.scale), slices.expand(encoding.zero_point)
            clipped, _ = grid_clipped(weight, scale, zero, encoding.scheme)
        self._weights = [self._rows(w) for w in (weight, clipped, other.weight)]
        self._saturation = Saturation.of(layer, encoding, codes)

    def _rows(self, weight: NDArray[Any]) -> Floats:
        """(groups, out / groups, K)."""
        groups, length = self._layer.attributes.get("group", 1), math.prod(self._layer.shape[1:])
        return np.asarray(weight, np.float32).reshape(groups, -1, length)

    def of(self, x: Floats) -> LayerError:
        """x : what meets the weight in the float model"""
        powers = dict.fromkeys(("signal", "decoded", "noise", "product", *PARTS), 0.0)
        results = lossy = outside = 0
        for piece in input_pieces(x, self._layer):
            forms, count = self._forms(piece)
            y, clipped, decoded = (
                (weight @ input_columns(form, self._layer)).astype(np.float64)
                for weight, form in zip(self._weights, forms, strict=True)
            )
            lost = np.zeros(1) if self._saturation is None else self._saturation.losses(forms[2])
            for word, one, two in (
                ("signal", y, y),
                ("decoded", decoded, decoded),
                ("product", y, decoded),
                ("noise", decoded - y, decoded - y),
                ("clipping", clipped - y, clipped - y),
                ("rounding", decoded - clipped, decoded - clipped),
                ("saturation", lost, lost),
            ):
                powers[word] += float(np.vdot(one, two))
            results, outside = results + y.size, outside + count
            lossy += int(np.count_nonzero(lost))
        size = math.sqrt(powers["signal"]) * math.sqrt(powers["decoded"])
        return LayerError(
            sqnr_db=_db(powers["signal"], powers["noise"]),
            cosine=powers["product"] / size if size else float(not powers["noise"]),
            **{f"{part}_db": _db(powers["signal"], powers[part]) for part in PARTS},
            clipped=outside / max(x.size, 1),
            saturated=lossy / max(results, 1),
        )

    def _forms(self, x: Floats) -> tuple[list[Floats], int]:
        """The input in floats, clipped and decoded; how many values were clipped."""
        if self._codes is None:
            return [x, x, x], 0
        clipped, decoded, count = coded(x, self._codes)
        return [x, clipped, decoded], count


def _db(signal: float, noise: float) -> float:
    if noise == 0:
        return math.inf
    return -math.inf if signal == 0 else 10 * math.log10(signal / noise)
