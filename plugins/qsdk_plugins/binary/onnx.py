"""Decoding of planes in standard ONNX operators."""

from __future__ import annotations

from qsdk.encodings import OnnxFunction, OnnxNode, onnx_constant, onnx_node
from qsdk_plugins.binary.planes import VALUES

FLOAT, DOUBLE, UINT64 = 1, 11, 13  # element types by their numbers in ONNX


def _constants(words: str) -> tuple[OnnxNode, ...]:
    """What both functions start with; ``words`` has one of the arrays of words."""
    return (
        onnx_constant("group_size", "@group_size"),
        onnx_constant("shape", "@shape"),
        onnx_constant("zero", 0),
        onnx_constant("one", 1),
        onnx_constant("word_bits", 64),
        onnx_constant("top_place", 63),
        onnx_constant("first", [0]),
        onnx_constant("second", [1]),
        onnx_constant("third", [2]),
        onnx_constant("last", [-1]),
        onnx_constant("by_plane_and_channel", [0, 0, -1]),
        onnx_node("Range", "zero word_bits one", "places"),
        onnx_node("Cast", "places", "place", to=UINT64),
        onnx_node("Cast", "top_place", "top", to=UINT64),
        # length: values of a channel
        onnx_node("Shape", words, "words_shape"),
        onnx_node("Slice", "words_shape first second", "planes_1d"),
        onnx_node("Slice", "words_shape second third", "channels_1d"),
        onnx_node("ReduceProd", "shape", "count", keepdims=1),
        onnx_node("Div", "count channels_1d", "length_1d"),
        onnx_node("Squeeze", "length_1d first", "length"),
    )


def _bits(words: str, output: str) -> tuple[OnnxNode, ...]:
    """From words (planes, channels, words) to 0 and 1 as doubles (planes, channels, length).

    Left then right cuts out the one bit that the first shift brought to the bottom.
    """
    return (
        onnx_node("Unsqueeze", f"{words} last", f"{words}_column"),
        onnx_node("BitShift", f"{words}_column place", f"{words}_low", direction="RIGHT"),
        onnx_node("BitShift", f"{words}_low top", f"{words}_high", direction="LEFT"),
        onnx_node("BitShift", f"{words}_high top", f"{words}_bit", direction="RIGHT"),
        onnx_node("Reshape", f"{words}_bit by_plane_and_channel", f"{words}_row"),
        onnx_node("Slice", f"{words}_row first length_1d third", f"{words}_exact"),
        onnx_node("Cast", f"{words}_exact", output, to=DOUBLE),
    )


# alpha (planes, channels or 1, groups), repeated for each value if there are groups. The sum is one
# of doubles, so that its order does not matter, and rounds once.
_SUM = (
    onnx_node("Equal", "group_size zero", "ungrouped"),
    onnx_node("Where", "ungrouped length group_size", "group"),
    onnx_node("Add", "length group", "beyond"),
    onnx_node("Sub", "beyond one", "up"),
    onnx_node("Div", "up group", "groups"),
    onnx_node("Unsqueeze", "groups first", "groups_1d"),
    onnx_node("Concat", "planes_1d last groups_1d", "by_group", axis=0),
    onnx_node("Reshape", "alpha by_group", "alphas"),
    onnx_node("Where", "ungrouped one length", "repeats"),
    onnx_node("Range", "zero repeats one", "position"),
    onnx_node("Div", "position group", "group_of"),
    onnx_node("Gather", "alphas group_of", "alpha_of", axis=2),
    onnx_node("Cast", "alpha_of", "alpha_double", to=DOUBLE),
    onnx_node("Mul", "digits alpha_double", "parts"),
    onnx_node("ReduceSum", "parts first", "values", keepdims=0),
    onnx_node("Cast", "values", "rounded", to=FLOAT),
    onnx_node("Reshape", "rounded shape", "weight"),
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
        onnx_node("Cast", "one", "one_double", to=DOUBLE),
        onnx_node("Add", "bits bits", "twice"),
        onnx_node("Sub", "twice one_double", "digits"),
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
        onnx_node("Add", "positive positive", "twice"),
        onnx_node("Sub", "twice present", "digits"),
        *_SUM,
    ),
)
