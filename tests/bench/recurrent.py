"""One step of an LSTM at batch 1, everything included, against float cells.

    python tests/bench/recurrent.py [--hidden 1024] [--bits 2 3] [--outputs 42000] [--rounds 30]
                                    [--threads 1] [--kernel NAME] [--json] [--plot FILE.svg]

Weights and activations have as many bits. Beside ``layer.step``: a sequence of 32 per step; the
same cell with float32 products of numpy's BLAS and of MKL, gates in numpy; onnxruntime's LSTM node
on one step and, per step, on 32. Then the output layer alone. The best of interleaved rounds, and
how many times as long as the step of 2 bits the others take. Parts say where its time goes. The
plot has, for each width, how many times as fast as the float cells a step and the output are.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable
from typing import Any

import attrs

from qsdk.bench.threads import limited_to

STEPS = 32


@attrs.frozen
class Line:
    """A call, and how many steps it makes."""

    call: Callable[[], object]
    steps: int = 1


def quantized(shape: tuple[int, int], bits: int) -> Any:
    import numpy as np

    import qsdk

    weight = np.random.default_rng(0).standard_normal(shape, np.float32) / shape[1] ** 0.5
    return qsdk.registry.get("greedy", bits=bits).quantize(weight)


def ours(hidden: int, bits: int, options: dict[str, Any]) -> dict[str, Line]:
    import numpy as np

    import qsdk

    rng = np.random.default_rng(1)
    w = quantized((4 * hidden, hidden), bits)
    form, bias = f"binary{bits}", np.zeros((1, 8 * hidden), np.float32)
    layer = qsdk.lstm(w, w, bias=bias, activations=form, **options)
    state, x = layer.state(), rng.standard_normal((STEPS, 1, hidden), np.float32)
    one, y = x[0], np.empty((STEPS, 1, 1, hidden), np.float32)
    codes = quantized((1, hidden), bits).rows() if bits <= 4 else None
    product, result = qsdk.linear(w, activations=form, **options), np.empty((1, 4 * hidden), "f4")
    name = f"W{bits}A{bits}"
    return {
        f"{name} step": Line(lambda: layer.step(one, state)),
        f"{name} step, x in codes": Line(lambda: layer.step(codes, state)),
        f"{name} sequence of {STEPS}": Line(lambda: layer(x, out=y), STEPS),
        f"{name} part: one product": Line(lambda: product(one, out=result)),
    }


def gates_alone(hidden: int) -> dict[str, Line]:
    """The gates of ours, one step."""
    import numpy as np

    from qsdk import native
    from qsdk.recurrent.native_run import instruction_set

    from_buffer = native.library().ffi.from_buffer
    arrays = [np.zeros(count * hidden, np.float32) for count in (4, 4, 1, 1)]
    inputs, products, h, c = (from_buffer("float[]", array) for array in arrays)
    function = instruction_set().lstm
    return {"part: gates": Line(lambda: (function(inputs, products, hidden, 1e9, h, c), arrays))}


class FloatCell:
    """The step that one writes in numpy."""

    def __init__(self, hidden: int, multiply: Callable[[int], Any]):
        import numpy as np

        self.numpy, self.multiply = np, multiply
        self.h = np.zeros((1, hidden), np.float32)
        self.c = np.zeros((1, hidden), np.float32)

    def step(self) -> None:
        np = self.numpy
        gates = self.multiply(0) + self.multiply(1)
        i, o, f, g = np.split(gates, 4, axis=1)
        one = np.float32(1)
        self.c = self.c / (one + np.exp(-f)) + np.tanh(g) / (one + np.exp(-i))
        self.h = np.tanh(self.c) / (one + np.exp(-o))


def numpy_cell(hidden: int) -> dict[str, Line]:
    import numpy as np

    rng = np.random.default_rng(0)
    scale = np.float32(hidden**-0.5)
    weights = [rng.standard_normal((4 * hidden, hidden), np.float32) * scale for _ in range(2)]
    x = rng.standard_normal((1, hidden), np.float32)
    cell = FloatCell(hidden, lambda n: (x, cell.h)[n] @ weights[n].T)
    return {"numpy step": Line(cell.step)}


def mkl_cell(hidden: int, threads: int) -> dict[str, Line]:
    """Empty where MKL is not installed."""
    import numpy as np

    from qsdk.bench.peers.mkl import Mkl
    from qsdk.bench.works import Product

    peer = Mkl(threads)
    try:
        peer.version()
    except OSError:
        return {}
    works = [Product(1, 4 * hidden, hidden) for _ in range(2)]
    found = [next(c for c in peer.product(w) if c.name == "sgemv").build() for w in works]
    result = np.zeros((1, 4 * hidden), np.float32)  # what MKL writes is its own; as large

    def multiply(number: int) -> Any:
        found[number]()
        return result

    return {"MKL step": Line(FloatCell(hidden, multiply).step)}


def onnxruntime_cell(hidden: int, threads: int) -> dict[str, Line]:
    import numpy as np
    import onnxruntime
    from onnx import TensorProto, helper, numpy_helper

    rng = np.random.default_rng(0)
    scale = np.float32(hidden**-0.5)
    weights = [rng.standard_normal((1, 4 * hidden, hidden), np.float32) * scale for _ in range(2)]
    names = ["X", "W", "R", "", "", "h", "c"]
    node = helper.make_node("LSTM", names, ["Y", "Y_h", "Y_c"], hidden_size=hidden)

    def value(name: str, shape: list[Any]) -> Any:
        return helper.make_tensor_value_info(name, TensorProto.FLOAT, shape)

    states = [value(name, [1, 1, hidden]) for name in ("h", "c", "Y_h", "Y_c")]
    graph = helper.make_graph(
        [node], "lstm", [value("X", ["seq", 1, hidden]), *states[:2]],
        [value("Y", ["seq", 1, 1, hidden]), *states[2:]],
        [numpy_helper.from_array(w, n) for w, n in zip(weights, "WR", strict=True)],
    )  # fmt: skip
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    session = onnxruntime.InferenceSession(model.SerializeToString(), options)
    state = np.zeros((1, 1, hidden), np.float32)
    feeds = {
        steps: {"X": rng.standard_normal((steps, 1, hidden), np.float32), "h": state, "c": state}
        for steps in (1, STEPS)
    }
    return {
        "onnxruntime step": Line(lambda: session.run(None, feeds[1])),
        f"onnxruntime sequence of {STEPS}": Line(lambda: session.run(None, feeds[STEPS]), STEPS),
    }


def output_layer(hidden: int, outputs: int, bits: list[int], options: Any) -> dict[str, Line]:
    import numpy as np

    import qsdk
    from qsdk.bench.works import normal

    weight, x = normal((outputs, hidden)), normal((1, hidden), 1)
    y = np.empty((1, outputs), np.float32)
    lines = {"numpy output": Line(lambda: np.matmul(x, weight.T, out=y))}
    for b in bits:
        layer = qsdk.linear(quantized((outputs, hidden), b), activations=f"binary{b}", **options)
        lines[f"W{b}A{b} output"] = Line(lambda layer=layer: layer(x, out=y))
    return lines


def plot(figures: dict[str, float], widths: list[int], file: str) -> None:
    """How many times faster than float a step and the output layer are, against bits."""
    import matplotlib

    matplotlib.use("Agg")
    matplotlib.rcParams.update({"svg.hashsalt": "qsdk", "svg.fonttype": "none"})
    from matplotlib import pyplot

    pairs = [(name, "step") for name in figures if name.endswith(" step") and name[0] != "W"]
    pairs += [("numpy output", "output")]
    figure, axes = pyplot.subplots(figsize=(6, 3.6), layout="constrained")
    for peer, part in pairs:
        faster = [figures[peer] / figures[f"W{b}A{b} {part}"] for b in widths]
        axes.plot(widths, faster, marker="o", label=f"{part}: {peer.split()[0]}")
    axes.axhline(1, color="black", linestyle=":", label="float")
    axes.set(xlabel="bits of weights and activations", ylabel="times faster than", ylim=0)
    axes.set_xticks(widths)
    axes.legend()
    figure.savefig(file, metadata={"Date": None} if file.endswith(".svg") else None)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--hidden", type=int, default=1024)
    parser.add_argument("--bits", type=int, nargs="+", default=[2, 3])
    parser.add_argument("--outputs", type=int, default=42_000)
    parser.add_argument("--rounds", type=int, default=30)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--kernel")
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--plot")
    words = parser.parse_args()
    with limited_to(words.threads):
        from qsdk.bench.timing import interleave

        options = {"kernel": words.kernel, "threads": words.threads}
        lines: dict[str, Line] = {}
        for bits in words.bits:
            lines |= ours(words.hidden, bits, options)
        lines |= gates_alone(words.hidden) | numpy_cell(words.hidden)
        lines |= mkl_cell(words.hidden, words.threads)
        lines |= onnxruntime_cell(words.hidden, words.threads)
        lines |= output_layer(words.hidden, words.outputs, words.bits, options)
        found = interleave({name: line.call for name, line in lines.items()}, words.rounds)
    figures = {name: timing.best_ns / 1e3 / lines[name].steps for name, timing in found.items()}
    if words.plot:
        plot(figures, words.bits, words.plot)
    if words.json:
        print(json.dumps(figures))
        return 0
    for name, microseconds in figures.items():
        base = f"W{words.bits[0]}A{words.bits[0]} {'output' if 'output' in name else 'step'}"
        print(f"{name:32} {microseconds:10.1f} us {microseconds / figures[base]:8.2f} x")
    return 0


if __name__ == "__main__":
    sys.exit(main())
