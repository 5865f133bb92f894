"""onnxruntime: one small model per operator, weights constant, memory bound beforehand."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from qsdk.bench.peers.base import FLOAT, SAME, Candidate, Peer
from qsdk.bench.timing import Call
from qsdk.bench.works import Convolution, Product, Weights

MICROSOFT = "com.microsoft"
Constants = Mapping[str, NDArray[Any]]


def single(value: float) -> NDArray[np.float32]:
    return np.array(value, np.float32)


class Onnxruntime(Peer):
    name: ClassVar[str] = "onnxruntime"

    def version(self) -> str:
        import onnx  # the models are made with it
        import onnxruntime

        return str(onnxruntime.__version__) if onnx else ""

    def product(self, work: Product) -> Iterable[Candidate]:
        def build() -> Call:
            node = _node("MatMul", ["x", "w"], ["y"])
            constants: Constants = {"w": np.ascontiguousarray(work.w.T)}
            return self._call([node], constants, work.x, work.out_shape)

        yield Candidate("MatMul", FLOAT, build)

    def int8(self, work: Product, output: str) -> Iterable[Candidate]:
        if output == "int32":
            yield Candidate("MatMulInteger", SAME, lambda: self._matmul_integer(work))
            yield Candidate("QLinearMatMul, uint8 out", SAME, lambda: self._qlinear_matmul(work))
        else:
            name = "DynamicQuantizeMatMul"
            yield Candidate(name, SAME, lambda: self._dynamic_quantize_matmul(work))

    def int4(self, work: Product, group_size: int) -> Iterable[Candidate]:
        for level in (4, 1):
            yield Candidate(
                f"MatMulNBits, accuracy {level}",
                SAME,
                lambda level=level: self._matmul_nbits(work, group_size, level),  # type: ignore[misc]
            )

    def convolution(self, work: Convolution) -> Iterable[Candidate]:
        def build() -> Call:
            node = _node("Conv", ["x", "w"], ["y"], **_geometry(work))
            return self._call([node], {"w": work.w}, work.x, work.out_shape)

        yield Candidate("Conv", FLOAT, build)

    def int8_convolution(self, work: Convolution, is_static: bool) -> Iterable[Candidate]:
        if is_static:
            yield Candidate("QLinearConv", SAME, lambda: self._qlinear_conv(work))
        else:
            yield Candidate("ConvInteger", SAME, lambda: self._conv_integer(work))

    def quantize(self, work: Weights, kind: str) -> Iterable[Candidate]:
        def build() -> Call:
            from onnx import TensorProto
            from onnxruntime.quantization.quant_utils import quantize_data

            rows = [weight.reshape(len(weight), -1) for weight in work.arrays]
            return lambda: [quantize_data(weight, TensorProto.INT8, True) for weight in rows]

        yield Candidate("quantize_data, per tensor", kind, build)

    def _matmul_integer(self, work: Product) -> Call:
        constants: Constants = {"w": work.codes_w, "zero_x": np.array(64, np.uint8)}
        node = _node("MatMulInteger", ["x", "w", "zero_x"], ["y"])
        return self._call([node], constants, work.codes_x, work.out_shape, np.int32)

    def _qlinear_matmul(self, work: Product) -> Call:
        constants: Constants = {
            "scale_x": single(0.05),
            "zero_x": np.array(64, np.uint8),
            "w": work.codes_w,
            "scale_w": np.full(work.n, 0.01, np.float32),
            "zero_w": np.zeros(work.n, np.int8),
            "scale_y": single(0.1),
            "zero_y": np.array(128, np.uint8),
        }
        node = _node("QLinearMatMul", ["x", *constants], ["y"])
        return self._call([node], constants, work.codes_x, work.out_shape, np.uint8)

    def _dynamic_quantize_matmul(self, work: Product) -> Call:
        constants: Constants = {"w": work.codes_w, "scale_w": np.full(work.n, 0.01, np.float32)}
        node = _node("DynamicQuantizeMatMul", ["x", *constants], ["y"], domain=MICROSOFT)
        return self._call([node], constants, work.x, work.out_shape)

    def _matmul_nbits(self, work: Product, group_size: int, level: int) -> Call:
        groups = -(-work.k // group_size)
        codes = np.random.default_rng(4).integers(0, 256, (work.n, groups, group_size // 2))
        constants: Constants = {
            "w": codes.astype(np.uint8),
            "scale_w": np.full((work.n, groups), 0.05, np.float32),
        }
        node = _node("MatMulNBits", ["x", *constants], ["y"], domain=MICROSOFT, K=work.k,
                     N=work.n, bits=4, block_size=group_size, accuracy_level=level)  # fmt: skip
        return self._call([node], constants, work.x, work.out_shape)

    def _qlinear_conv(self, work: Convolution) -> Call:
        constants: Constants = {
            "scale_x": single(0.04),
            "zero_x": np.array(128, np.uint8),
            "w": _codes(work),
            "scale_w": np.full(work.out, 0.04, np.float32),
            "zero_w": np.zeros(work.out, np.int8),
            "scale_y": single(work.out_scale),
            "zero_y": np.array(128, np.uint8),
        }
        nodes = [
            _node("QuantizeLinear", ["x", "scale_x", "zero_x"], ["codes_x"]),
            _node("QLinearConv", ["codes_x", *constants], ["codes_y"], **_geometry(work)),
            _node("DequantizeLinear", ["codes_y", "scale_y", "zero_y"], ["y"]),
        ]
        return self._call(nodes, constants, work.x, work.out_shape)

    def _conv_integer(self, work: Convolution) -> Call:
        constants: Constants = {
            "w": _codes(work),
            "scale_w": single(0.04),
            "zero_w": np.array(0, np.int8),
        }
        nodes = [
            _node("DynamicQuantizeLinear", ["x"], ["codes_x", "scale_x", "zero_x"]),
            _node("ConvInteger", ["codes_x", "w", "zero_x", "zero_w"], ["sums"],
                  **_geometry(work)),
            _node("Cast", ["sums"], ["steps"], to=1),
            _node("Mul", ["scale_x", "scale_w"], ["scale"]),
            _node("Mul", ["steps", "scale"], ["y"]),
        ]  # fmt: skip
        return self._call(nodes, constants, work.x, work.out_shape)

    def _call(
        self,
        nodes: Sequence[Any],
        constants: Constants,
        x: NDArray[Any],
        shape: tuple[int, ...],
        dtype: type[Any] = np.float32,
    ) -> Call:
        """A session of the nodes, from ``x`` to ``y``."""
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = self.threads
        options.inter_op_num_threads = 1
        options.log_severity_level = 3
        session = onnxruntime.InferenceSession(
            _model(nodes, constants, x, shape, dtype), options, providers=["CPUExecutionProvider"]
        )
        value = onnxruntime.OrtValue.ortvalue_from_numpy(x)
        binding = session.io_binding()
        binding.bind_ortvalue_input("x", value)
        binding.bind_ortvalue_output(
            "y", onnxruntime.OrtValue.ortvalue_from_shape_and_type(shape, dtype, "cpu")
        )
        keep = (value, x)
        return lambda: session.run_with_iobinding(binding) if keep else None


def _node(*words: Any, **attributes: Any) -> Any:
    import onnx

    return onnx.helper.make_node(*words, **attributes)


def _model(
    nodes: Sequence[Any],
    constants: Constants,
    x: NDArray[Any],
    shape: tuple[int, ...],
    dtype: type[Any],
) -> bytes:
    from onnx import helper, numpy_helper

    def value(name: str, of: np.dtype[Any], lengths: tuple[int, ...]) -> Any:
        return helper.make_tensor_value_info(name, helper.np_dtype_to_tensor_dtype(of), lengths)

    graph = helper.make_graph(
        nodes,
        "case",
        [value("x", x.dtype, x.shape)],
        [value("y", np.dtype(dtype), shape)],
        [numpy_helper.from_array(array, name) for name, array in constants.items()],
    )
    opsets = [helper.make_opsetid("", 17), helper.make_opsetid(MICROSOFT, 1)]
    model = helper.make_model(graph, opset_imports=opsets, ir_version=8)
    return bytes(model.SerializeToString())


def _codes(work: Convolution) -> NDArray[np.int8]:
    codes: NDArray[np.int8] = np.clip(np.rint(work.w / single(0.04)), -127, 127).astype(np.int8)
    return codes


def _geometry(work: Convolution) -> dict[str, Any]:
    return {
        "kernel_shape": work.kernel,
        "strides": work.stride,
        "pads": work.padding,
        "dilations": work.dilation,
        "group": work.groups,
    }
