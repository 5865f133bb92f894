"""What the rows of a layer's weight are multiplied by: the columns of its input.

A convolution has one for each place of its result, the patch under the kernel there.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from qsdk.interfaces.model import Layer

COLUMN_BYTES = 2**24  # of columns that are made at a time


def columns_refusal(layer: Layer) -> str:
    """Why the columns of this layer's inputs cannot be told; empty when they can."""
    words = layer.attributes
    plain = {"Conv": True, "MatMul": True, "Gemm": not words.get("transA", 0)}
    if not layer.input_name or not plain.get(layer.operation, False):
        return f"nothing tells which inputs meet the weight of {layer.operation or 'an array'}"
    if words.get("auto_pad", "NOTSET") not in ("NOTSET", "VALID"):
        return f"auto_pad {words['auto_pad']} is not known here; write the pads out"
    return ""


def input_pieces(x: NDArray[Any], layer: Layer) -> Iterator[NDArray[Any]]:
    """Some samples at a time, so that their columns stay small."""
    if layer.operation != "Conv":
        x = x.reshape(-1, x.shape[-1])
    one = x[:1].nbytes * math.prod(layer.shape[2:])
    step = max(COLUMN_BYTES // max(one, 1), 1)
    for start in range(0, len(x), step):
        yield x[start : start + step]


def input_columns(x: NDArray[Any], layer: Layer) -> NDArray[np.float32]:
    """What the rows of a weight are multiplied by: float32 (groups, K, n).

    x : the input tensor as the operator takes it
    """
    groups, length = int(layer.attributes.get("group", 1)), math.prod(layer.shape[1:])
    floats = np.asarray(x, np.float32)
    if layer.operation != "Conv":
        return np.ascontiguousarray(floats.reshape(1, -1, length).transpose(0, 2, 1))
    axes, words = len(layer.shape) - 2, layer.attributes
    pads = words.get("pads", [0] * 2 * axes)
    stride, dilation = words.get("strides", [1] * axes), words.get("dilations", [1] * axes)
    ends = [(pads[i], pads[axes + i]) for i in range(axes)]
    padded = np.pad(floats, [(0, 0), (0, 0), *ends])
    reach = [d * (k - 1) + 1 for d, k in zip(dilation, layer.shape[2:], strict=True)]
    windows = np.lib.stride_tricks.sliding_window_view(padded, reach, tuple(range(2, 2 + axes)))
    places = tuple(slice(None, None, s) for s in stride)
    taps = tuple(slice(None, None, d) for d in dilation)
    cut = windows[(slice(None), slice(None), *places, *taps)]  # (n, channels, places..., kernel...)
    kernel = range(2 + axes, 2 + 2 * axes)
    columns = cut.transpose(1, *kernel, 0, *range(2, 2 + axes))
    return columns.reshape(groups, length, -1)
