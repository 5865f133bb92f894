"""``qsdk.conv`` against onnxruntime, layer by layer, on the convolutions of ONNX files.

    python tests/bench/conv.py MODEL.onnx... [--batches 1 32] [--seconds 0.3] [--threads 1]
                               [--activations fixed_uint8] [--kernel NAME]

Both take floats and give floats with the same 8-bit weights: onnxruntime by QuantizeLinear,
QLinearConv, DequantizeLinear, in one session. Times are the best of interleaved rounds.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import attrs
import numpy as np
import onnx
import onnxruntime
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

import qsdk

SCALE, ZERO = 0.03, 128  # of normal inputs
RESULT_SCALE = 0.5


@attrs.frozen
class Layer:
    """One convolution: shape of an image, weight, and the attributes of ONNX Conv."""

    model: str
    image: tuple[int, ...]
    weight: tuple[int, ...]
    stride: tuple[int, ...]
    padding: tuple[int, ...]
    dilation: tuple[int, ...]
    groups: int

    def __str__(self) -> str:
        sizes = ["x".join(map(str, shape)) for shape in (self.image, self.weight)]
        word = f" /{self.stride[0]}" if max(self.stride) > 1 else ""
        return f"{self.model:12.12} {sizes[0]:>11} * {sizes[1]}{word}"

    @property
    def is_depthwise(self) -> bool:
        return self.groups > 1


def layers_of(path: Path) -> Iterator[Layer]:
    """The different convolutions of a file, in order."""
    model = onnx.shape_inference.infer_shapes(onnx.load(path))
    shapes = {
        value.name: [dim.dim_value for dim in value.type.tensor_type.shape.dim]
        for value in [*model.graph.value_info, *model.graph.input]
    }
    weights = {tensor.name: tuple(tensor.dims) for tensor in model.graph.initializer}
    for node in model.graph.node:
        if node.op_type != "Conv":
            continue
        words = {given.name: helper.get_attribute_value(given) for given in node.attribute}
        weight = weights[node.input[1]]
        axes = len(weight) - 2
        yield Layer(
            path.stem,
            tuple(shapes[node.input[0]][1:]),
            weight,
            tuple(words.get("strides", [1] * axes)),
            tuple(words.get("pads", [0] * 2 * axes)),
            tuple(words.get("dilations", [1] * axes)),
            words.get("group", 1),
        )


def weight_of(layer: Layer) -> qsdk.Affine:
    rng = np.random.default_rng(0)
    codes = rng.integers(-127, 128, layer.weight).astype(np.int8)
    scale = rng.uniform(0.005, 0.01, layer.weight[0]).astype(np.float32)
    scheme = qsdk.Scheme(bits=8, symmetric=True)
    return qsdk.Affine.from_codes(codes, scale, np.zeros(len(scale), np.int8), scheme)


def ours(layer: Layer, options: argparse.Namespace) -> Callable[[Any], NDArray[Any]]:
    form = options.activations
    activations: Any = form
    if form.startswith("fixed"):
        zero = ZERO if form == "fixed_uint8" else 0
        activations = qsdk.Activations(form=form, scale=SCALE, zero_point=zero)
    return qsdk.conv(
        weight_of(layer), stride=layer.stride, padding=layer.padding, dilation=layer.dilation,
        groups=layer.groups, activations=activations, kernel=options.kernel,
        threads=options.threads,
    )  # fmt: skip


def theirs(layer: Layer, threads: int) -> Callable[[Any], NDArray[Any]]:
    weight = weight_of(layer)
    outputs = layer.weight[0]
    constants = {
        "xs": np.float32(SCALE), "xz": np.uint8(ZERO), "w": weight.codes, "ws": weight.scale,
        "wz": np.zeros(outputs, np.int8), "ys": np.float32(RESULT_SCALE), "yz": np.uint8(128),
    }  # fmt: skip
    nodes = [
        helper.make_node("QuantizeLinear", ["x", "xs", "xz"], ["q"]),
        helper.make_node(
            "QLinearConv", ["q", "xs", "xz", "w", "ws", "wz", "ys", "yz"], ["r"],
            strides=layer.stride, pads=layer.padding, dilations=layer.dilation, group=layer.groups,
        ),
        helper.make_node("DequantizeLinear", ["r", "ys", "yz"], ["y"]),
    ]  # fmt: skip
    graph = helper.make_graph(
        nodes,
        "layer",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["batch", *layer.image])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, None)],
        [numpy_helper.from_array(np.asarray(array), name) for name, array in constants.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8)
    settings = onnxruntime.SessionOptions()
    settings.intra_op_num_threads = threads
    session = onnxruntime.InferenceSession(
        model.SerializeToString(), settings, providers=["CPUExecutionProvider"]
    )
    return lambda x: session.run(None, {"x": x})[0]


def best_of_rounds(calls: list[Callable[[], object]], seconds: float) -> list[float]:
    """The best time of each call in microseconds; rounds of a few calls of each, in turn."""
    best = [float("inf")] * len(calls)
    end = time.perf_counter() + seconds * len(calls)
    while time.perf_counter() < end:
        for i, call in enumerate(calls):
            for _ in range(3):
                start = time.perf_counter()
                call()
                best[i] = min(best[i], time.perf_counter() - start)
    return [1e6 * value for value in best]


def check(layer: Layer, mine: NDArray[Any], other: NDArray[Any]) -> None:
    """Both compute the same layer: within a step of what onnxruntime rounds its result to."""
    off = np.abs(np.clip(mine, -128 * RESULT_SCALE, 127 * RESULT_SCALE) - other).max()
    if off > 1.01 * RESULT_SCALE:
        raise SystemExit(f"{layer}: results differ by {off}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("models", nargs="+", type=Path)
    parser.add_argument("--batches", nargs="+", type=int, default=[1, 32])
    parser.add_argument("--seconds", type=float, default=0.3)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--activations", default="fixed_uint8")
    parser.add_argument("--kernel")
    options = parser.parse_args()
    layers = dict.fromkeys(layer for path in options.models for layer in layers_of(path))
    title = "model, image * weight / stride"
    print(f"{title:42} {'batch':>5} {'qsdk us':>9} {'onnxruntime us':>14} {'ratio':>6}")
    ratios: dict[str, list[float]] = {"depthwise": [], "1x1": [], "other": []}
    for layer in layers:
        kind = "depthwise" if layer.is_depthwise else "1x1" if layer.weight[2] == 1 else "other"
        mine, other = ours(layer, options), theirs(layer, options.threads)
        for batch in options.batches:
            x = np.random.default_rng(1).standard_normal((batch, *layer.image), np.float32)
            check(layer, mine(x), other(x))
            fast, slow = best_of_rounds([partial(mine, x), partial(other, x)], options.seconds)
            ratios[kind].append(slow / fast)
            print(f"{layer!s:42} {batch:5} {fast:9.1f} {slow:14.1f} {slow / fast:6.2f}", flush=True)
    for kind, found in ratios.items():
        if found:
            mean = np.exp(np.log(found).mean())
            print(f"{kind}: least {min(found):.2f}, geometric mean {mean:.2f}")


if __name__ == "__main__":
    main()
