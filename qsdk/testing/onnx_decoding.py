"""An encoding's ONNX function, computed by the reference evaluator of the onnx package."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from qsdk.encodings import Encoding, OnnxFunction, OnnxNode
from qsdk.testing.check import NotApplicable

DOMAIN = "qsdk"


def evaluate(function: OnnxFunction, encoding: Encoding) -> NDArray[Any]:
    """What a runtime computes from the arrays of ``encoding``."""
    try:
        import onnx.reference
    except ImportError:
        raise NotApplicable("the package onnx is not installed") from None
    arrays, _ = encoding.arrays()
    evaluator = onnx.reference.ReferenceEvaluator(_model(function, encoding))
    (weight,) = evaluator.run(None, {name: arrays[name] for name in function.inputs})
    return np.asarray(weight)


def _model(function: OnnxFunction, encoding: Encoding) -> Any:
    """A model of one call of the function."""
    from onnx import helper

    arrays, values = encoding.arrays()
    opset = helper.make_opsetid("", function.opset)
    body = helper.make_function(
        DOMAIN,
        function.name,
        list(function.inputs),
        [function.output],
        [_node(node) for node in function.nodes],
        [opset],
        list(function.attributes),
    )
    words: dict[str, Any] = {word: values[word] for word in function.attributes}
    call = helper.make_node(
        function.name, list(function.inputs), [function.output], domain=DOMAIN, **words
    )
    inputs = [
        helper.make_tensor_value_info(
            name, helper.np_dtype_to_tensor_dtype(arrays[name].dtype), arrays[name].shape
        )
        for name in function.inputs
    ]
    output = helper.make_tensor_value_info(function.output, 1, None)
    graph = helper.make_graph([call], "decode", inputs, [output])
    ours = helper.make_opsetid(DOMAIN, 1)
    return helper.make_model(graph, functions=[body], opset_imports=[opset, ours])


def _node(node: OnnxNode) -> Any:
    """One operator; ``"@name"`` becomes a reference to an attribute of the function."""
    from onnx import AttributeProto, helper

    made = helper.make_node(node.operation, list(node.inputs), list(node.outputs))
    for word, value in node.attributes.items():
        if isinstance(value, str) and value.startswith("@"):
            reference = AttributeProto(name=word, ref_attr_name=value[1:], type=_type(word))
            made.attribute.append(reference)
        else:
            made.attribute.append(helper.make_attribute(word, value))
    return made


def _type(word: str) -> Any:
    """The type of an attribute of Constant, from its name; others that refer are integers."""
    from onnx import AttributeProto

    types = {
        "value_ints": AttributeProto.INTS,
        "value_float": AttributeProto.FLOAT,
        "value_string": AttributeProto.STRING,
    }
    return types.get(word, AttributeProto.INT)
