"""Affine decoding in standard ONNX operators, for the widths that ONNX has no type for."""

from __future__ import annotations

from qsdk.encodings.base import OnnxFunction, OnnxNode

FLOAT, INT64, UINT64 = 1, 7, 13  # element types by their numbers in ONNX


def _node(
    operation: str, inputs: str, output: str, **attributes: int | float | str | list[int]
) -> OnnxNode:
    return OnnxNode(operation, tuple(inputs.split()), (output,), attributes)


def _constant(output: str, value: int | str | list[int]) -> OnnxNode:
    """An int64 constant; ``"@shape"`` is a list, other references are numbers."""
    word = "value_ints" if isinstance(value, list) or value == "@shape" else "value_int"
    return _node("Constant", "", output, **{word: value})


# Eight codes take exactly `bits` bytes, and so fit a word of 64 bits. Shifting the word left until
# a code is on top, then right until it is at the bottom, cuts the code out. Runtimes compute this
# once, when they load a model; every operator on all codes costs them time and memory there.
DEQUANTIZE_AFFINE = OnnxFunction(
    name="Dequantize_affine",
    inputs=("packed", "scale", "zero_point"),
    attributes=(
        "bits",
        "signed",
        "symmetric",
        "narrow_range",
        "granularity",
        "axis",
        "group_size",
        "shape",
    ),
    output="weight",
    opset=13,
    nodes=(
        _constant("bits", "@bits"),
        _constant("signed", "@signed"),
        _constant("group_size", "@group_size"),
        _constant("shape", "@shape"),
        _constant("zero", 0),
        _constant("one", 1),
        _constant("two", 2),
        _constant("nine", 9),
        _constant("word_bits", 64),
        _constant("byte_values", 256),
        _constant("first", [0]),
        _constant("second", [1]),
        _constant("last", [-1]),
        # words (n, 1): the stream, padded to whole eights of codes
        _node("Shape", "packed", "size"),
        _node("Neg", "size", "minus_size"),
        _node("Mod", "minus_size bits", "short"),
        _node("Concat", "first short", "pads", axis=0),
        _node("Pad", "packed pads", "padded"),
        _node("Unsqueeze", "bits first", "bits_1d"),
        _node("Concat", "last bits_1d", "by_eight", axis=0),
        _node("Reshape", "padded by_eight", "bytes"),
        _node("Cast", "bytes", "bytes_int64", to=INT64),
        _node("Range", "zero bits one", "place"),
        _node("Pow", "byte_values place", "place_value"),
        _node("Mul", "bytes_int64 place_value", "placed"),
        _node("ReduceSum", "placed second", "words", keepdims=1),
        _node("Cast", "words", "words_uint64", to=UINT64),
        # codes (n, 8), still without sign
        _node("Range", "one nine one", "code_number"),
        _node("Mul", "code_number bits", "code_end"),
        _node("Sub", "word_bits code_end", "left"),
        _node("Sub", "word_bits bits", "right"),
        _node("Cast", "left", "left_uint64", to=UINT64),
        _node("Cast", "right", "right_uint64", to=UINT64),
        _node("BitShift", "words_uint64 left_uint64", "on_top", direction="LEFT"),
        _node("BitShift", "on_top right_uint64", "cut", direction="RIGHT"),
        _node("Cast", "cut", "unsigned", to=FLOAT),
        # two's complement: from half of the levels on, codes stand for that much less
        _node("Pow", "two bits", "levels"),
        _node("Sub", "bits signed", "bits_of_magnitude"),
        _node("Pow", "two bits_of_magnitude", "half"),
        _node("Cast", "levels", "levels_float", to=FLOAT),
        _node("Cast", "half", "half_float", to=FLOAT),
        _node("Cast", "zero", "zero_value", to=FLOAT),
        _node("GreaterOrEqual", "unsigned half_float", "is_negative"),
        _node("Where", "is_negative levels_float zero_value", "too_much"),
        _node("Sub", "unsigned too_much", "codes"),
        # matrix (channels, length)
        _node("ReduceProd", "shape", "count", keepdims=0),
        _node("Unsqueeze", "count first", "count_1d"),
        _node("Reshape", "codes last", "flat"),
        _node("Slice", "flat first count_1d first", "exact"),
        _node("Gather", "shape zero", "channels", axis=0),
        _node("Div", "count channels", "length"),
        _node("Unsqueeze", "length first", "length_1d"),
        _node("Concat", "last length_1d", "by_length", axis=0),
        _node("Reshape", "exact by_length", "matrix"),
        # scale and zero_point (channels or 1, groups), repeated for each value if there are groups
        _node("Equal", "group_size zero", "ungrouped"),
        _node("Where", "ungrouped length group_size", "group"),
        _node("Add", "length group", "beyond"),
        _node("Sub", "beyond one", "up"),
        _node("Div", "up group", "groups"),
        _node("Unsqueeze", "groups first", "groups_1d"),
        _node("Concat", "last groups_1d", "by_group", axis=0),
        _node("Reshape", "scale by_group", "scales"),
        _node("Cast", "zero_point", "zero_point_float", to=FLOAT),
        _node("Reshape", "zero_point_float by_group", "zero_points"),
        _node("Where", "ungrouped one length", "repeats"),
        _node("Range", "zero repeats one", "position"),
        _node("Div", "position group", "group_of"),
        _node("Gather", "scales group_of", "scale_of", axis=1),
        _node("Gather", "zero_points group_of", "zero_point_of", axis=1),
        _node("Sub", "matrix zero_point_of", "steps"),
        _node("Mul", "steps scale_of", "values"),
        _node("Reshape", "values shape", "weight"),
    ),
)
