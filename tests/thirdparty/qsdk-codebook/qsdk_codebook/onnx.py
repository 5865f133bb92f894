"""Codebook decoding in standard ONNX operators."""

from qsdk.encodings import OnnxFunction, OnnxNode

INT64 = 7  # by its number in ONNX


def _node(operation, inputs, output, **attributes):
    return OnnxNode(operation, tuple(inputs.split()), (output,), attributes)


DEQUANTIZE_CODEBOOK = OnnxFunction(
    name="Dequantize_codebook",
    inputs=("packed", "table"),
    attributes=("bits", "granularity", "axis", "shape"),
    output="weight",
    opset=13,
    nodes=(
        _node("Constant", "", "bits", value_int="@bits"),
        _node("Constant", "", "shape", value_ints="@shape"),
        _node("Constant", "", "zero", value_int=0),
        _node("Constant", "", "one", value_int=1),
        _node("Constant", "", "two", value_int=2),
        _node("Constant", "", "first", value_ints=[0]),
        _node("Constant", "", "last", value_ints=[-1]),
        _node("Constant", "", "powers", value_ints=[1, 2, 4, 8, 16, 32, 64, 128]),
        # the stream, one bit each, lowest first
        _node("Cast", "packed", "bytes", to=INT64),
        _node("Unsqueeze", "bytes last", "column"),
        _node("Div", "column powers", "shifted"),
        _node("Mod", "shifted two", "stream"),
        _node("Reshape", "stream last", "flat"),
        # codes (count, bits), then (tables, length)
        _node("ReduceProd", "shape", "count", keepdims=1),
        _node("Mul", "count bits", "end"),
        _node("Slice", "flat first end first", "exact"),
        _node("Concat", "count last", "by_code", axis=0),
        _node("Reshape", "exact by_code", "digits"),
        _node("Range", "zero bits one", "place"),
        _node("Pow", "two place", "place_value"),
        _node("Mul", "digits place_value", "placed"),
        _node("ReduceSum", "placed last", "codes", keepdims=0),
        # each table begins where the one before it ends
        _node("Pow", "two bits", "levels"),
        _node("Size", "table", "entries"),
        _node("Range", "zero entries levels", "starts"),
        _node("Unsqueeze", "starts last", "table_start"),
        _node("Shape", "starts", "tables"),
        _node("Concat", "tables last", "by_table", axis=0),
        _node("Reshape", "codes by_table", "rows"),
        _node("Add", "rows table_start", "position"),
        _node("Reshape", "table last", "values"),
        _node("Gather", "values position", "decoded"),
        _node("Reshape", "decoded shape", "weight"),
    ),
)
