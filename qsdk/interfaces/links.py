"""What lies between the layers of a model, how it can be changed, and running it in pieces."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from typing import Any, Protocol

import attrs
import numpy as np
from numpy.typing import NDArray

Arrays = Mapping[str, NDArray[Any]]
Bounds = tuple[NDArray[Any] | None, NDArray[Any] | None]


@attrs.frozen(kw_only=True, eq=False)
class Expected:
    """What a batch norm tells of a layer's outputs on the data that the network was trained on.

    mean, deviation : of each channel, (channels,); deviation is the standard one, >= 0
    """

    mean: NDArray[np.float64]
    deviation: NDArray[np.float64]

    def over(self, divisor: NDArray[np.float64]) -> Expected:
        """Of outputs that are divided by a number above 0, channel by channel."""
        return Expected(mean=self.mean / divisor, deviation=self.deviation / divisor)


@attrs.frozen(kw_only=True, eq=False)
class Step:
    """An operator that takes each channel by itself, and a scaled channel to a scaled one.

    operation : ONNX operator type
    output : name of what it computes; axes : how many axes that has, the channels on the second
    low, high : values are clipped to these, (channels,) or (); None where they are not
    scale, shift : ``scale * x + shift``, both (channels,), of a batch norm; None for others
    expected : what a batch norm tells of its own output; None for others
    """

    operation: str
    output: str
    axes: int
    low: NDArray[Any] | None = None
    high: NDArray[Any] | None = None
    scale: NDArray[Any] | None = None
    shift: NDArray[Any] | None = None
    expected: Expected | None = None

    @property
    def ends(self) -> Bounds:
        """What values are clipped to, the 0 of a Relu as well."""
        return np.zeros(()) if self.operation == "Relu" else self.low, self.high


@attrs.frozen(kw_only=True, eq=False)
class Link:
    """The steps behind a layer, as long as each is the only one that uses the one before.

    first : name of a layer whose weight nothing else uses
    second : the layer at the end, whose input channels are the first's output channels; None where
        something else is
    """

    first: str
    second: str | None
    steps: tuple[Step, ...]


@attrs.frozen(kw_only=True, eq=False)
class Changes:
    """Other numbers for a model; what is not named stays.

    weights : by layer, each of the layer's shape
    biases : by layer, each (out channels,)
    bounds : low and high by the output of a step that clips, each (channels,), () or None
    removed : outputs of steps that are to be left out
    expected : by layer what is known of its new outputs; what was known of a layer that gets
        another weight or bias is forgotten
    """

    weights: Arrays = attrs.field(factory=dict)
    biases: Arrays = attrs.field(factory=dict)
    bounds: Mapping[str, Bounds] = attrs.field(factory=dict)
    removed: Collection[str] = ()
    expected: Mapping[str, Expected] = attrs.field(factory=dict)


@attrs.frozen(kw_only=True, eq=False)
class Stage:
    """A piece of a model, up to the output of a layer.

    layer : its name; output : the tensor that the layer computes, which is always kept
    keep : all tensors that later stages need, from here and from before
    run : takes what is kept of the stage before, at first the model's inputs, and gives what is
        computed here and needed later, is ``output``, or meets the layer's weight. Several
        threads may call it at once; each call computes in one
    """

    layer: str
    output: str
    keep: frozenset[str]
    run: Callable[[Arrays], dict[str, NDArray[Any]]] = attrs.field(repr=False)


class Slopes(Protocol):
    """``(value, weights, factor, offset) -> (output, slopes)``: see :class:`Block`."""

    def __call__(
        self, value: NDArray[Any], weights: Arrays, factor: NDArray[Any], offset: NDArray[Any]
    ) -> tuple[NDArray[Any], dict[str, NDArray[Any]]]: ...


@attrs.frozen(kw_only=True, eq=False)
class Block:
    """A piece of a model between two tensors, each of which is all that goes on there.

    layers : names of those in it; input, output : names of the tensors
    obstacle : why there are no slopes; "" where there are
    run : ``(value of input, weights) -> value of output``; weights, by layer and each of the
        layer's shape, take the place of the model's own
    slopes : the output with these weights and, by layer, the slope of a number by its weight,
        where that number's slope by the output is ``factor * output + offset``
    """

    layers: tuple[str, ...]
    input: str
    output: str
    obstacle: str = ""
    run: Callable[[NDArray[Any], Arrays], NDArray[Any]] = attrs.field(repr=False)
    slopes: Slopes = attrs.field(repr=False)
