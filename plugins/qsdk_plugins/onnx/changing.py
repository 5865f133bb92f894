"""A new ONNX model with other weights, biases and bounds, and without some steps."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import numpy_helper

from qsdk.errors import DataError
from qsdk.interfaces import Changes, Step
from qsdk.interfaces.links import Bounds
from qsdk_plugins.onnx.chains import Chains
from qsdk_plugins.onnx.constants import Constants, attributes
from qsdk_plugins.onnx.fixed_codes import MOST_BIAS
from qsdk_plugins.onnx.graph import Graph, Weight
from qsdk_plugins.onnx.writing import fresh_names, names_read, skeleton

BIASED = frozenset({"Conv", "ConvTranspose", "Gemm"})  # the bias is their third input
CODED = frozenset({"Conv", "Gemm"})  # whose bias may be codes of int32


def change(graph: Graph, changes: Changes) -> onnx.ModelProto:
    """The new model; constants that nothing uses any more are left out."""
    weights = [graph.weights[name] for name in changes.weights]
    steps = {step.output: step for link in Chains(graph).links() for step in link.steps}
    proto = skeleton(graph, weights)
    edit = Edit(proto, graph.constants)
    for weight, array in zip(weights, changes.weights.values(), strict=True):
        edit.constant(weight.layout.to_file(_checked(weight, array, weight.layer.shape)),
                      weight.tensor, weight.data_type)  # fmt: skip
    for name, bias in changes.biases.items():
        weight = graph.weights[name]
        edit.bias(weight, _checked(weight, bias, weight.layer.shape[:1]))
    for output, bounds in changes.bounds.items():
        step = steps[output]
        clipped = (n for n in edit.by_output[output].input if graph.constants.slice(n) is None)
        edit.bounds(step, next(clipped), bounds)
    for output in changes.removed:
        edit.remove(output)
    edit.drop_unused()
    return proto


def _checked(weight: Weight, array: NDArray[Any], shape: tuple[int, ...]) -> NDArray[Any]:
    if array.shape != shape:
        raise DataError(f"{weight.layer.name} takes an array of shape {shape}, not {array.shape}")
    return array


class Edit:
    """Changes a model in place.

    float : the element type of its activations, taken from its inputs
    """

    def __init__(self, proto: onnx.ModelProto, constants: Constants):
        self.graph, self._old = proto.graph, constants
        self.fresh: Callable[[str], str] = fresh_names(proto)
        floats = (info.type.tensor_type.elem_type for info in proto.graph.input)
        kinds = (onnx.TensorProto.FLOAT16, onnx.TensorProto.DOUBLE, onnx.TensorProto.BFLOAT16)
        self.float = next((kind for kind in floats if kind in kinds), onnx.TensorProto.FLOAT)
        self.by_output = {node.output[0]: node for node in proto.graph.node if node.output}

    def constant(self, array: NDArray[Any], name: str, data_type: int) -> str:
        dtype = onnx.helper.tensor_dtype_to_np_dtype(data_type)
        given = np.ascontiguousarray(array).astype(dtype)
        self.graph.initializer.append(numpy_helper.from_array(given, name))
        return name

    def bias(self, weight: Weight, bias: NDArray[Any]) -> None:
        node = self.by_output[weight.node.output[0]]
        name = self.fresh(f"{weight.layer.name}.bias")
        scale = self._bias_scale(node)
        if scale is not None and (np.abs(bias / scale) < MOST_BIAS).all():
            del node.input[2:]
            node.input.append(self._in_steps(node, bias, scale, name))
            return
        if node.op_type in BIASED:
            bias = bias / attributes(node).get("beta", 1.0) if node.op_type == "Gemm" else bias
            del node.input[2:]
            node.input.append(self.constant(bias, name, weight.data_type))
            return
        output, before = node.output[0], self.fresh(f"{node.output[0]}_unbiased")
        node.output[0] = before
        self.constant(bias, name, weight.data_type)
        self._insert(node, onnx.helper.make_node("Add", [before, name], [output]), before=False)

    def _bias_scale(self, node: onnx.NodeProto) -> NDArray[np.float32] | None:
        """Of a bias in codes, which runtimes need to compute in integers; None where it is floats.

        It is that of the old bias, or where there was none that of the input times the weight's.
        """
        if node.op_type not in CODED or len(node.input) < 2:
            return None
        if len(node.input) > 2 and node.input[2]:
            return self._scale(node.input[2], of_bias=True)
        words = attributes(node)
        data, weight = (self._scale(name) for name in node.input[:2])
        if data is None or weight is None or data.ndim or weight.ndim > 1:
            return None
        plain = words.get("alpha", 1.0) == 1 and words.get("beta", 1.0) == 1
        return data * weight if plain else None

    def _scale(self, name: str, *, of_bias: bool = False) -> NDArray[np.float32] | None:
        """The scale that a tensor is decoded by, if it is."""
        node = self._old.producers.get(name)
        if node is None or node.op_type != "DequantizeLinear" or node.domain:
            return None
        codes, scale = (self._old.initializers.get(part) for part in node.input[:2])
        is_int32 = codes is not None and codes.data_type == onnx.TensorProto.INT32
        if scale is None or (of_bias and not is_int32):
            return None
        return np.asarray(self._old.reader.read(scale), np.float32)

    def _in_steps(
        self, node: onnx.NodeProto, bias: NDArray[Any], scale: NDArray[np.float32], name: str
    ) -> str:
        """The bias as int32 codes behind a DequantizeLinear."""
        along = np.array(np.broadcast_to(scale, bias.shape))
        steps = np.rint(np.asarray(bias, np.float64) / along)
        inputs = [
            self.constant(steps, self.fresh(f"{name}_codes"), onnx.TensorProto.INT32),
            self.constant(along, self.fresh(f"{name}_scale"), onnx.TensorProto.FLOAT),
        ]
        decode = onnx.helper.make_node(
            "DequantizeLinear", inputs, [name], name=self.fresh(f"{name}_decode"), axis=0
        )
        self._insert(node, decode, before=True)
        return name

    def bounds(self, step: Step, x: str, bounds: Bounds) -> None:
        """Clip has bounds for all channels together: those of each take Relu, Max and Min.

        x : which input of the step is clipped
        """
        low, high = bounds
        kinds: list[tuple[str, NDArray[Any] | None]] = []
        if low is not None:
            kinds.append(("Max", low) if low.any() else ("Relu", None))
        if high is not None:
            kinds.append(("Min", high))
        old = self.by_output[step.output]
        for i, (kind, bound) in enumerate(kinds):
            last = i == len(kinds) - 1
            output = step.output if last else self.fresh(f"{step.output}_{kind.lower()}")
            inputs = [x]
            if bound is not None:
                shaped = bound.reshape(-1, *(1,) * (step.axes - 2)) if bound.ndim else bound
                inputs.append(self.constant(shaped, self.fresh(f"{step.output}_bound"), self.float))
            node = onnx.helper.make_node(kind, inputs, [output])
            self._insert(old, node, before=True)
            x = output
        self.graph.node.remove(old)
        self.by_output[step.output] = next(n for n in self.graph.node if step.output in n.output)

    def remove(self, output: str) -> None:
        """Whoever made its input makes its output; nothing else may use that input."""
        node = self.by_output.pop(output)
        before = self.by_output.pop(node.input[0])
        before.output[0] = output
        self.by_output[output] = before
        self.graph.node.remove(node)

    def _insert(self, beside: onnx.NodeProto, node: onnx.NodeProto, *, before: bool) -> None:
        place = next(i for i, other in enumerate(self.graph.node) if other.output == beside.output)
        self.graph.node.insert(place + (not before), node)

    def drop_unused(self) -> None:
        """Constants that nothing uses any more, also where they are inputs as well."""
        self._drop_decoders()
        used = {name for node in self.graph.node for name in names_read(node)}
        used |= {info.name for info in self.graph.output}
        idle = {tensor.name for tensor in self.graph.initializer} - used
        for items in (self.graph.initializer, self.graph.input):
            for item in [item for item in items if item.name in idle]:
                items.remove(item)

    def _drop_decoders(self) -> None:
        """What decoded a bias that has been replaced."""
        used = {name for node in self.graph.node for name in names_read(node)}
        used |= {info.name for info in self.graph.output}
        idle = [
            node
            for node in self.graph.node
            if node.op_type == "DequantizeLinear" and used.isdisjoint(node.output)
        ]
        for node in idle:
            self.graph.node.remove(node)
