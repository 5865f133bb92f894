"""Affine decoding in standard ONNX operators, for the widths that ONNX has no type for."""

from __future__ import annotations

from qsdk.encodings.base import OnnxFunction, OnnxNode


def _node(
    operation: str, inputs: str, output: str, **attributes: int | float | str | list[int]
) -> OnnxNode:
    return OnnxNode(operation, tuple(inputs.split()), (output,), attributes)


def _constant(output: str, value: int | str | list[int]) -> OnnxNode:
    """An int64 constant; ``"@shape"`` is a list, other references are numbers."""
    word = "value_ints" if isinstance(value, list) or value == "@shape" else "value_int"
    return _node("Constant", "", output, **{word: value})


# Eight codes take exactly `bits` bytes. Code p of the eight starts in byte p*bits/8 and may
# reach into the next one; two bytes as one number, shifted and cut, give it. Padding the
# stream to whole eights is cheaper than a special last one.
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
        _constant("zero", 0),
        _constant("one", 1),
        _constant("eight", 8),
        _constant("shape", "@shape"),
        _constant("first", [0]),
        _constant("last", [-1]),
        # bytes (n, bits): the stream, padded to whole eights
        _node("Shape", "packed", "size"),
        _node("Neg", "size", "minus_size"),
        _node("Mod", "minus_size bits", "short"),
        _node("Concat", "first short", "pads", axis=0),
        _node("Cast", "packed", "stream", to=6),
        _node("Pad", "stream pads", "padded"),
        _node("Unsqueeze", "bits first", "bits_1d"),
        _node("Concat", "last bits_1d", "by_eight", axis=0),
        _node("Reshape", "padded by_eight", "bytes"),
        # codes (n, 8)
        _node("Range", "zero eight one", "phase"),
        _node("Mul", "phase bits", "bit"),
        _node("Div", "bit eight", "low_index"),
        _node("Mod", "bit eight", "shift"),
        _node("Add", "low_index one", "next_index"),
        _node("Sub", "bits one", "last_index"),
        _node("Min", "next_index last_index", "high_index"),
        _node("Gather", "bytes low_index", "low", axis=1),
        _node("Gather", "bytes high_index", "high", axis=1),
        _constant("byte_int64", 256),
        _node("Cast", "byte_int64", "byte", to=6),
        _node("Mul", "high byte", "high_part"),
        _node("Add", "low high_part", "pair"),
        _node("Cast", "pair", "pair_unsigned", to=12),
        _node("Cast", "shift", "shift_unsigned", to=12),
        _node("BitShift", "pair_unsigned shift_unsigned", "shifted", direction="RIGHT"),
        _node("Cast", "shifted", "shifted_signed", to=6),
        # two's complement: add half, cut to the width, take half away
        _constant("two", 2),
        _node("Pow", "two bits", "levels"),
        _constant("signed", "@signed"),
        _node("Div", "levels two", "half_levels"),
        _node("Mul", "half_levels signed", "half"),
        _node("Cast", "half", "half_int32", to=6),
        _node("Cast", "levels", "levels_int32", to=6),
        _node("Add", "shifted_signed half_int32", "raised"),
        _node("Mod", "raised levels_int32", "cut"),
        _node("Sub", "cut half_int32", "codes"),
        # weight (channels, length): each value with the scale of its group
        _node("ReduceProd", "shape", "count", keepdims=0),
        _node("Unsqueeze", "count first", "count_1d"),
        _node("Reshape", "codes last", "flat"),
        _node("Slice", "flat first count_1d first", "exact"),
        _node("Gather", "shape zero", "channels", axis=0),
        _node("Div", "count channels", "length"),
        _constant("group_size", "@group_size"),
        _node("Equal", "group_size zero", "ungrouped"),
        _node("Where", "ungrouped length group_size", "group"),
        _node("Add", "length group", "beyond"),
        _node("Sub", "beyond one", "up"),
        _node("Div", "up group", "groups"),
        _node("Unsqueeze", "groups first", "groups_1d"),
        _node("Concat", "last groups_1d", "by_group", axis=0),
        _node("Reshape", "scale by_group", "scales"),
        _node("Cast", "zero_point", "zero_float", to=1),
        _node("Reshape", "zero_float by_group", "zeros"),
        _node("Range", "zero length one", "position"),
        _node("Div", "position group", "group_of"),
        _node("Gather", "scales group_of", "scale_of", axis=1),
        _node("Gather", "zeros group_of", "zero_of", axis=1),
        _node("Unsqueeze", "length first", "length_1d"),
        _node("Concat", "last length_1d", "by_length", axis=0),
        _node("Reshape", "exact by_length", "matrix"),
        _node("Cast", "matrix", "matrix_float", to=1),
        _node("Sub", "matrix_float zero_of", "steps"),
        _node("Mul", "steps scale_of", "values"),
        _node("Reshape", "values shape", "weight"),
    ),
)
