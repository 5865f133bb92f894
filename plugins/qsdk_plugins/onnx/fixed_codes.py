"""Puts codes that are fixed beforehand into a graph: QDQ pairs, and biases of int32.

A coded tensor keeps its name for the decoded values, so nothing that reads it changes, and layers
can be compared by name. What runtimes need to compute in integers: both sides of an operator
coded, a Relu or Clip left to the codes' own limits, biases in steps of input times weight.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any

import attrs
import numpy as np
import onnx
import onnx.helper
import onnx.numpy_helper
from numpy.typing import NDArray

import qsdk
from qsdk.encodings import Affine, Encoding
from qsdk.errors import some
from qsdk.interfaces import FixedCodes
from qsdk_plugins.onnx.coded_inputs import operation_of
from qsdk_plugins.onnx.constants import Constants, attributes
from qsdk_plugins.onnx.graph import Graph, Weight
from qsdk_plugins.onnx.sites import MOVING, RANGES, Flow, data_input

BIAS = 2  # where Conv and Gemm have it
MOST_BIAS = 2**30  # of a bias in codes, so that sums on top of it stay in 32 bits
WHOLE_BYTE = 8


def with_room_for_bias(
    graph: Graph, weight: Weight, encoding: Encoding, codes: Mapping[str, FixedCodes]
) -> Encoding:
    """The encoding, its scale raised for channels too small beside their bias.

    Such a channel is next to constant: its bias in steps of input times weight leaves 32 bits.
    """
    input_ = codes.get(data_input(weight))
    bias = _bias(graph.constants, weight)
    if input_ is None or bias is None or not _has_channel_scales(encoding):
        return encoding
    assert isinstance(encoding, Affine)
    least = (np.abs(bias) / (input_.scale * MOST_BIAS)).astype(np.float32)
    old = np.broadcast_to(encoding.scale, bias.shape)
    if (least <= old).all():
        return encoding
    if not encoding.scale.shape:
        least = least.max()
    scale = np.maximum(encoding.scale, least)
    over = (encoding.scale / scale).reshape(-1, *[1] * (len(encoding.shape) - 1))
    zero = encoding.zero_point.astype(np.float64).reshape(over.shape)
    moved = np.rint((encoding.codes - zero) * over) + zero
    return Affine.from_codes(moved.astype(np.int32), scale, encoding.zero_point, encoding.scheme)


def _has_channel_scales(encoding: Encoding) -> bool:
    return isinstance(encoding, Affine) and encoding.scale.ndim <= 1 and encoding.scheme.axis == 0


def _bias(constants: Constants, weight: Weight) -> NDArray[np.float32] | None:
    """The bias of a layer that adds it as it is: known beforehand, one value per channel."""
    node, words = weight.node, attributes(weight.node)
    has_one = weight.layer.operation in ("Conv", "Gemm") and weight.slot == 1
    if not has_one or len(node.input) <= BIAS or not node.input[BIAS]:
        return None
    if words.get("alpha", 1.0) != 1 or words.get("beta", 1.0) != 1:
        return None
    if constants.slice(node.input[BIAS]) is None:
        return None
    bias = constants.read(node.input[BIAS])
    return bias if bias.shape == weight.layer.shape[:1] else None


@attrs.frozen
class _Names:
    """Of one coded tensor's parts in the new graph."""

    codes: str
    scale: str
    zero_point: str


class CodeWriter:
    """Changes the nodes of a main graph whose weights are in place.

    codes : of tensors, by name
    constants : what the new nodes read
    """

    def __init__(
        self,
        graph: Graph,
        proto: onnx.ModelProto,
        codes: Mapping[str, FixedCodes],
        fresh: Callable[[str], str],
    ):
        # Those read from a coded model name what it makes of its inputs, too: not in this graph.
        known = {info.name for info in proto.graph.input}
        known.update(name for node in proto.graph.node for name in node.output)
        codes = {name: found for name, found in codes.items() if name in known}
        self.proto, self.codes, self._fresh = proto, codes, fresh
        self.constants: list[onnx.TensorProto] = []
        self._graph = graph
        self._flow = Flow(graph.proto, graph.constants)
        self._names = {
            name: _Names(
                fresh(f"{name}_codes"), fresh(f"{name}_scale"), fresh(f"{name}_zero_point")
            )
            for name in codes
        }
        self._renamed: dict[str, str] = {}  # inputs of the graph, as decoded

    def apply(self, weights: list[tuple[Weight, Encoding]]) -> None:
        """Change the nodes in place; ``weights`` are those that were replaced."""
        inputs = [info.name for info in self.proto.graph.input if info.name in self.codes]
        nodes: list[onnx.NodeProto] = []
        for name in inputs:
            self._renamed[name] = self._fresh(f"{name}_decoded")
            nodes += self._coded(name, name)
        biases = self._biases(weights)
        for node in self.proto.graph.node:
            nodes += self._changed(node, biases)
        del self.proto.graph.node[:]
        self.proto.graph.node.extend(nodes)
        for name, used in self._names.items():
            self._parameters(self.codes[name], used)

    def _changed(
        self, node: onnx.NodeProto, biases: Mapping[str, list[onnx.NodeProto]]
    ) -> Iterator[onnx.NodeProto]:
        new = onnx.NodeProto()
        new.CopyFrom(node)
        for place, name in enumerate(new.input):
            new.input[place] = self._renamed.get(name, name)
        first = node.output[0] if node.output else ""
        if first in biases:
            yield from biases[first]
            new.input[BIAS] = biases[first][-1].output[0]
        if first not in self.codes:
            yield new
        elif self._is_left_to_codes(node):
            yield from self._coded(first, new.input[0])
        elif operation_of(node) == "Pad" and self._pads_codes(node):
            yield from self._padded(new)
        else:
            new.output[0] = self._fresh(f"{first}_float")
            yield new
            yield from self._coded(first, new.output[0])

    def _is_left_to_codes(self, node: onnx.NodeProto) -> bool:
        """Whether a Relu or Clip does no more than its output's codes do by saturating."""
        if operation_of(node) not in RANGES or self._flow.ranged(node.input[0]) != node.output[0]:
            return False
        before = self._flow.producers.get(node.input[0])
        if before is None or operation_of(before) in MOVING:
            return False
        bounds, codes = self._flow.bounds(node), self.codes[node.output[0]]
        if bounds is None:
            return False
        half = codes.scale / 2
        return bounds[0] < codes.low + half and bounds[1] > codes.high - half

    def _coded(self, name: str, floats: str) -> Iterator[onnx.NodeProto]:
        """From ``floats`` to codes and back, to the name that is read."""
        codes, names = self.codes[name], self._names[name]
        if codes.scheme.bits < WHOLE_BYTE:
            floats_in, floats = floats, self._fresh(f"{name}_clipped")
            ends = [self._constant(f"{name}_{end}", np.array(getattr(codes, end), np.float32))
                    for end in ("low", "high")]  # fmt: skip
            yield self._node("Clip", name, [floats_in, *ends], floats)
        parameters = [names.scale, names.zero_point]
        yield self._node("QuantizeLinear", name, [floats, *parameters], names.codes)
        yield self._decoded(name)

    def _decoded(self, name: str) -> onnx.NodeProto:
        names = self._names[name]
        inputs = [names.codes, names.scale, names.zero_point]
        return self._node("DequantizeLinear", name, inputs, self._renamed.get(name, name))

    def _pads_codes(self, pad: onnx.NodeProto) -> bool:
        """Whether codes go in and the same codes come out.

        Signed ones do not: onnxruntime makes them unsigned where nothing but QDQ pairs meets them.
        """
        codes = self.codes.get(pad.input[0])
        if codes is None or codes.scheme.signed:
            return False
        return codes == self.codes[pad.output[0]]

    def _padded(self, pad: onnx.NodeProto) -> Iterator[onnx.NodeProto]:
        """Pad codes, for onnxruntime pads floats otherwise; both sides have the same codes."""
        name, source = pad.output[0], self._source_codes(pad.input[0])
        pads = attributes(pad).get("pads")
        where = (
            pad.input[1]
            if pads is None
            else self._constant(f"{name}_pads", np.array(pads, np.int64))
        )
        axes = list(pad.input[3:4])
        inputs = [source, where, self._names[name].zero_point, *axes]
        yield self._node("Pad", name, inputs, self._names[name].codes)
        yield self._decoded(name)

    def _source_codes(self, name: str) -> str:
        original = {new: old for old, new in self._renamed.items()}
        return self._names[original.get(name, name)].codes

    def _node(self, operation: str, name: str, inputs: list[str], output: str) -> onnx.NodeProto:
        return onnx.helper.make_node(
            operation, inputs, [output], name=self._fresh(f"{name}_{operation}")
        )

    def _parameters(self, codes: FixedCodes, names: _Names) -> None:
        zero_point = np.array(codes.zero_point, codes.scheme.dtype)
        self._add(names.scale, np.array(codes.scale, np.float32))
        self._add(names.zero_point, zero_point)

    def _biases(self, weights: list[tuple[Weight, Encoding]]) -> dict[str, list[onnx.NodeProto]]:
        """Nodes that decode the biases of layers, by the layer's output."""
        found = {}
        for weight, encoding in weights:
            codes = self.codes.get(data_input(weight))
            bias = _bias(self._graph.constants, weight)
            if codes is None or bias is None or not _has_channel_scales(encoding):
                continue
            assert isinstance(encoding, Affine)
            name = weight.node.input[BIAS]
            scale = np.broadcast_to(np.float32(codes.scale) * encoding.scale, bias.shape)
            steps = np.rint(bias.astype(np.float64) / scale).astype(np.int32)
            inputs = [
                self._constant(f"{name}_codes", steps),
                self._constant(f"{name}_scale", np.ascontiguousarray(scale)),
            ]
            node = onnx.helper.make_node(
                "DequantizeLinear",
                inputs,
                [self._fresh(f"{name}_decoded")],
                name=self._fresh(f"{name}_DequantizeLinear"),
                axis=0,
            )
            found[weight.node.output[0]] = [node]
        return found

    def _constant(self, wanted: str, values: NDArray[Any]) -> str:
        name = self._fresh(wanted)
        self._add(name, values)
        return name

    def _add(self, name: str, values: NDArray[Any]) -> None:
        self.constants.append(onnx.numpy_helper.from_array(np.asarray(values), name))


PAIR_LIMIT = 2**15 - 1  # of two products added up in 16 bits, as AVX2 without VNNI does
LARGEST_CODE = 255


def code_notes(
    weights: list[tuple[Weight, Encoding]], codes: Mapping[str, FixedCodes]
) -> list[str]:
    """What runtimes make of these codes that a reader should know."""
    met = [(w, e) for w, e in weights if data_input(w) in codes and isinstance(e, Affine)]
    notes = []
    if any(encoding.scheme.bits < WHOLE_BYTE - 3 for _, encoding in met):
        notes.append(
            "warning: weights of 4 bits and fewer: onnxruntime decodes them on every run and "
            "computes in floats, slower than the float network where they are convolutions"
        )
    if any(found.scheme.bits < WHOLE_BYTE for found in codes.values()):
        notes.append(
            "warning: activations of fewer than 8 bits: onnxruntime clips, codes and computes in "
            "floats, slower than the float network"
        )
    if any(found.scheme.signed for found in codes.values()):
        notes.append(
            "warning: signed activations: on x86 onnxruntime takes 1.5 to 1.8 times as long with "
            "them as with floats, and needs the session entry session.qdqisint8allowed=1; unsigned "
            "ones are faster than floats"
        )
    over = [w.layer.name for w, encoding in met if worst_pair(encoding) > PAIR_LIMIT]
    if over:
        notes.append(
            f"{some(over)}: pairs of products can leave 16 bits, where x86 CPUs without VNNI "
            "saturate; for these use 7-bit weights (the recipe int8-avx2)"
        )
    return notes


def worst_pair(encoding: Affine) -> int:
    """The largest sum of two products of one channel, with inputs of 8 bits, unsigned.

    Whichever two weights a kernel pairs.
    """
    rows = encoding.codes.reshape(encoding.shape[0], -1)
    return int(qsdk.worst_pairs(rows, 0, LARGEST_CODE, neighbours=False).max(initial=0))
