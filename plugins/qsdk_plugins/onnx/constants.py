"""The part of a graph that is computed from constants alone, where weights are."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import onnx.shape_inference
from numpy.typing import NDArray

import qsdk
from qsdk.encodings import Encoding
from qsdk.errors import FileRefusedError, QsdkError
from qsdk_plugins.onnx.noted import read_metadata
from qsdk_plugins.onnx.reading import TensorReader

DOMAIN = "qsdk"
PREFIX = "Dequantize_"

# What may stand between a constant and the operator that uses it as a weight.
FORMAL = frozenset(
    {"Constant", "Identity", "Transpose", "Reshape", "Squeeze", "Unsqueeze", "Cast", "Flatten"}
)
DEPTH = 32  # such operators in a row; more is no weight of this world
SMALL = 64  # values of a constant that says a shape


class Constants:
    """Initializers, and what formal operators make of them; values are read when asked for."""

    def __init__(self, proto: onnx.ModelProto, reader: TensorReader):
        self.proto = proto
        self.reader = reader
        self.initializers = {tensor.name: tensor for tensor in proto.graph.initializer}
        self.producers = {name: node for node in proto.graph.node for name in node.output if name}
        self.fixed = self._fixed()

    def _fixed(self) -> set[str]:
        """All that is computed from constants, by whatever operators; Constant nodes join them."""
        fixed = {*self.initializers, ""}
        for node in self.proto.graph.node:
            if node.op_type == "Constant" and node.attribute and node.attribute[0].HasField("t"):
                self.initializers[node.output[0]] = node.attribute[0].t
            if node.op_type == "Constant" or (node.input and fixed.issuperset(node.input)):
                fixed.update(node.output)
        return fixed

    def slice(self, name: str) -> list[onnx.NodeProto] | None:
        """Nodes that compute ``name`` from constants alone, in order; None when others do."""
        nodes: dict[int, onnx.NodeProto] = {}
        return list(nodes.values()) if self._slice(name, nodes, DEPTH) else None

    def _slice(self, name: str, nodes: dict[int, onnx.NodeProto], depth: int) -> bool:
        if name in self.initializers or not name:
            return True
        node = self.producers.get(name)
        if node is None or depth == 0 or not (_is_formal(node) or is_dequantize(node)):
            return False
        if id(node) in nodes:
            return True
        if not all(self._slice(input_, nodes, depth - 1) for input_ in node.input):
            return False
        nodes[id(node)] = node
        return True

    def root(self, name: str) -> str:
        """The constant that ``name`` is a view of, along the first inputs."""
        for _ in range(DEPTH):
            node = self.producers.get(name)
            if node is None or not node.input or not (_is_formal(node) or is_dequantize(node)):
                break
            name = node.input[0]
        return name

    def tensors(self, name: str) -> list[onnx.TensorProto]:
        """The constants that ``name`` is computed from."""
        nodes = self.slice(name) or []
        names = dict.fromkeys([name, *(input_ for node in nodes for input_ in node.input)])
        return [self.initializers[n] for n in names if n in self.initializers]

    def read(self, name: str) -> NDArray[Any]:
        """The value of ``name``."""
        nodes = self.slice(name)
        if not nodes:
            return self.reader.read(self.initializers[name])
        from onnx.reference import ReferenceEvaluator  # half a second; only needed here

        feeds = {n: self.reader.read(self.initializers[n]) for n in self._inputs(nodes)}
        decoded = {n.output[0]: self.decode(n).dequantize() for n in nodes if n.domain == DOMAIN}
        if name in decoded:
            return decoded[name]
        inputs = [onnx.ValueInfoProto(name=n) for n in (*feeds, *decoded)]
        try:
            evaluator = ReferenceEvaluator(self._program(nodes, inputs, [], name))
            (value,) = evaluator.run(None, {**feeds, **decoded})
        except Exception as error:  # the evaluator raises whatever its numpy code does
            raise FileRefusedError(f"weight {name!r} cannot be computed: {error}") from None
        return np.asarray(value)

    def type_of(self, name: str) -> tuple[int, tuple[int, ...]]:
        """ONNX element type and shape of ``name``; large constants are not read for it."""
        nodes = self.slice(name)
        if not nodes:
            tensor = self.initializers[name]
            return tensor.data_type, tuple(tensor.dims)
        infos, small = [], []
        for input_ in self._inputs(nodes):
            tensor = self.initializers[input_]
            if tensor.data_type == onnx.TensorProto.INT64 and sum(tensor.dims) <= SMALL:
                small.append(onnx.numpy_helper.from_array(self.reader.read(tensor), input_))
            else:
                infos.append(
                    onnx.helper.make_tensor_value_info(input_, tensor.data_type, tensor.dims)
                )
        for node in nodes:
            if node.domain == DOMAIN:
                shape = self.decode(node).shape
                infos.append(onnx.helper.make_tensor_value_info(node.output[0], 1, shape))
        if any(node.domain == DOMAIN and node.output[0] == name for node in nodes):
            return onnx.TensorProto.FLOAT, tuple(d.dim_value for d in _dims(infos[-1]))
        try:
            program = self._program(nodes, infos, small, name)
            (info,) = onnx.shape_inference.infer_shapes(program, strict_mode=True).graph.output
        except Exception as error:  # a RuntimeError of the package's own
            raise FileRefusedError(f"weight {name!r} cannot be computed: {error}") from None
        if not all(dim.HasField("dim_value") for dim in _dims(info)):
            value = self.read(name)
            return onnx.helper.np_dtype_to_tensor_dtype(value.dtype), value.shape
        return info.type.tensor_type.elem_type, tuple(dim.dim_value for dim in _dims(info))

    def describe(self, name: str) -> str:
        """The number format in which ``name`` is stored, such as ``int4 per_channel``."""
        for node in self.slice(name) or ():
            if node.domain == DOMAIN:
                return self.decode(node).describe()
            if node.op_type == "DequantizeLinear":
                return self._describe_dequantize(node)
        kind: str = onnx.TensorProto.DataType.Name(self.type_of(name)[0]).lower()
        return {"float": "float32", "double": "float64"}.get(kind, kind)

    def _describe_dequantize(self, node: onnx.NodeProto) -> str:
        codes, scale = (self.initializers.get(name) for name in node.input[:2])
        if codes is None or scale is None:
            return "quantized per_tensor"
        kind = onnx.TensorProto.DataType.Name(codes.data_type).lower()
        group = attributes(node).get("block_size", 0)
        if group:
            return f"{kind} per_group of {group}"
        return f"{kind} {'per_channel' if scale.dims else 'per_tensor'}"

    def _program(
        self,
        nodes: list[onnx.NodeProto],
        inputs: list[onnx.ValueInfoProto],
        constants: list[onnx.TensorProto],
        output: str,
    ) -> onnx.ModelProto:
        """A model of these nodes; what qsdk's functions decode is among the inputs."""
        graph = onnx.helper.make_graph(
            [node for node in nodes if node.domain != DOMAIN],
            "constants",
            inputs,
            [onnx.ValueInfoProto(name=output)],
            constants,
        )
        # The evaluator decodes from opset 19 on; these operators mean the same since 13.
        opset = max(21, *(o.version for o in self.proto.opset_import if not o.domain), 0)
        return onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", opset)])

    def _inputs(self, nodes: list[onnx.NodeProto]) -> list[str]:
        """Initializers that the nodes read; those of qsdk's functions are decoded elsewhere."""
        read = [name for node in nodes if node.domain != DOMAIN for name in node.input]
        return [name for name in dict.fromkeys(read) if name in self.initializers]

    def decode(self, node: onnx.NodeProto) -> Encoding:
        """The encoding that one of qsdk's functions is called on."""
        function = next((f for f in self.proto.functions if f.name == node.op_type), None)
        if function is None or len(function.input) != len(node.input):
            raise FileRefusedError(f"{node.op_type} is called but not defined like that")
        arrays = {
            part: self.reader.read(self.initializers[input_])
            for part, input_ in zip(function.input, node.input, strict=True)
            if input_ in self.initializers
        }
        kind = node.op_type.removeprefix(PREFIX)
        try:
            target = qsdk.registry.encoding(kind, read_metadata(self.proto))
            return target.from_arrays(arrays, attributes(node))
        except QsdkError as error:
            raise FileRefusedError(f"weight {node.output[0]!r} is refused: {error}") from error


def _dims(info: onnx.ValueInfoProto) -> Any:
    return info.type.tensor_type.shape.dim


def is_dequantize(node: onnx.NodeProto) -> bool:
    """Whether a node decodes a quantized weight."""
    if node.domain == DOMAIN:
        return bool(node.op_type.startswith(PREFIX))
    return bool(node.op_type == "DequantizeLinear")


def _is_formal(node: onnx.NodeProto) -> bool:
    return node.domain in ("", "ai.onnx") and node.op_type in FORMAL


def attributes(node: onnx.NodeProto) -> dict[str, Any]:
    """A node's plain attributes."""
    return {
        a.name: _plain(onnx.helper.get_attribute_value(a))
        for a in node.attribute
        if a.type in (a.INT, a.INTS, a.FLOAT, a.FLOATS, a.STRING, a.STRINGS)
    }


def _plain(value: Any) -> Any:
    if isinstance(value, bytes):
        return value.decode(errors="replace")
    return list(map(_plain, value)) if isinstance(value, (list, tuple)) else value
