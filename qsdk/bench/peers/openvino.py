"""OpenVINO: one small model per case. Its int8 forms know the range of the input beforehand."""

from __future__ import annotations

from collections.abc import Iterable
from functools import cached_property
from typing import Any, ClassVar

import numpy as np

from qsdk.bench.peers.base import FLOAT, SAME, Candidate, Peer
from qsdk.bench.timing import Call
from qsdk.bench.works import Convolution, Floats, Product

LOW, HIGH, LEVELS = np.float32(-5.12), np.float32(5.08), 256  # scale 0.04, zero_point 128


class Openvino(Peer):
    name: ClassVar[str] = "openvino"

    def version(self) -> str:
        import openvino

        return str(openvino.__version__).split("-")[0] if self._core else ""

    @cached_property
    def _core(self) -> Any:
        import openvino

        return openvino.Core()

    @cached_property
    def _ops(self) -> Any:
        import openvino.opset13

        return openvino.opset13

    def product(self, work: Product) -> Iterable[Candidate]:
        def build() -> Call:
            x = self._input(work.x)
            product = self._ops.matmul(x, self._ops.constant(work.w), False, True)
            return self._call(product, x, work.x)

        yield Candidate("MatMul", FLOAT, build)

    def int8(self, work: Product, output: str) -> Iterable[Candidate]:
        def build() -> Call:
            x, ops = self._input(work.x), self._ops
            product = ops.matmul(self._coded(x), self._weight(work.w), False, True)
            return self._call(product, x, work.x)

        if output == "float32":
            yield Candidate("MatMul int8, fixed range", SAME, build)

    def int4(self, work: Product, group_size: int) -> Iterable[Candidate]:
        if work.k % group_size == 0:
            yield Candidate("MatMul u4", SAME, lambda: self._u4(work, group_size))

    def convolution(self, work: Convolution) -> Iterable[Candidate]:
        def build() -> Call:
            x = self._input(work.x)
            return self._call(self._conv(x, self._ops.constant(work.w), work), x, work.x)

        if work.groups == 1:
            yield Candidate("Convolution", FLOAT, build)

    def int8_convolution(self, work: Convolution, is_static: bool) -> Iterable[Candidate]:
        def build() -> Call:
            x = self._input(work.x)
            conv = self._conv(self._coded(x), self._weight(work.w), work)
            return self._call(conv, x, work.x)

        if is_static and work.groups == 1:
            yield Candidate("Convolution int8", SAME, build)

    def _input(self, x: Floats) -> Any:
        return self._ops.parameter(list(x.shape), np.float32)

    def _coded(self, x: Any) -> Any:
        return self._ops.fake_quantize(x, LOW, HIGH, LOW, HIGH, LEVELS)

    def _weight(self, w: Floats) -> Any:
        ops, scale = self._ops, np.float32(0.04)
        codes = np.clip(np.rint(w / scale), -127, 127).astype(np.int8)
        scales = np.full((len(w), *(1,) * (w.ndim - 1)), scale)
        return ops.multiply(ops.convert(ops.constant(codes), "f32"), ops.constant(scales))

    def _conv(self, x: Any, w: Any, work: Convolution) -> Any:
        axes = len(work.kernel)
        return self._ops.convolution(
            x, w, list(work.stride), list(work.padding[:axes]), list(work.padding[axes:]),
            list(work.dilation),
        )  # fmt: skip

    def _u4(self, work: Product, group_size: int) -> Call:
        import openvino

        ops, shape = self._ops, [work.n, work.k // group_size, group_size]
        codes = openvino.Tensor(openvino.Type.u4, openvino.Shape(shape))
        packed = np.frombuffer(codes.data, np.uint8)
        packed[:] = np.random.default_rng(4).integers(0, 256, packed.size)
        ends = (*shape[:2], 1)
        steps = ops.subtract(
            ops.convert(ops.constant(codes, shared_memory=False), "f16"),
            ops.constant(np.full(ends, 8, np.float16)),
        )
        groups = ops.multiply(steps, ops.constant(np.full(ends, 0.05, np.float16)))
        rows = ops.reshape(groups, ops.constant(np.array([work.n, work.k])), False)
        x = self._input(work.x)
        product = ops.matmul(x, ops.convert(rows, "f32"), False, True)
        return self._call(product, x, work.x, DYNAMIC_QUANTIZATION_GROUP_SIZE=str(group_size))

    def _call(self, result: Any, parameter: Any, x: Floats, **settings: str) -> Call:
        import openvino

        compiled = self._core.compile_model(
            openvino.Model([result], [parameter]),
            "CPU",
            {"INFERENCE_NUM_THREADS": self.threads, "NUM_STREAMS": 1,
             "INFERENCE_PRECISION_HINT": "f32", **settings},
        )  # fmt: skip
        request = compiled.create_infer_request()
        request.set_input_tensor(openvino.Tensor(x, shared_memory=True))
        infer: Call = request.infer
        return infer
