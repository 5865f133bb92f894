"""What onnxruntime makes of a model with fixed codes: how many of its layers are integers."""

from __future__ import annotations

import tempfile
from collections import Counter
from pathlib import Path

import onnx

from qsdk.errors import MissingExtraError
from qsdk_plugins.onnx.runtime import import_onnxruntime
from qsdk_plugins.onnx.skeleton import is_external

INTEGERS = frozenset({"QLinearConv", "QGemm", "QLinearMatMul"})


def optimized_operators(proto: onnx.ModelProto) -> Counter[str]:
    """Types of the operators that onnxruntime runs, with its own optimizations."""
    runtime = import_onnxruntime()
    options = runtime.SessionOptions()
    options.log_severity_level = 3
    options.add_session_config_entry("session.qdqisint8allowed", "1")
    with tempfile.TemporaryDirectory(prefix="qsdk-fused-") as folder:
        path = Path(folder) / "optimized.onnx"
        options.optimized_model_filepath = str(path)
        runtime.InferenceSession(
            proto.SerializeToString(), options, providers=["CPUExecutionProvider"]
        )
        return Counter(node.op_type for node in onnx.load(path).graph.node)


def fused_notes(proto: onnx.ModelProto, coded_layers: int) -> list[str]:
    """How many of the layers with coded inputs run in integers; nothing where nobody can tell.

    coded_layers : Conv, Gemm and MatMul that have both sides coded
    """
    if not coded_layers or any(map(is_external, proto.graph.initializer)):
        return []
    try:
        found = optimized_operators(proto)
    except MissingExtraError:
        return []
    count = sum(found[operation] for operation in INTEGERS)
    text = f"onnxruntime computes {count} of {coded_layers} coded layers in integers"
    if count >= coded_layers:
        return [text]
    return [f"warning: {text}, the others in floats, which can be slower than the float network"]
