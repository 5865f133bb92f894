"""Copies of a model that leave out data, so that big models are not copied around."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import onnx

LARGE = 1024  # bytes from which a constant is data and not a shape


def without_data(
    proto: onnx.ModelProto, missing: Mapping[str, tuple[int, tuple[int, ...]]] | None = None
) -> tuple[onnx.ModelProto, list[onnx.TensorProto]]:
    """A copy with typed inputs in the place of its large constants, and these constants.

    For tools that copy what they are given, or look for data outside where there is none.
    missing : more inputs to add: element type and shape by name
    """
    held = [t for t in proto.graph.initializer if is_external(t) or nbytes(t) > LARGE]
    types = {tensor.name: (tensor.data_type, tuple(tensor.dims)) for tensor in held}
    types |= missing or {}
    light = onnx.ModelProto()
    copy_model(proto, light, lambda field, name: field != "initializer" or name not in types)
    inputs = {info.name for info in light.graph.input}
    for name, (data_type, shape) in types.items():
        if name not in inputs:
            light.graph.input.append(onnx.helper.make_tensor_value_info(name, data_type, shape))
    return light, held


def copy_model(
    source: onnx.ModelProto, target: onnx.ModelProto, keep: Callable[[str, str], bool]
) -> None:
    """Copy a model, without copying what its graph is not to keep.

    keep : asked with the graph's field ("node", "initializer", ...) and the name of the item,
        for a node that of its first output
    """
    copy_head(source, target)
    for field, value in source.graph.ListFields():
        if field.is_repeated:
            kept = (item for item in value if keep(field.name, _item_name(item)))
            getattr(target.graph, field.name).extend(kept)


def copy_head(source: onnx.ModelProto, target: onnx.ModelProto) -> None:
    """Copy what a model says of itself, and nothing that its graph consists of."""
    for from_, to in ((source, target), (source.graph, target.graph)):
        for field, value in from_.ListFields():
            if field.name == "graph":
                continue
            if not field.is_repeated:
                setattr(to, field.name, value)
            elif from_ is source:
                getattr(to, field.name).extend(value)


def _item_name(item: Any) -> str:
    if isinstance(item, onnx.NodeProto):
        return item.output[0] if item.output else ""
    return str(getattr(item, "name", ""))


def all_tensors(graph: onnx.GraphProto) -> Iterator[tuple[str, onnx.TensorProto]]:
    """Every tensor with where it is: "" for an initializer of the main graph."""
    for tensor in graph.initializer:
        yield "", tensor
    for node in graph.node:
        for attribute in node.attribute:
            if attribute.HasField("t"):
                yield node.op_type, attribute.t
            for tensor in attribute.tensors:
                yield node.op_type, tensor
            for inner in (attribute.g, *attribute.graphs):
                for _, tensor in all_tensors(inner):
                    yield node.op_type, tensor


def is_external(tensor: onnx.TensorProto) -> bool:
    """Whether the tensor's data lies in another file."""
    return bool(tensor.data_location == tensor.EXTERNAL)


def nbytes(tensor: onnx.TensorProto) -> int:
    """Bytes of the tensor's data, sub-byte types packed."""
    count: int = math.prod(tensor.dims)
    kind = onnx.TensorProto.DataType.Name(tensor.data_type)
    bits = {"INT4": 4, "UINT4": 4, "FLOAT4E2M1": 4, "INT2": 2, "UINT2": 2}.get(kind)
    if bits:
        return (count * bits + 7) // 8
    itemsize: int = onnx.helper.tensor_dtype_to_np_dtype(tensor.data_type).itemsize
    return count * itemsize


def clear(tensor: onnx.TensorProto) -> None:
    """Keep name, type and shape; ``*_data`` are the fields that can hold values."""
    for field, _ in tensor.ListFields():
        if field.name.endswith("_data"):
            tensor.ClearField(field.name)


def set_inside(tensor: onnx.TensorProto, raw: bytes) -> None:
    clear(tensor)
    tensor.raw_data = raw
    tensor.data_location = tensor.DEFAULT
