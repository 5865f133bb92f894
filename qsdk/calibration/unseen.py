"""Calibration without data: a network whose layers make of noise what they made of their data.

Ours; batch norms are the source of ranges in Nagel et al., arXiv:1906.04721, section 4.2.1.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from qsdk.calibration.feeds import Feeds
from qsdk.interfaces import Changes, Layer, Model, as_expected

UNLIKELY = 4.0  # times as large or as small as noise: inputs that are not standardized


def notes_on_noise(model: Model, feeds: Feeds) -> list[str]:
    """What to know of ranges that were found on this noise in place of data."""
    if not model.expected:
        return [
            "ranges of activations are from noise alone, for the network has no batch norms in "
            "its layers: compare it with the float one on data (`qsdk compare`)"
        ]
    notes = [f"ranges of activations are from noise held to {len(model.expected)} batch norms"]
    size = _input_size(model, feeds)
    if size is not None and not 1 / UNLIKELY < size < UNLIKELY:
        notes.append(
            f"warning: the first batch norm has seen inputs {size:.3g} times as large as the "
            "noise: give the range of the input, by a rule of position 'first' with activations = "
            "'passive' and activation_options = { low = ..., high = ... }"
        )
    return notes


def _input_size(model: Model, feeds: Feeds) -> float | None:
    """Size of the inputs in that of the noise, told by the first layer if it had a batch norm."""
    layer: Layer = model.layers[0]
    if layer.name not in model.expected:
        return None
    (stage,) = model.stages([layer.name])
    output = stage.run(feeds)[stage.output]
    scale, _ = as_expected(model.expected[layer.name], [output], layer.output_axis)
    return float(np.median(scale))


def held_to_norms(model: Model, feeds: Feeds) -> Model:
    """The model with the outputs of layers scaled and shifted, so that on ``feeds`` each channel
    has the mean and deviation that ``model.expected`` tells.

    Layer after layer, each on what those before make of ``feeds`` by then. Itself where nothing is
    expected.
    """
    layers = {layer.name: layer for layer in model.layers if layer.name in model.expected}
    weights: dict[str, NDArray[np.float64]] = {}
    biases: dict[str, NDArray[np.float64]] = {}
    tensors = dict(feeds)
    for stage in model.stages(layers):
        made = {**tensors, **stage.run(tensors)}
        layer, output = layers[stage.layer], made[stage.output]
        scale, shift = as_expected(model.expected[layer.name], [output], layer.output_axis)
        made[stage.output] = layer.along(scale, output) * output + layer.along(shift, output)
        weights[layer.name] = layer.weight * scale.reshape(-1, *(1,) * (len(layer.shape) - 1))
        biases[layer.name] = np.asarray(layer.bias, np.float64) * scale + shift
        tensors = {name: array for name, array in made.items() if name in stage.keep}
    return model.changed(Changes(weights=weights, biases=biases)) if weights else model
