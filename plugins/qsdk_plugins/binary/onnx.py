"""Decoding of planes in standard ONNX operators."""

from __future__ import annotations

from qsdk.encodings import OnnxFunction, OnnxNode
from qsdk_plugins.binary.planes import VALUES

FLOAT, DOUBLE, UINT64 = 1, 11, 13  # element types by their numbers in ONNX


def _node(
    operation: str, inputs: str, output: str, **attributes: int | float | str | list[int]
) -> OnnxNode:
    return OnnxNode(operation, tuple(inputs.split()), (output,), attributes)


def _constant(output: str, value: int | str | list[int]) -> OnnxNode:
    """An int64 constant; ``"@shape"`` is a list, other references are numbers."""
    word = "value_ints" if isinstance(value, list) or value == "@shape" else "value_int"
    return _node("Constant", "", output, **{word: value})


def _constants(words: str) -> tuple[OnnxNode, ...]:
    """What both functions start with; ``words`` has one of the arrays of words."""
    return (
        _constant("group_size", "@group_size"),
        _constant("shape", "@shape"),
        _constant("zero", 0),
        _constant("one", 1),
        _constant("word_bits", 64),
        _constant("top_place", 63),
        _constant("first", [0]),
        _constant("second", [1]),
        _constant("third", [2]),
        _constant("last", [-1]),
        _constant("by_plane_and_channel", [0, 0, -1]),
        _node("Range", "zero word_bits one", "places"),
        _node("Cast", "places", "place", to=UINT64),
        _node("Cast", "top_place", "top", to=UINT64),
        # length: values of a channel
        _node("Shape", words, "words_shape"),
        _node("Slice", "words_shape first second", "planes_1d"),
        _node("Slice", "words_shape second third", "channels_1d"),
        _node("ReduceProd", "shape", "count", keepdims=1),
        _node("Div", "count channels_1d", "length_1d"),
        _node("Squeeze", "length_1d first", "length"),
    )


def _bits(words: str, output: str) -> tuple[OnnxNode, ...]:
    """From words (planes, channels, words) to 0 and 1 as doubles (planes, channels, length).

    Left then right cuts out the one bit that the first shift brought to the bottom.
    """
    return (
        _node("Unsqueeze", f"{words} last", f"{words}_column"),
        _node("BitShift", f"{words}_column place", f"{words}_low", direction="RIGHT"),
        _node("BitShift", f"{words}_low top", f"{words}_high", direction="LEFT"),
        _node("BitShift", f"{words}_high top", f"{words}_bit", direction="RIGHT"),
        _node("Reshape", f"{words}_bit by_plane_and_channel", f"{words}_row"),
        _node("Slice", f"{words}_row first length_1d third", f"{words}_exact"),
        _node("Cast", f"{words}_exact", output, to=DOUBLE),
    )


# alpha (planes, channels or 1, groups), repeated for each value if there are groups. The sum is one
# of doubles, so that its order does not matter, and rounds once.
_SUM = (
    _node("Equal", "group_size zero", "ungrouped"),
    _node("Where", "ungrouped length group_size", "group"),
    _node("Add", "length group", "beyond"),
    _node("Sub", "beyond one", "up"),
    _node("Div", "up group", "groups"),
    _node("Unsqueeze", "groups first", "groups_1d"),
    _node("Concat", "planes_1d last groups_1d", "by_group", axis=0),
    _node("Reshape", "alpha by_group", "alphas"),
    _node("Where", "ungrouped one length", "repeats"),
    _node("Range", "zero repeats one", "position"),
    _node("Div", "position group", "group_of"),
    _node("Gather", "alphas group_of", "alpha_of", axis=2),
    _node("Cast", "alpha_of", "alpha_double", to=DOUBLE),
    _node("Mul", "digits alpha_double", "parts"),
    _node("ReduceSum", "parts first", "values", keepdims=0),
    _node("Cast", "values", "rounded", to=FLOAT),
    _node("Reshape", "rounded shape", "weight"),
)

DEQUANTIZE_BINARY_CODED = OnnxFunction(
    name="Dequantize_binary_coded",
    inputs=("planes", "alpha"),
    attributes=VALUES,
    output="weight",
    opset=13,
    nodes=(
        *_constants("planes"),
        *_bits("planes", "bits"),
        _node("Cast", "one", "one_double", to=DOUBLE),
        _node("Add", "bits bits", "twice"),
        _node("Sub", "twice one_double", "digits"),
        *_SUM,
    ),
)

DEQUANTIZE_TERNARY = OnnxFunction(
    name="Dequantize_ternary",
    inputs=("sign", "mask", "alpha"),
    attributes=VALUES,
    output="weight",
    opset=13,
    nodes=(
        *_constants("mask"),
        *_bits("sign", "positive"),
        *_bits("mask", "present"),
        _node("Add", "positive positive", "twice"),
        _node("Sub", "twice present", "digits"),
        *_SUM,
    ),
)
