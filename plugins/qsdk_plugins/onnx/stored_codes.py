"""The codes that lie in a file: of weights behind DequantizeLinear, of tensors between layers."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import attrs
import numpy as np
import onnx
from numpy.typing import NDArray

import qsdk
from qsdk.encodings import Affine, Encoding
from qsdk.errors import QsdkError
from qsdk.interfaces import FixedCodes
from qsdk_plugins.onnx.constants import Constants, attributes
from qsdk_plugins.onnx.layout import Layout
from qsdk_plugins.onnx.noted import read_metadata
from qsdk_plugins.onnx.operands import Operands

KINDS = onnx.TensorProto.DataType
WIDTHS = {  # 2 bits came with onnx 1.20
    KINDS.Value(name): (bits, sign == "")
    for sign in ("", "U")
    for bits in (2, 4, 8)
    if (name := f"{sign}INT{bits}") in KINDS.keys()  # noqa: SIM118 - it is no dict
}


def stored_encoding(
    constants: Constants, node: onnx.NodeProto, slot: int, layout: Layout, layer: str
) -> Encoding | None:
    """The weight of a layer as codes; None where it is floats, or laid out in another way."""
    nodes = constants.slice(node.input[slot])
    if not nodes:
        return None
    if nodes[0].op_type != "DequantizeLinear":
        return Operands(constants).encoding(node, slot)
    found = _Dequantize.of(constants, nodes[0])
    if found is None or len(nodes) > 1 or not layout.is_permutation:
        return None
    try:
        return found.affine(layout, _noted_bits(constants, layer))
    except QsdkError:  # whatever lies in a file of others
        return None


@attrs.frozen(eq=False)
class _Dequantize:
    """A DequantizeLinear of constants, as it lies in the file."""

    codes: NDArray[Any]
    scale: NDArray[np.float32]
    zero_point: NDArray[np.int16]
    words: dict[str, Any]
    scheme: qsdk.Scheme

    @classmethod
    def of(cls, constants: Constants, node: onnx.NodeProto) -> _Dequantize | None:
        tensors = _initializers(constants, node.input)
        if tensors is None or tensors[0].data_type not in WIDTHS:
            return None
        codes, scale, *zero = (constants.reader.read(tensor) for tensor in tensors)
        if scale.dtype != np.float32:
            return None
        bits, signed = WIDTHS[tensors[0].data_type]
        return cls(
            codes.astype(np.int16),
            scale,
            (zero[0] if zero else np.zeros(scale.shape)).astype(np.int16),
            attributes(node),
            qsdk.Scheme(bits=bits, signed=signed, granularity="per_tensor"),
        )

    def affine(self, layout: Layout, noted_bits: int | None) -> Affine | None:
        """With channels on axis 0; None where they lie otherwise.

        noted_bits : of the grid, where that is narrower than the type of the codes
        """
        scale, zero, scheme = self.scale, self.zero_point, self.scheme
        if scale.ndim:
            axis = layout.order.index(self.words.get("axis", 1) % len(layout.order))
            group = self.words.get("block_size", 0)
            if axis != (1 if group else 0) or (group and len(layout.shape) != 2):
                return None
            granularity = "per_group" if group else "per_channel"
            scheme = scheme.replace(granularity=granularity, group_size=group or None)
            if group:
                scale, zero = scale.transpose(layout.order), zero.transpose(layout.order)
        codes = layout.to_canonical(self.codes)
        if noted_bits is not None and codes.size:
            narrow = scheme.replace(bits=noted_bits)
            if narrow.qmin <= codes.min() and codes.max() <= narrow.qmax:
                scheme = narrow
        if scheme.signed and scheme.bits > 1 and not zero.any():
            scheme = scheme.replace(symmetric=True)
        return Affine.from_codes(codes, scale, zero, scheme)


def _noted_bits(constants: Constants, layer: str) -> int | None:
    """Bits of the quantizer that made a layer; a file says what it likes of itself."""
    noted = read_metadata(constants.proto)
    try:
        bits = noted["quantizers"][noted["layers"][layer]["quantizer"]]["options"]["scheme"]["bits"]
    except (KeyError, IndexError, TypeError):
        return None
    return bits if isinstance(bits, int) and 1 <= bits <= 8 else None


def _initializers(constants: Constants, names: Iterable[str]) -> list[onnx.TensorProto] | None:
    """The constants of these names; None where one is none."""
    known, listed = constants.initializers, list(names)
    return [known[name] for name in listed] if known.keys() >= set(listed) else None


def fixed_codes(constants: Constants) -> dict[str, FixedCodes]:
    """Codes of tensors, by the name of what DequantizeLinear gives, or of a graph's input."""
    inputs = {info.name for info in constants.proto.graph.input}
    found: dict[str, FixedCodes] = {}
    for node in constants.proto.graph.node:
        if node.op_type != "DequantizeLinear" or node.input[0] in constants.fixed:
            continue
        codes = _codes(constants, node)
        if codes is None:
            continue
        quantize = constants.producers.get(node.input[0])
        source = quantize.input[0] if quantize is not None else ""
        source, codes = _clipped(constants, source, codes)
        found[node.output[0]] = codes
        if source in inputs:
            found[source] = codes
    return found


def _codes(constants: Constants, node: onnx.NodeProto) -> FixedCodes | None:
    """What a DequantizeLinear with one scale in all says."""
    tensors = _initializers(constants, node.input[1:3])
    if tensors is None or len(tensors) < 2 or any(tensor.dims for tensor in tensors):
        return None
    scale, zero = (constants.reader.read(tensor).item() for tensor in tensors)
    if tensors[1].data_type not in WIDTHS:
        return None
    bits, signed = WIDTHS[tensors[1].data_type]
    scheme = qsdk.Scheme(bits=bits, signed=signed, granularity="per_tensor")
    try:
        return FixedCodes(scale=scale, zero_point=int(zero), scheme=scheme)
    except QsdkError:  # a scale of 0, as others may write it
        return None


def _clipped(constants: Constants, source: str, codes: FixedCodes) -> tuple[str, FixedCodes]:
    """What is coded, and the codes: of fewer bits where a Clip stands before QuantizeLinear."""
    clip = constants.producers.get(source)
    ends = _initializers(constants, clip.input[1:3]) if clip is not None else None
    if clip is None or clip.op_type != "Clip" or ends is None or len(ends) < 2:
        return source, codes
    low, high = (np.rint(constants.reader.read(end).item() / codes.scale) for end in ends)
    for bits in range(1, codes.scheme.bits):
        scheme = codes.scheme.replace(bits=bits)
        if (low, high) == (scheme.qmin - codes.zero_point, scheme.qmax - codes.zero_point):
            return clip.input[0], attrs.evolve(codes, scheme=scheme)
    return source, codes
