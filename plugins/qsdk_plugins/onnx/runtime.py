"""Runtimes of other packages, for what no layer of qsdk computes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Protocol

import numpy as np
import onnx
import onnx.version_converter
from numpy.typing import NDArray

from qsdk.errors import DataError, MissingExtraError, QsdkError

DECODES_SINCE = 19  # the opset from which onnx's evaluator has DequantizeLinear as it is now


class Runtime(Protocol):
    """Runs a part of a model. types : of its outputs, where they are known beforehand."""

    name: str
    types: Mapping[str, onnx.TypeProto]

    def run(self, feeds: Mapping[str, Any]) -> list[Any]: ...


def import_onnxruntime() -> Any:
    """The onnxruntime package; MissingExtraError without it."""
    try:
        import onnxruntime
    except ImportError:
        raise MissingExtraError("onnxruntime", "onnx") from None
    return onnxruntime


def open_session(
    proto: bytes, threads: int = 0, *, alone: bool = True, is_piece: bool = False
) -> Any:
    """An onnxruntime session that computes what the file says.

    alone : nothing else runs in between, so that its threads may wait for the next call
    is_piece : of a model, one of many: it keeps no memory between runs, and operators between
        codes compute in floats, so that no sum saturates
    """
    runtime = import_onnxruntime()
    options = runtime.SessionOptions()
    options.log_severity_level = 3
    options.intra_op_num_threads = threads
    # In float: by default a 4-bit MatMul rounds its inputs to 8 bits.
    options.add_session_config_entry("session.qdq_matmulnbits_accuracy_level", "1")
    # On x86 it makes signed codes unsigned, but not where several read them: these run in float.
    options.add_session_config_entry("session.qdqisint8allowed", "1")
    if is_piece:
        options.enable_cpu_mem_arena = False
        options.add_session_config_entry("session.disable_quant_qdq", "1")
    if not alone:
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    try:
        return runtime.InferenceSession(proto, options, providers=["CPUExecutionProvider"])
    except Exception as error:  # onnxruntime has a type of its own for each fault
        raise QsdkError(f"onnxruntime cannot open it: {one_line(error)}") from None


def one_line(error: BaseException) -> str:
    return " ".join(str(error).split())  # which index has which length stands below the first


def best_runtime(proto: onnx.ModelProto, threads: int, *, alone: bool) -> Runtime:
    """onnxruntime, or the evaluator of the onnx package where that is all there is."""
    try:
        import_onnxruntime()
    except MissingExtraError:
        return _Evaluator(proto)
    return _OnnxRuntime(proto, threads, alone)


class _OnnxRuntime:
    name = "onnxruntime"

    def __init__(self, proto: onnx.ModelProto, threads: int, alone: bool):
        self._session = open_session(proto.SerializeToString(), threads, alone=alone)
        self._outputs = [info.name for info in self._session.get_outputs()]
        self.types: Mapping[str, onnx.TypeProto] = {
            info.name: _type(info.type) for info in self._session.get_outputs()
        }

    def run(self, feeds: Mapping[str, Any]) -> list[Any]:
        try:
            return list(self._session.run(self._outputs, dict(feeds)))
        except Exception as error:
            raise DataError(f"the model cannot run on this: {one_line(error)}") from None


class _Evaluator:
    """Slow, and without a package more than onnx itself."""

    name = "onnx.reference"

    def __init__(self, proto: onnx.ModelProto):
        from onnx.reference import ReferenceEvaluator

        self._evaluator = ReferenceEvaluator(_decodable(proto))
        self.types: Mapping[str, onnx.TypeProto] = {}

    def run(self, feeds: Mapping[str, Any]) -> list[NDArray[Any]]:
        try:
            with np.errstate(all="ignore"):
                return list(self._evaluator.run(None, dict(feeds)))
        except Exception as error:  # whatever its numpy code raises
            raise DataError(f"the model cannot run on this: {one_line(error)}") from None


def _decodable(proto: onnx.ModelProto) -> onnx.ModelProto:
    """The model at an opset whose DequantizeLinear the evaluator knows."""
    opset = max((o.version for o in proto.opset_import if not o.domain), default=1)
    decodes = any(node.op_type == "DequantizeLinear" for node in proto.graph.node)
    if not decodes or opset >= DECODES_SINCE:
        return proto
    try:
        converted: onnx.ModelProto = onnx.version_converter.convert_version(proto, 21)
    except Exception:  # the converter raises RuntimeError and types of its own
        raise MissingExtraError("onnxruntime", "onnx") from None
    return converted


def _type(text: str) -> onnx.TypeProto:
    """From onnxruntime's ``seq(tensor(float))`` and the like."""
    kind, _, inside = text.removesuffix(")").partition("(")
    found = onnx.TypeProto()
    if kind == "tensor":
        found.tensor_type.elem_type = onnx.TensorProto.DataType.Value(inside.upper())
    elif kind == "seq":
        found.sequence_type.elem_type.CopyFrom(_type(inside))
    else:
        found.optional_type.elem_type.CopyFrom(_type(inside))
    return found


def known_types(names: Sequence[str], types: Mapping[str, onnx.TypeProto]) -> list[Any]:
    """Inputs of these names, of what is known of their types."""
    return [onnx.ValueInfoProto(name=name, type=types.get(name)) for name in names]
