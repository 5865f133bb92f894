"""PyTorch: float, its quantized engines, and its 4-bit product."""

from __future__ import annotations

import warnings
from collections.abc import Iterable
from functools import cached_property
from typing import Any, ClassVar

from qsdk.bench.peers.base import FLOAT, SAME, Candidate, Peer
from qsdk.bench.timing import Call
from qsdk.bench.works import Convolution, Floats, Product, Values, Weights

ENGINES = ("fbgemm", "onednn", "x86", "qnnpack")


class Torch(Peer):
    name: ClassVar[str] = "torch"

    def version(self) -> str:
        return str(self._torch.__version__)

    @cached_property
    def _torch(self) -> Any:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            import torch

        torch.set_num_threads(self.threads)
        return torch

    @property
    def _engines(self) -> list[str]:
        has = self._torch.backends.quantized.supported_engines
        return [engine for engine in ENGINES if engine in has]

    def product(self, work: Product) -> Iterable[Candidate]:
        def build() -> Call:
            x, w, linear = self._tensor(work.x), self._tensor(work.w), self._torch._C._nn.linear
            return lambda: linear(x, w)

        yield Candidate("linear", FLOAT, build)

    def int8(self, work: Product, output: str) -> Iterable[Candidate]:
        if output == "int32":
            yield Candidate("_int_mm, signed", SAME, lambda: self._int_mm(work))
            return
        for engine in self._engines:
            yield Candidate(
                f"linear_dynamic {engine}",
                SAME,
                lambda engine=engine: self._linear_dynamic(work, engine),  # type: ignore[misc]
            )

    def int4(self, work: Product, group_size: int) -> Iterable[Candidate]:
        name = "int4pack_mm, bfloat16"
        yield Candidate(name, SAME, lambda: self._int4pack_mm(work, group_size))

    def convolution(self, work: Convolution) -> Iterable[Candidate]:
        def build() -> Call:
            x, w, torch = self._tensor(work.x), self._tensor(work.w), self._torch
            x, padding = self._padded(x, work)
            words = (None, work.stride, padding, work.dilation, work.groups)
            return lambda: torch.conv2d(x, w, *words)

        if len(work.kernel) == 2:
            yield Candidate("conv2d", FLOAT, build)

    def int8_convolution(self, work: Convolution, is_static: bool) -> Iterable[Candidate]:
        if is_static and len(work.kernel) == 2:
            for engine in self._engines:
                yield Candidate(
                    f"quantized conv2d {engine}",
                    SAME,
                    lambda engine=engine: self._quantized_conv(work, engine),  # type: ignore[misc]
                )

    def quantize(self, work: Weights, kind: str) -> Iterable[Candidate]:
        def build() -> Call:
            rows = [self._tensor(weight.reshape(len(weight), -1)) for weight in work.arrays]
            return lambda: [self._codes_of(weight) for weight in rows]

        yield Candidate("quantize_per_channel", kind, build)

    def observe(self, work: Values, plugin: str) -> Iterable[Candidate]:
        torch = self._torch
        x = self._tensor(work.array)
        if plugin == "minmax":
            yield Candidate("aminmax", SAME, lambda: lambda: torch.aminmax(x))
        else:
            yield Candidate("histc", SAME, lambda: lambda: torch.histc(x, 2048, -8, 8))

    def _tensor(self, array: Floats) -> Any:
        return self._torch.from_numpy(array)

    def _codes_of(self, w: Any) -> Any:
        torch = self._torch
        scale = w.abs().amax(1) / 127
        zeros = torch.zeros(len(w), dtype=torch.long)
        return torch.quantize_per_channel(w, scale, zeros, 0, torch.qint8)

    def _int_mm(self, work: Product) -> Call:
        x = self._torch.from_numpy(work.codes_x.astype("int8"))
        w, product = self._torch.from_numpy(work.codes_w), self._torch._int_mm
        return lambda: product(x, w)

    def _linear_dynamic(self, work: Product, engine: str) -> Call:
        quantized, ops = self._torch.backends.quantized, self._torch.ops.quantized
        quantized.engine = engine
        packed = ops.linear_prepack(self._codes_of(self._tensor(work.w)), None)
        x = self._tensor(work.x)

        def call() -> Any:
            quantized.engine = engine
            return ops.linear_dynamic(x, packed, False)

        return call

    def _int4pack_mm(self, work: Product, group_size: int) -> Call:
        torch, aten = self._torch, self._torch.ops.aten
        codes = torch.randint(0, 16, (work.n, work.k), dtype=torch.int32)
        packed = aten._convert_weight_to_int4pack_for_cpu(codes, 1)
        groups = work.k // group_size
        scales = torch.full((groups, work.n, 2), 0.05, dtype=torch.bfloat16)
        x = self._tensor(work.x).bfloat16()
        return lambda: aten._weight_int4pack_mm_for_cpu(x, packed, group_size, scales)

    def _quantized_conv(self, work: Convolution, engine: str) -> Call:
        torch, ops = self._torch, self._torch.ops.quantized
        x, padding = self._padded(self._tensor(work.x), work)
        w = self._tensor(work.w)
        scale = w.abs().amax((1, 2, 3)) / 127
        zeros = torch.zeros(len(w), dtype=torch.long)
        codes = torch.quantize_per_channel(w, scale, zeros, 0, torch.qint8)
        torch.backends.quantized.engine = engine
        packed = ops.conv2d_prepack(codes, None, work.stride, padding, work.dilation, work.groups)

        def call() -> Any:
            torch.backends.quantized.engine = engine
            codes_x = torch.quantize_per_tensor(x, 0.04, 128, torch.quint8)
            return ops.conv2d(codes_x, packed, work.out_scale, 128).dequantize()

        return call

    def _padded(self, x: Any, work: Convolution) -> tuple[Any, list[int]]:
        """torch pads both ends alike: what is uneven is added beforehand, outside the time."""
        axes = len(work.kernel)
        begin, end = work.padding[:axes], work.padding[axes:]
        if begin == end:
            return x, list(begin)
        ends = [length for pair in zip(begin[::-1], end[::-1], strict=True) for length in pair]
        return self._torch.nn.functional.pad(x, ends), [0] * axes
