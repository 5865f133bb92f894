"""``qsdk.conv`` on sign planes against onnxruntime's float convolution, as ratios.

    python tests/bench/conv_binary.py [--channels 64 128 256] [--size 28] [--bits 1 2]
                                      [--batches 1] [--seconds 0.5] [--threads 1] [--kernel NAME]

Kernels of 3x3 with a padding of 1, as many channels out as in. With N bits weights and images have
N planes each; images are coded inside the call. Times are the best of interleaved rounds.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
import onnxruntime
from conv import best_of_rounds
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

import qsdk


def theirs(weight: NDArray[Any], threads: int) -> Callable[[Any], NDArray[Any]]:
    node = helper.make_node("Conv", ["x", "w"], ["y"], pads=[1] * 4)
    graph = helper.make_graph(
        [node],
        "layer",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [None] * 4)],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, None)],
        [numpy_helper.from_array(weight, "w")],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8)
    settings = onnxruntime.SessionOptions()
    settings.intra_op_num_threads = threads
    session = onnxruntime.InferenceSession(
        model.SerializeToString(), settings, providers=["CPUExecutionProvider"]
    )
    return lambda x: session.run(None, {"x": x})[0]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--channels", nargs="+", type=int, default=[64, 128, 256])
    parser.add_argument("--size", type=int, default=28)
    parser.add_argument("--bits", nargs="+", type=int, default=[1, 2])
    parser.add_argument("--batches", nargs="+", type=int, default=[1])
    parser.add_argument("--seconds", type=float, default=0.5)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--kernel")
    options = parser.parse_args()
    print(f"{'channels':>8} {'batch':>5} {'bits':>4} {'qsdk us':>9} {'onnxruntime us':>14} ratio")
    for channels in options.channels:
        weight = np.random.default_rng(0).standard_normal((channels, channels, 3, 3), np.float32)
        other = theirs(weight, options.threads)
        for batch in options.batches:
            shape = (batch, channels, options.size, options.size)
            x = np.random.default_rng(1).standard_normal(shape, np.float32)
            for bits in options.bits:
                encoding = qsdk.registry.get("greedy", bits=bits).quantize(weight)
                mine = qsdk.conv(
                    encoding, padding=1, activations=f"binary{bits}", kernel=options.kernel,
                    threads=options.threads,
                )  # fmt: skip
                fast, slow = best_of_rounds([partial(mine, x), partial(other, x)], options.seconds)
                print(
                    f"{channels:8} {batch:5} {bits:4} {fast:9.1f} {slow:14.1f} {slow / fast:5.2f}",
                    flush=True,
                )


if __name__ == "__main__":
    main()
