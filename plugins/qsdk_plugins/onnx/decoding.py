"""An encoding as ONNX nodes and constants that give back the weight in the file's layout.

Affine codes of 2, 4 and 8 bits become DequantizeLinear where the opset has their type; anything
else becomes a model-local function, or, when its encoding has none, a float constant.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import attrs
import numpy as np
import onnx
import onnx.helper
from numpy.typing import NDArray

import qsdk
from qsdk.encodings import Affine, Encoding, OnnxFunction, OnnxNode, pack
from qsdk_plugins.onnx.constants import DOMAIN
from qsdk_plugins.onnx.layout import Layout

# DequantizeLinear knows a width from this opset on; blocks have come with 4 bits.
SINCE = {2: 25, 4: 21, 8: 13}
BLOCKS_SINCE = 21


def needed_opset(encoding: Encoding) -> int:
    """The opset in which the encoding has a standard form worth converting a model for."""
    if not isinstance(encoding, Affine) or encoding.scheme.bits not in (4, 8):
        return 13
    blocked = encoding.scheme.granularity is qsdk.Granularity.PER_GROUP
    return max(SINCE[encoding.scheme.bits], BLOCKS_SINCE if blocked else 13)


@attrs.define
class Parts:
    """What decoding one weight adds to a graph."""

    nodes: list[onnx.NodeProto] = attrs.field(factory=list)
    constants: list[onnx.TensorProto] = attrs.field(factory=list)
    functions: dict[str, onnx.FunctionProto] = attrs.field(factory=dict)
    notes: list[str] = attrs.field(factory=list)


class Decoder:
    """Builds the parts for one weight; its last node has the weight's name as output.

    So nothing that uses the weight changes, not even inside subgraphs.
    for_integers : what reads the weight has coded inputs, so it must have a form that runtimes
        compute with in integers: codes of a width that ONNX lacks take a byte each
    """

    def __init__(
        self,
        tensor: str,
        layout: Layout,
        data_type: int,
        opset: int,
        fresh: Fresh,
        *,
        for_integers: bool = False,
    ):
        self.for_integers = for_integers
        self.tensor, self.layout, self.data_type = tensor, layout, data_type
        self.opset = opset
        self.parts = Parts()
        self._fresh = fresh
        self._steps: list[tuple[str, list[str], dict[str, Any]]] = []

    def build(self, encoding: Encoding) -> Parts:
        if isinstance(encoding, Affine) and self._has_type(encoding):
            self._dequantize_linear(encoding)
        elif (function := encoding.onnx_function()) is not None and self.opset >= function.opset:
            self._function_call(encoding, function)
            self._to_file_layout()
        else:
            return self._plain(encoding)
        if self.data_type != onnx.TensorProto.FLOAT:
            self._step("Cast", to=self.data_type)
        self._emit()
        return self.parts

    def _has_type(self, encoding: Affine) -> bool:
        """Whether DequantizeLinear can hold it; 4 bits in bytes when there is no better type."""
        scheme = encoding.scheme
        rows = self.layout.file_shape
        if scheme.bits == 2 and len(rows) == 2 and rows[1] % 4:
            return False  # onnxruntime 1.31 fuses INT2 with MatMul and reads such rows wrongly
        if scheme.granularity is qsdk.Granularity.PER_GROUP and self.opset < BLOCKS_SINCE:
            return False
        if scheme.bits == 4 and self.opset < SINCE[4]:
            self.parts.notes.append(
                f"4-bit codes take a byte each, for the model stays at opset {self.opset} "
                f"and ONNX has INT4 from opset {SINCE[4]}"
            )
            return True
        if scheme.bits not in SINCE and self.for_integers:
            self.parts.notes.append(
                f"{scheme.bits}-bit codes take a byte each, so that runtimes compute with them"
            )
            return True
        return scheme.bits in SINCE and self.opset >= SINCE[scheme.bits]

    def _dequantize_linear(self, encoding: Affine) -> None:
        """Codes in the file's own layout where each channel or block lies along one axis."""
        scheme, layout = encoding.scheme, self.layout
        codes, scale, zero_point = encoding.codes, encoding.scale, encoding.zero_point
        words: dict[str, int] = {}
        direct = layout.is_permutation
        if scheme.granularity is qsdk.Granularity.PER_CHANNEL:
            words = {"axis": layout.order[scheme.axis] if direct else scheme.axis}
        elif scheme.granularity is qsdk.Granularity.PER_GROUP:
            direct = direct and len(layout.shape) == 2 and scheme.axis == 0
            codes = codes.reshape(layout.shape[0], -1)
            words = {"axis": 1, "block_size": min(scheme.group_size or 1, codes.shape[1])}
            if direct:
                words["axis"] = layout.order[1]
                scale, zero_point = layout_2d(layout, scale), layout_2d(layout, zero_point)
        if direct:
            codes = layout.to_file(codes.reshape(layout.shape))
        inputs = [self._codes("codes", codes, scheme.bits), self._constant("scale", scale)]
        if not scheme.symmetric or self.for_integers:  # QGemm takes no weight without one
            inputs.append(self._codes("zero_point", zero_point, scheme.bits))
        self._steps.append(("DequantizeLinear", inputs, words))
        if not direct:
            self._to_file_layout(codes.shape)

    def _function_call(self, encoding: Encoding, function: OnnxFunction) -> None:
        arrays, values = encoding.arrays()
        inputs = [self._constant(part, arrays[part]) for part in function.inputs]
        self._steps.append((f"{DOMAIN}.{function.name}", inputs, dict(values)))
        self.parts.functions[function.name] = function_proto(function, self.opset)

    def _plain(self, encoding: Encoding) -> Parts:
        weight = self.layout.to_file(encoding.dequantize())
        floats = weight.astype(onnx.helper.tensor_dtype_to_np_dtype(self.data_type))
        self.parts.constants.append(onnx.numpy_helper.from_array(floats, self.tensor))
        self.parts.notes.append(f"ONNX has no form for {encoding.name!r}, so the values are floats")
        return self.parts

    def _to_file_layout(self, shape: tuple[int, ...] | None = None) -> None:
        layout = self.layout
        shape = shape or layout.shape
        if shape != layout.permuted_view:
            self._reshape(layout.permuted_view)
        if layout.order != tuple(range(len(layout.order))):
            self._step("Transpose", perm=list(layout.inverse))
        if layout.view != layout.file_shape:
            self._reshape(layout.file_shape)

    def _reshape(self, shape: tuple[int, ...]) -> None:
        self._steps.append(
            ("Reshape", ["", self._constant("shape", np.array(shape, np.int64))], {})
        )

    def _step(self, operation: str, **attributes: Any) -> None:
        self._steps.append((operation, [""], attributes))

    def _emit(self) -> None:
        """Chain the steps: an empty input is the output of the step before."""
        before = ""
        for i, (operation, inputs, attributes) in enumerate(self._steps):
            domain, _, short = operation.rpartition(".")
            last = i == len(self._steps) - 1
            output = self.tensor if last else self._fresh(f"{self.tensor}_{short.lower()}")
            node = onnx.helper.make_node(
                short,
                [name or before for name in inputs],
                [output],
                name=self._fresh(f"{self.tensor}_{short}"),
                domain=domain,
                **attributes,
            )
            self.parts.nodes.append(node)
            before = output

    def _constant(self, part: str, array: NDArray[Any]) -> str:
        name = self._fresh(f"{self.tensor}_{part}")
        contiguous = np.array(array, order="C")
        self.parts.constants.append(onnx.numpy_helper.from_array(contiguous, name))
        return name

    def _codes(self, part: str, codes: NDArray[Any], bits: int) -> str:
        """Codes as INT2, INT4 or INT8, which pack like qsdk does."""
        bits = bits if bits in SINCE and self.opset >= SINCE[bits] else 8
        kind = f"{'' if codes.dtype == np.int8 else 'U'}INT{bits}"
        name = self._fresh(f"{self.tensor}_{part}")
        tensor = onnx.TensorProto(
            name=name,
            data_type=onnx.TensorProto.DataType.Value(kind),
            dims=codes.shape,
            raw_data=pack(codes, bits).tobytes(),
        )
        self.parts.constants.append(tensor)
        return name


Fresh = Callable[[str], str]


def layout_2d(layout: Layout, params: NDArray[Any]) -> NDArray[Any]:
    """Group parameters (channels, groups) in the order of the file's axes."""
    return np.ascontiguousarray(params.transpose(layout.inverse))


def function_proto(function: OnnxFunction, opset: int) -> onnx.FunctionProto:
    """A model-local function of domain ``qsdk``."""
    return onnx.helper.make_function(
        DOMAIN,
        function.name,
        list(function.inputs),
        [function.output],
        [_node_proto(node) for node in function.nodes],
        [onnx.helper.make_opsetid("", opset)],
        list(function.attributes),
    )


def _node_proto(node: OnnxNode) -> onnx.NodeProto:
    """An attribute ``"@name"`` becomes a reference to the function's."""
    plain: dict[str, Any] = {k: v for k, v in node.attributes.items() if not _is_reference(v)}
    proto = onnx.helper.make_node(node.operation, node.inputs, node.outputs, **plain)
    for word in node.attributes.keys() - plain.keys():
        kind = {"value_ints": "INTS", "value_int": "INT"}[word]
        reference = proto.attribute.add(name=word, ref_attr_name=str(node.attributes[word])[1:])
        reference.type = onnx.AttributeProto.AttributeType.Value(kind)
    return proto


def _is_reference(value: object) -> bool:
    return isinstance(value, str) and value.startswith("@")
