"""Slopes by the rule of the chain: nodes that compute them, for the nodes of a piece of a model.

The slope of a tensor is that of some number by each of its values, an array of the same shape.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Iterator, Mapping
from typing import Any

import attrs
import numpy as np
import onnx
from onnx import numpy_helper

from qsdk.errors import DataError
from qsdk_plugins.onnx.constants import attributes

Shapes = Mapping[str, tuple[int, ...]]
Given = Iterator[tuple[int, str]]  # number of an input, and the name of its slope


@attrs.define(eq=False)
class Slopes:
    """Nodes to append to a piece, and the constants that they read.

    shapes : of the piece's tensors on some input; only the first length may be another later
    moving : tensors that depend on what slopes are wanted of
    """

    shapes: Shapes
    moving: set[str]
    nodes: list[onnx.NodeProto] = attrs.field(factory=list)
    constants: list[onnx.TensorProto] = attrs.field(factory=list)
    found: dict[str, str] = attrs.field(factory=dict)  # the slope's name, by tensor

    def emit(self, operation: str, *inputs: str, **words: Any) -> str:
        name = f"slope_{len(self.nodes)}"
        self.nodes.append(onnx.helper.make_node(operation, inputs, [name], **words))
        return name

    def constant(self, value: Any, dtype: Any = np.int64) -> str:
        name = f"slope_constant_{len(self.constants)}"
        self.constants.append(numpy_helper.from_array(np.asarray(value, dtype), name))
        return name

    def back(self, nodes: Collection[onnx.NodeProto]) -> None:
        """Go through nodes from the last to the first; ``found`` must have their outputs."""
        for node in reversed(list(nodes)):
            slope = self.found.get(node.output[0])
            if slope is None or node.output[0] not in self.moving:
                continue
            for index, part in RULES[node.op_type](self, node, slope):
                name = node.input[index]
                before = self.found.get(name)
                self.found[name] = part if before is None else self.emit("Add", before, part)


def _moving(slopes: Slopes, node: onnx.NodeProto) -> list[int]:
    return [i for i, name in enumerate(node.input) if name in slopes.moving]


def _passed(slopes: Slopes, node: onnx.NodeProto, slope: str) -> Given:
    """Relu, Clip, Max, Min: to where the value came through as it was."""
    for i in _moving(slopes, node):
        same = slopes.emit("Equal", node.input[i], node.output[0])
        yield i, slopes.emit("Where", same, slope, slopes.constant(0, np.float32))


def _reshaped(slopes: Slopes, node: onnx.NodeProto, slope: str) -> Given:
    yield 0, slopes.emit("Reshape", slope, slopes.emit("Shape", node.input[0]))


def _transposed(slopes: Slopes, node: onnx.NodeProto, slope: str) -> Given:
    axes = len(slopes.shapes[node.input[0]])
    order = attributes(node).get("perm", range(axes)[::-1])
    yield 0, slopes.emit("Transpose", slope, perm=np.argsort(order).tolist())


def _joined(slopes: Slopes, node: onnx.NodeProto, slope: str) -> Given:
    """Concat: to each its own part."""
    axis = attributes(node)["axis"]
    lengths = [slopes.shapes[name][axis] for name in node.input]
    for i in _moving(slopes, node):
        start = sum(lengths[:i])
        ends = (slopes.constant([end]) for end in (start, start + lengths[i], axis))
        yield i, slopes.emit("Slice", slope, *ends)


def _normed(slopes: Slopes, node: onnx.NodeProto, slope: str) -> Given:
    """BatchNormalization of channels by constants."""
    _, scale, _, _, variance = node.input
    epsilon = slopes.constant(attributes(node).get("epsilon", 1e-5), np.float32)
    deviation = slopes.emit("Sqrt", slopes.emit("Add", variance, epsilon))
    places = [1] * (len(slopes.shapes[node.input[0]]) - 2)
    factor = slopes.emit("Div", scale, deviation)
    along = slopes.emit("Reshape", factor, slopes.constant([-1, *places]))
    yield 0, slopes.emit("Mul", slope, along)


def _summed(slopes: Slopes, node: onnx.NodeProto, slope: str) -> Given:
    for i in _moving(slopes, node):
        _check_shape(slopes, node, i)
        yield i, slopes.emit("Neg", slope) if node.op_type == "Sub" and i else slope


def _scaled(slopes: Slopes, node: onnx.NodeProto, slope: str) -> Given:
    """Mul, and Div by what does not move."""
    for i in _moving(slopes, node):
        _check_shape(slopes, node, i)
        if node.op_type == "Div" and i == 1:
            raise DataError(f"no slope is known of a divisor, {node.input[1]!r}")
        yield i, slopes.emit(node.op_type, slope, node.input[1 - i])


def _check_shape(slopes: Slopes, node: onnx.NodeProto, index: int) -> None:
    """Where a moving operand is repeated, its slope would be a sum, which is not known here."""
    shapes = [slopes.shapes[name] for name in (node.input[index], node.output[0])]
    if shapes[0] != shapes[1]:
        raise DataError(f"no slope is known of {node.op_type} from {shapes[0]} to {shapes[1]}")


def _sigmoid(slopes: Slopes, node: onnx.NodeProto, slope: str) -> Given:
    rest = slopes.emit("Sub", slopes.constant(1, np.float32), node.output[0])
    yield 0, slopes.emit("Mul", slopes.emit("Mul", slope, node.output[0]), rest)


def _leaky(slopes: Slopes, node: onnx.NodeProto, slope: str) -> Given:
    low = slopes.constant(attributes(node).get("alpha", 0.01), np.float32)
    above = slopes.emit("Greater", node.input[0], slopes.constant(0, np.float32))
    yield 0, slopes.emit("Where", above, slope, slopes.emit("Mul", slope, low))


def _mean(slopes: Slopes, node: onnx.NodeProto, slope: str) -> Given:
    """GlobalAveragePool, and ReduceMean that keeps its axes."""
    lengths, kept = (slopes.shapes[name] for name in (node.input[0], node.output[0]))
    if len(kept) < len(lengths):
        raise DataError("no slope is known of a ReduceMean with keepdims=0")
    share = math.prod(kept[1:]) / math.prod(lengths[1:])
    part = slopes.emit("Mul", slope, slopes.constant(share, np.float32))
    yield 0, slopes.emit("Expand", part, slopes.emit("Shape", node.input[0]))


def _conv(slopes: Slopes, node: onnx.NodeProto, slope: str) -> Given:
    data, weight = node.input[:2]
    geometry = _Geometry.of(node, slopes.shapes)
    if data in slopes.moving:
        yield (
            0,
            slopes.emit(
                "ConvTranspose", slope, weight, **geometry.words, output_padding=geometry.unread
            ),
        )
    if weight in slopes.moving:
        yield 1, _of_kernel(slopes, data, slope, geometry)


@attrs.frozen
class _Geometry:
    """Of a convolution; ``unread`` are values at the end that no place of the kernel reaches."""

    words: dict[str, Any]
    inputs: tuple[int, ...]
    kernel: tuple[int, ...]
    unread: list[int]

    @classmethod
    def of(cls, node: onnx.NodeProto, shapes: Shapes) -> _Geometry:
        inputs, kernel, outputs = (shapes[n][2:] for n in (*node.input[:2], node.output[0]))
        given, dims = attributes(node), len(kernel)
        if given.get("auto_pad", "NOTSET") not in ("NOTSET", "VALID"):
            raise DataError("no slope is known of a Conv with auto_pad; write the pads out")
        words = {
            "strides": list(given.get("strides", [1] * dims)),
            "dilations": list(given.get("dilations", [1] * dims)),
            "pads": list(given.get("pads", [0] * 2 * dims)),
            "group": given.get("group", 1),
        }
        unread = []
        for i in range(dims):
            reach = (kernel[i] - 1) * words["dilations"][i] + 1
            reach += (outputs[i] - 1) * words["strides"][i]
            unread.append(inputs[i] + words["pads"][i] + words["pads"][dims + i] - reach)
        return cls(words, inputs, kernel, unread)


def _of_kernel(slopes: Slopes, data: str, slope: str, geometry: _Geometry) -> str:
    """A convolution of the data with the slope, samples and channels changing places."""
    groups, dims = geometry.words["group"], len(geometry.kernel)
    places = list(range(2, 2 + dims))
    x = slopes.emit("Reshape", data, slopes.constant([0, groups, -1, *geometry.inputs]))
    x = slopes.emit("Transpose", x, perm=[2, 1, 0, *(place + 1 for place in places)])
    length = slopes.shapes[data][1] // groups
    x = slopes.emit("Reshape", x, slopes.constant([length, -1, *geometry.inputs]))
    words = geometry.words
    swapped = {**words, "strides": words["dilations"], "dilations": words["strides"]}
    found = slopes.emit("Conv", x, slopes.emit("Transpose", slope, perm=[1, 0, *places]), **swapped)
    if any(geometry.unread):
        starts, ends, axes = (
            slopes.constant(v) for v in ([0] * dims, list(geometry.kernel), places)
        )
        found = slopes.emit("Slice", found, starts, ends, axes)
    return slopes.emit("Transpose", found, perm=[1, 0, *places])


def _gemm(slopes: Slopes, node: onnx.NodeProto, slope: str) -> Given:
    words = attributes(node)
    turned, alpha = words.get("transB", 0), words.get("alpha", 1.0)
    if words.get("transA", 0) or not {*_moving(slopes, node)} <= {0, 1}:
        raise DataError("no slope is known of a Gemm with transA, or by its third input")
    data, weight = node.input[:2]
    if data in slopes.moving:
        yield 0, slopes.emit("Gemm", slope, weight, alpha=alpha, transB=1 - turned)
    if weight in slopes.moving:
        pair = (slope, data) if turned else (data, slope)
        yield 1, slopes.emit("Gemm", *pair, alpha=alpha, transA=1)


def _matmul(slopes: Slopes, node: onnx.NodeProto, slope: str) -> Given:
    """By a matrix on the right."""
    data, weight = node.input
    shape = slopes.shapes[weight]
    if len(shape) > 2:
        raise DataError(f"no slope is known of a MatMul by an array of shape {shape}")
    if data in slopes.moving:
        yield 0, slopes.emit("MatMul", slope, slopes.emit("Transpose", weight, perm=[1, 0]))
    if weight in slopes.moving:
        rows = [
            slopes.emit("Reshape", name, slopes.constant([-1, length]))
            for name, length in zip((data, slope), shape, strict=True)
        ]
        yield 1, slopes.emit("Gemm", *rows, transA=1)


RULES: dict[str, Callable[[Slopes, onnx.NodeProto, str], Given]] = {
    **dict.fromkeys(("Relu", "Clip", "Max", "Min"), _passed),
    **dict.fromkeys(("Identity", "Reshape", "Flatten", "Squeeze", "Unsqueeze"), _reshaped),
    **dict.fromkeys(("Add", "Sub"), _summed),
    **dict.fromkeys(("Mul", "Div"), _scaled),
    **dict.fromkeys(("GlobalAveragePool", "ReduceMean"), _mean),
    "BatchNormalization": _normed,
    "Concat": _joined,
    "Transpose": _transposed,
    "Sigmoid": _sigmoid,
    "LeakyRelu": _leaky,
    "Conv": _conv,
    "Gemm": _gemm,
    "MatMul": _matmul,
}
