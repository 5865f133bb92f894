"""An ONNX network as a Model."""

from __future__ import annotations

import functools
import hashlib
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import onnx
import onnx.checker
import onnx.shape_inference
from numpy.typing import NDArray

import qsdk
from qsdk.encodings import Encoding
from qsdk.errors import DataError
from qsdk.interfaces import (
    Activations,
    Block,
    Changes,
    Expected,
    FixedCodes,
    InputType,
    Layer,
    Link,
    Model,
    Site,
    Stage,
)
from qsdk.interfaces.model import Runner
from qsdk_plugins.onnx.blocks import blocks
from qsdk_plugins.onnx.chains import Chains
from qsdk_plugins.onnx.changing import change
from qsdk_plugins.onnx.fused import fused_notes
from qsdk_plugins.onnx.graph import Graph
from qsdk_plugins.onnx.noted import read_metadata
from qsdk_plugins.onnx.program import OnnxProgram
from qsdk_plugins.onnx.reading import TensorReader
from qsdk_plugins.onnx.runtime import one_line, open_session
from qsdk_plugins.onnx.sites import find_sites
from qsdk_plugins.onnx.skeleton import clear, is_external, nbytes, set_inside, without_data
from qsdk_plugins.onnx.stages import stages
from qsdk_plugins.onnx.stored_codes import fixed_codes
from qsdk_plugins.onnx.writing import activation_obstacles, opset_obstacles, rewrite

INLINE_LIMIT = 2**30  # bytes of constants above which a model gets a data file beside it
OUTSIDE_FROM = 1024  # bytes from which a constant goes there
INTEGER_LAYERS = frozenset({"Conv", "Gemm", "MatMul"})  # that onnxruntime has integers for
ALIGNMENT = 4096  # of each constant in the data file, so that it can be mapped


class OnnxModel(Model):
    """Layers are the constant weights of the main graph, in the order of its nodes."""

    format: ClassVar[str] = "onnx"
    suffix: ClassVar[str] = ".onnx"
    has: ClassVar[frozenset[str]] = frozenset({"weights", "graph", "run"})

    def __init__(
        self,
        proto: onnx.ModelProto,
        source: Path | None = None,
        notes: Sequence[str] = (),
        expected: Mapping[str, Expected] | None = None,
    ):
        self.proto = proto
        self.source = source
        self._notes = tuple(notes)
        self._expected = dict(expected or {})
        self._graph = Graph(proto, TensorReader(source))
        self._sessions: dict[tuple[str, ...], Any] = {}

    @property
    def layers(self) -> Sequence[Layer]:
        return [weight.layer for weight in self._graph.weights.values()]

    @property
    def skipped(self) -> Mapping[str, str]:
        return self._graph.skipped

    @property
    def metadata(self) -> Mapping[str, Any]:
        return read_metadata(self.proto)

    @property
    def notes(self) -> Sequence[str]:
        return self._notes

    @property
    def inputs(self) -> Sequence[str]:
        constants = self._graph.constants.initializers
        return [info.name for info in self.proto.graph.input if info.name not in constants]

    @property
    def input_types(self) -> Mapping[str, InputType]:
        infos = (info for info in self.proto.graph.input if info.name in self.inputs)
        return {info.name: _type_of(info.type.tensor_type) for info in infos}

    @property
    def outputs(self) -> Sequence[str]:
        return [info.name for info in self.proto.graph.output]

    @property
    def files(self) -> Sequence[Path]:
        outside = [t for t in self.proto.graph.initializer if is_external(t)]
        data = {self._graph.constants.reader.locate(tensor)[0]: None for tensor in outside}
        return [*([self.source] if self.source else []), *data]

    def obstacles(self, layers: Collection[str]) -> Sequence[str]:
        return opset_obstacles(self._graph, layers)

    def activation_obstacles(self, activations: Mapping[str, Activations]) -> Sequence[str]:
        return activation_obstacles(self._graph, activations)

    def sites(self, layers: Collection[str], floats: Collection[str] = ()) -> Sequence[Site]:
        return find_sites(self._graph, layers, floats)

    @property
    def codes(self) -> Mapping[str, FixedCodes]:
        return fixed_codes(self._graph.constants)

    def run_notes(self) -> Sequence[str]:
        codes = self.codes
        coded = [
            layer
            for layer in self.layers
            if layer.operation in INTEGER_LAYERS
            and layer.input_name in codes
            and not layer.is_float
        ]
        return fused_notes(self.proto, len(coded))

    def fingerprint(self) -> str:
        digest = hashlib.sha256(self.proto.SerializeToString(deterministic=True))
        for tensor in filter(is_external, self.proto.graph.initializer):
            digest.update(self._graph.constants.reader.external_bytes(tensor))
        return digest.hexdigest()

    def with_encodings(
        self,
        encodings: Mapping[str, Encoding],
        metadata: Mapping[str, Any],
        activations: Mapping[str, Activations] | None = None,
        codes: Mapping[str, FixedCodes] | None = None,
    ) -> OnnxModel:
        proto, notes = rewrite(
            self._graph, encodings.items(), lambda: metadata, activations or {}, codes
        )
        return OnnxModel(proto, self.source, notes)

    def write(
        self,
        path: Path,
        encodings: Iterable[tuple[str, Encoding]] = (),
        metadata: Callable[[], Mapping[str, Any]] = dict,
        activations: Mapping[str, Activations] | None = None,
        codes: Mapping[str, FixedCodes] | None = None,
    ) -> Sequence[str]:
        proto, notes = rewrite(self._graph, encodings, metadata, activations or {}, codes)
        constants = proto.graph.initializer
        if any(map(is_external, constants)) or sum(map(nbytes, constants)) > INLINE_LIMIT:
            self._move_outside(proto, path)
        check(proto)
        with qsdk.write_atomic(path) as file:
            file.write(proto.SerializeToString(deterministic=True))
        return notes

    def _move_outside(self, proto: onnx.ModelProto, path: Path) -> None:
        """Put the large constants into a data file beside the model's.

        It is named by its content, so an old model never finds itself on new data.
        """
        large = [tensor for tensor in proto.graph.initializer if self._is_large(tensor)]
        digest = hashlib.sha256()
        for tensor in large:
            digest.update(self._raw(tensor))
        data = path.with_name(f"{path.stem}-{digest.hexdigest()[:16]}.data")
        with qsdk.write_atomic(data) as file:
            for tensor in large:
                raw = self._raw(tensor)
                file.write(bytes(-file.tell() % ALIGNMENT))
                entry = {"location": data.name, "offset": file.tell(), "length": len(raw)}
                file.write(raw)
                clear(tensor)
                tensor.data_location = tensor.EXTERNAL
                for key, value in entry.items():
                    tensor.external_data.add(key=key, value=str(value))

    def _is_large(self, tensor: onnx.TensorProto) -> bool:
        """Whether the tensor goes outside; a small one that is outside is brought in."""
        if is_external(tensor) and nbytes(tensor) < OUTSIDE_FROM:
            set_inside(tensor, self._raw(tensor))
        return is_external(tensor) or len(tensor.raw_data) >= OUTSIDE_FROM

    def _raw(self, tensor: onnx.TensorProto) -> bytes:
        if is_external(tensor):
            return self._graph.constants.reader.external_bytes(tensor)
        return bytes(tensor.raw_data)

    def run(
        self, feeds: Mapping[str, NDArray[Any]], fetch: Sequence[str] | None = None
    ) -> dict[str, NDArray[Any]]:
        names = tuple(fetch or self.outputs)
        return self._run(self._session(names), names, feeds)

    def runner(self, fetch: Sequence[str], at_once: int, threads: int) -> Runner:
        if at_once == 1:
            return functools.partial(self.run, fetch=fetch)
        # Its pool has one thread less than it is told, beside those that call.
        told = max(threads - at_once + 1, 1)
        session = open_session(self._runnable(tuple(fetch)), told, alone=False)
        return functools.partial(self._run, session, tuple(fetch))

    def _run(
        self, session: Any, names: tuple[str, ...], feeds: Mapping[str, NDArray[Any]]
    ) -> dict[str, NDArray[Any]]:
        wrong = set(feeds) ^ set(self.inputs)
        if wrong:
            raise DataError(f"the model's inputs are {list(self.inputs)}, not {sorted(feeds)}")
        try:
            values = session.run(list(names), dict(feeds))
        except Exception as error:  # onnxruntime has a type of its own for each fault
            raise DataError(f"the model cannot run on this: {one_line(error)}") from None
        return dict(zip(names, map(np.asarray, values), strict=True))

    def prepare(self, threads: int = 0) -> OnnxProgram:
        return OnnxProgram(self._graph, threads)

    @property
    def links(self) -> Sequence[Link]:
        return Chains(self._graph).links()

    def changed(self, changes: Changes) -> OnnxModel:
        anew = {*changes.weights, *changes.biases}
        known = {name: told for name, told in self._expected.items() if name not in anew}
        proto = change(self._graph, changes)
        return OnnxModel(proto, self.source, self._notes, {**known, **changes.expected})

    @property
    def expected(self) -> Mapping[str, Expected]:
        return self._expected

    def stages(self, layers: Collection[str]) -> Sequence[Stage]:
        self._sessions.clear()  # of the whole: they hold memory that the pieces now need
        return stages(self._graph, layers, self.inputs)

    def blocks(self) -> Sequence[Block]:
        return blocks(self._graph, self.inputs)

    def blank(self, batch: int = 1) -> dict[str, NDArray[Any]]:
        return {
            info.name: _zeros(info.type.tensor_type, batch)
            for info in self.proto.graph.input
            if info.name in self.inputs
        }

    def _session(self, names: tuple[str, ...]) -> Any:
        if names not in self._sessions:
            self._sessions[names] = open_session(self._runnable(names))
        return self._sessions[names]

    def _runnable(self, names: tuple[str, ...]) -> bytes:
        """The model as bytes, its data inside, with the tensors asked for as outputs."""
        proto = onnx.ModelProto()
        proto.CopyFrom(self.proto)
        for tensor in proto.graph.initializer:
            if is_external(tensor):
                set_inside(tensor, self._graph.constants.reader.external_bytes(tensor))
        for name in names:
            if name not in self.outputs:
                proto.graph.output.append(onnx.ValueInfoProto(name=name))
        return bytes(proto.SerializeToString())


def _type_of(kind: onnx.TypeProto.Tensor) -> InputType:
    dtype = np.dtype(onnx.helper.tensor_dtype_to_np_dtype(kind.elem_type))
    if not kind.HasField("shape"):
        return InputType(dtype)
    return InputType(dtype, tuple(axis.dim_value or None for axis in kind.shape.dim))


def _zeros(kind: onnx.TypeProto.Tensor, batch: int) -> NDArray[Any]:
    dtype = onnx.helper.tensor_dtype_to_np_dtype(kind.elem_type)
    free = [batch, *[1] * len(kind.shape.dim)]
    lengths = [axis.dim_value or free[i] for i, axis in enumerate(kind.shape.dim)]
    return np.zeros(lengths, dtype)


def check(proto: onnx.ModelProto) -> None:
    """Let the onnx package judge what is about to be written: types and shapes where it can."""
    light, _ = without_data(proto)
    try:
        onnx.checker.check_model(light, full_check=True)
    except onnx.shape_inference.InferenceError:
        onnx.checker.check_model(light)  # the model's own faults of inference are not ours
