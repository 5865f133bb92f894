"""Affine decoding in standard ONNX operators, for the widths that ONNX has no type for."""

from __future__ import annotations

from qsdk.encodings.base import OnnxFunction
from qsdk.encodings.onnx_nodes import onnx_constant, onnx_node

FLOAT, INT64, UINT64 = 1, 7, 13  # element types by their numbers in ONNX


# Eight codes take exactly `bits` bytes, and so fit a word of 64 bits. Shifting the word left until
# a code is on top, then right until it is at the bottom, cuts the code out. Runtimes compute this
# once, when they load a model; every operator on all codes costs them time and memory there.
# The word is a product of matrices because onnxruntime 1.31 adds int64 by way of doubles, which
# hold 53 bits: seven bytes lost their lowest.
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
        onnx_constant("bits", "@bits"),
        onnx_constant("signed", "@signed"),
        onnx_constant("group_size", "@group_size"),
        onnx_constant("shape", "@shape"),
        onnx_constant("zero", 0),
        onnx_constant("one", 1),
        onnx_constant("two", 2),
        onnx_constant("nine", 9),
        onnx_constant("word_bits", 64),
        onnx_constant("byte_values", 256),
        onnx_constant("first", [0]),
        onnx_constant("second", [1]),
        onnx_constant("last", [-1]),
        # words (n, 1): the stream, padded to whole eights of codes
        onnx_node("Shape", "packed", "size"),
        onnx_node("Neg", "size", "minus_size"),
        onnx_node("Mod", "minus_size bits", "short"),
        onnx_node("Concat", "first short", "pads", axis=0),
        onnx_node("Pad", "packed pads", "padded"),
        onnx_node("Unsqueeze", "bits first", "bits_1d"),
        onnx_node("Concat", "last bits_1d", "by_eight", axis=0),
        onnx_node("Reshape", "padded by_eight", "bytes"),
        onnx_node("Cast", "bytes", "bytes_int64", to=INT64),
        onnx_node("Range", "zero bits one", "place"),
        onnx_node("Pow", "byte_values place", "place_value"),
        onnx_node("Unsqueeze", "place_value second", "place_column"),
        onnx_node("MatMul", "bytes_int64 place_column", "words"),
        onnx_node("Cast", "words", "words_uint64", to=UINT64),
        # codes (n, 8), still without sign
        onnx_node("Range", "one nine one", "code_number"),
        onnx_node("Mul", "code_number bits", "code_end"),
        onnx_node("Sub", "word_bits code_end", "left"),
        onnx_node("Sub", "word_bits bits", "right"),
        onnx_node("Cast", "left", "left_uint64", to=UINT64),
        onnx_node("Cast", "right", "right_uint64", to=UINT64),
        onnx_node("BitShift", "words_uint64 left_uint64", "on_top", direction="LEFT"),
        onnx_node("BitShift", "on_top right_uint64", "cut", direction="RIGHT"),
        onnx_node("Cast", "cut", "unsigned", to=FLOAT),
        # two's complement: from half of the levels on, codes stand for that much less
        onnx_node("Pow", "two bits", "levels"),
        onnx_node("Sub", "bits signed", "bits_of_magnitude"),
        onnx_node("Pow", "two bits_of_magnitude", "half"),
        onnx_node("Cast", "levels", "levels_float", to=FLOAT),
        onnx_node("Cast", "half", "half_float", to=FLOAT),
        onnx_node("Cast", "zero", "zero_value", to=FLOAT),
        onnx_node("GreaterOrEqual", "unsigned half_float", "is_negative"),
        onnx_node("Where", "is_negative levels_float zero_value", "too_much"),
        onnx_node("Sub", "unsigned too_much", "codes"),
        # matrix (channels, length)
        onnx_node("ReduceProd", "shape", "count", keepdims=0),
        onnx_node("Unsqueeze", "count first", "count_1d"),
        onnx_node("Reshape", "codes last", "flat"),
        onnx_node("Slice", "flat first count_1d first", "exact"),
        onnx_node("Gather", "shape zero", "channels", axis=0),
        onnx_node("Div", "count channels", "length"),
        onnx_node("Unsqueeze", "length first", "length_1d"),
        onnx_node("Concat", "last length_1d", "by_length", axis=0),
        onnx_node("Reshape", "exact by_length", "matrix"),
        # scale and zero_point (channels or 1, groups), repeated for each value if there are groups
        onnx_node("Equal", "group_size zero", "ungrouped"),
        onnx_node("Where", "ungrouped length group_size", "group"),
        onnx_node("Add", "length group", "beyond"),
        onnx_node("Sub", "beyond one", "up"),
        onnx_node("Div", "up group", "groups"),
        onnx_node("Unsqueeze", "groups first", "groups_1d"),
        onnx_node("Concat", "last groups_1d", "by_group", axis=0),
        onnx_node("Reshape", "scale by_group", "scales"),
        onnx_node("Cast", "zero_point", "zero_point_float", to=FLOAT),
        onnx_node("Reshape", "zero_point_float by_group", "zero_points"),
        onnx_node("Where", "ungrouped one length", "repeats"),
        onnx_node("Range", "zero repeats one", "position"),
        onnx_node("Div", "position group", "group_of"),
        onnx_node("Gather", "scales group_of", "scale_of", axis=1),
        onnx_node("Gather", "zero_points group_of", "zero_point_of", axis=1),
        onnx_node("Sub", "matrix zero_point_of", "steps"),
        onnx_node("Mul", "steps scale_of", "values"),
        onnx_node("Reshape", "values shape", "weight"),
    ),
)
