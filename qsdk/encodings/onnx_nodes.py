"""Short forms of what the bodies of ONNX functions are written in."""

from __future__ import annotations

from qsdk.encodings.base import OnnxNode


def onnx_node(
    operation: str, inputs: str, output: str, **attributes: int | float | str | list[int]
) -> OnnxNode:
    """An operator of one output; ``inputs`` are names with blanks between them.

    >>> onnx_node("Add", "a b", "sum").inputs
    ('a', 'b')
    """
    return OnnxNode(operation, tuple(inputs.split()), (output,), attributes)


def onnx_constant(output: str, value: int | str | list[int]) -> OnnxNode:
    """An int64 constant; ``"@shape"`` is a list, other references are numbers."""
    word = "value_ints" if isinstance(value, list) or value == "@shape" else "value_int"
    return onnx_node("Constant", "", output, **{word: value})
