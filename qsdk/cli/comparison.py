"""Two models side by side: weights by layer, tensors on the way, and outputs."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import attrs
import numpy as np
from numpy.typing import NDArray

from qsdk import metrics
from qsdk.errors import DataError
from qsdk.interfaces import Layer, Model

Arrays = Mapping[str, NDArray[Any]]


@attrs.frozen(kw_only=True)
class Difference:
    """How far an array of one model is from that of the other; SQNR in dB, inf when equal."""

    sqnr_db: float
    cosine: float
    max_error: float

    @classmethod
    def between(cls, a: NDArray[Any], b: NDArray[Any]) -> Difference:
        return cls(
            sqnr_db=metrics.sqnr_db(a, b),
            cosine=metrics.cosine(a, b),
            max_error=metrics.max_error(a, b),
        )


def shared_layers(a: Model, b: Model) -> list[tuple[Layer, Layer]]:
    """Layers of one name and shape in both models, in the order of the first."""
    others = {layer.name: layer for layer in b.layers}
    return [
        (layer, others[layer.name])
        for layer in a.layers
        if layer.name in others and layer.shape == others[layer.name].shape
    ]


def unshared(a: Model, b: Model) -> list[str]:
    """Names of layers that only one model has, or that have two shapes."""
    both = {layer.name for layer, _ in shared_layers(a, b)}
    names = [layer.name for model in (a, b) for layer in model.layers]
    return [name for name in dict.fromkeys(names) if name not in both]


def compare_tensors(a: Model, b: Model, feeds: Arrays) -> dict[str, Difference]:
    """What the layers' nodes give in both models, by layer name; decoded where it has codes."""
    coded = b.codes
    outputs = {layer.name: layer.attributes.get("output", "") for layer, _ in shared_layers(a, b)}
    tensors = {
        other.name: outputs[other.name]
        for other in b.layers
        if outputs.get(other.name)
        and outputs[other.name] in (other.attributes.get("output"), *coded)
    }
    if not tensors:
        return {}
    wanted = list(dict.fromkeys(tensors.values()))
    in_a, in_b = a.run(feeds, wanted), b.run(feeds, wanted)
    return {
        name: Difference.between(in_a[tensor], in_b[tensor])
        for name, tensor in tensors.items()
        if in_a[tensor].shape == in_b[tensor].shape
    }


def first_rows(model: Model, feeds: Arrays, rows: int) -> Arrays:
    """The first rows of a batch, where the model takes any number of them; else the batch."""
    types = model.input_types.values()
    if not all(kind.shape is not None and kind.shape[:1] == (None,) for kind in types):
        return feeds
    return {name: array[:rows] for name, array in feeds.items()}


@attrs.frozen(kw_only=True)
class OutputReport:
    """One output over all data.

    agreement : share of rows whose highest value is at the same place; None without rows
    top1 : (float, quantized) share of rows that hit the label; None without labels
    """

    name: str
    rows: int
    difference: Difference
    agreement: float | None
    top1: tuple[float, float] | None


class Outputs:
    """Collects what both models give, batch by batch."""

    def __init__(self, a: Model, b: Model):
        self.models = (a, b)
        self.names = [name for name in a.outputs if name in b.outputs]
        self._pairs: dict[str, list[tuple[NDArray[Any], NDArray[Any]]]] = {}
        if not self.names:
            raise DataError(
                f"the models have no output in common: {', '.join(a.outputs)} "
                f"and {', '.join(b.outputs)}"
            )

    def add(self, feeds: Arrays) -> None:
        """Run both models on one batch."""
        a, b = (_run(model, feeds, self.names) for model in self.models)
        for name in self.names:
            self._pairs.setdefault(name, []).append((a[name], b[name]))

    def reports(self, labels: NDArray[Any] | None) -> Iterator[OutputReport]:
        """A report per output; labels belong to the first."""
        if not self._pairs:
            raise DataError("the data holds no row, so there is nothing to compare")
        for i, (name, pairs) in enumerate(self._pairs.items()):
            a, b = (_joined(pair[side] for pair in pairs) for side in (0, 1))
            is_scores = a.ndim >= 2 and a.shape == b.shape and a.shape[-1] > 1
            yield OutputReport(
                name=name,
                rows=sum(len(pair[0]) if pair[0].ndim else 1 for pair in pairs),
                difference=Difference.between(a, b),
                agreement=metrics.agreement(a, b) if is_scores else None,
                top1=None
                if labels is None or i > 0
                else (top1(name, a, labels), top1(name, b, labels)),
            )


def top1(name: str, scores: NDArray[Any], labels: NDArray[Any]) -> float:
    """Share of rows whose highest score is that of the label."""
    found = scores.argmax(axis=-1) if scores.ndim else scores
    if found.size != labels.size:
        raise DataError(
            f"there are {labels.size} labels, and output {name!r} of shape {scores.shape} "
            f"answers {found.size} times; give a label for each row of the data, in its order"
        )
    return float((found.reshape(-1) == labels.reshape(-1)).mean())


def _run(model: Model, feeds: Arrays, names: list[str]) -> Arrays:
    try:
        return model.run(feeds, names)
    except DataError as error:
        given = ", ".join(f"{name} {x.dtype} {x.shape}" for name, x in feeds.items())
        raise DataError(f"{error}; given: {given}") from None


def _joined(parts: Iterable[NDArray[Any]]) -> NDArray[Any]:
    """All batches as one array; flat where they differ beyond their first axis."""
    arrays = list(parts)
    if any(array.ndim == 0 or array.shape[1:] != arrays[0].shape[1:] for array in arrays):
        return np.concatenate([array.reshape(-1) for array in arrays])
    return np.concatenate(arrays)
