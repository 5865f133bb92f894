"""Quantizes a word-level LSTM language model and measures what is left: the table of the AQN paper.

usage: python docs/examples/language_model.py DATA [--methods "greedy,aqn"] [--bits 2,3,4]
           [--recurrent-only] [--online] [--text 60] [--json] [--out FILE.md] [--plot FILE.svg]

DATA is a folder with ``ptb_lstm300.safetensors``, ``ptb_vocab.txt`` and ``ptb.test.txt.xz``, laid
out as its README says; it does not come with the project. Nothing is trained again. Every matrix
is quantized row by row; perplexity is that of the test text, cut into ten streams that start
from zeros, over every word but the first of each. Needs the extras ``bench`` and, for the plot,
``report``. A cell of the table takes 20 seconds of one core.

Source: Xu et al., "Alternating Multi-bit Quantization for Recurrent Neural Networks", ICLR 2018,
arXiv:1802.00150, table 1.
"""

from __future__ import annotations

import argparse
import functools
import itertools
import json
import lzma
import os
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor, as_completed
from pathlib import Path
from typing import Any, TypeVar

import attrs
import numpy as np
from numpy.typing import NDArray
from rich.console import Console
from rich.progress import track
from threadpoolctl import threadpool_limits

import qsdk

Floats = NDArray[np.float32]
Words = NDArray[np.int64]
T = TypeVar("T")
Online = dict[tuple[str, int], float]  # perplexity by method and bits

STREAMS = 10
MATRICES = ["W_ih", "W_hh", "embedding", "softmax_W"]
METHODS: dict[str, tuple[str, dict[str, Any]]] = {
    "uniform": ("uniform_multibit", {}),
    "balanced": ("balanced", {"scale": "largest"}),
    "greedy": ("greedy", {}),
    "refined": ("refined", {}),
    "alternating T=2": ("aqn", {"start": "greedy", "cycles": 2}),
    "alternating T=20": ("aqn", {"start": "greedy", "cycles": 20}),
    "aqn": ("aqn", {}),
}
ONLINE = ["alternating T=2", "aqn"]  # of METHODS: for activations as well


@attrs.frozen(kw_only=True)
class LanguageModel:
    """Embedding, one LSTM layer, softmax.

    matrices : W_ih and W_hh (4 * hidden, ...), their gates in the order i, f, g, o; embedding and
        softmax_W (words, hidden)
    bias : of the gates, (4 * hidden,)
    softmax_b : (words,)
    """

    matrices: dict[str, Floats]
    bias: Floats
    softmax_b: Floats

    def hidden_states(self, words: Words) -> Floats:
        """h after each word of ``words`` (steps, streams), from zeros: (steps, streams, hidden)."""
        hidden = self.matrices["W_hh"].shape[1]
        # sigmoid(a) = (1 + tanh(a / 2)) / 2, so that one tanh serves all gates.
        half = np.repeat(np.float32([0.5, 0.5, 1, 0.5]), hidden)
        recurrent = np.ascontiguousarray((self.matrices["W_hh"] * half[:, None]).T)
        of_word = (self.matrices["embedding"] @ self.matrices["W_ih"].T + self.bias) * half
        states = np.zeros((len(words) + 1, words.shape[1], hidden), np.float32)
        c = np.zeros(states.shape[1:], np.float32)
        for t, given in enumerate(words):
            gates = np.tanh(of_word[given] + states[t] @ recurrent)
            i, f, g, o = (gates[:, n * hidden : (n + 1) * hidden] for n in range(4))
            c = (1 + f) / 2 * c + (1 + i) / 2 * g
            states[t + 1] = (1 + o) / 2 * np.tanh(c)
        return states[1:]

    def logits(self, states: Floats) -> Floats:
        """For ``states`` (n, hidden), (n, words)."""
        return states @ self.matrices["softmax_W"].T + self.softmax_b


class CodedModel:
    """The same on kernels: weights, and the input of every product, as sums of signs.

    Words are looked up as codes; the hidden state is coded inside each product.
    """

    def __init__(self, model: LanguageModel, method: qsdk.Quantizer):
        hidden = model.matrices["W_hh"].shape[1]
        i, f, g, o = np.arange(4 * hidden).reshape(4, hidden)
        order = np.concatenate([i, o, f, g])  # ONNX has the cell's gate last
        w, r = (method.quantize(model.matrices[name][order]) for name in MATRICES[:2])
        bias = np.concatenate([model.bias[order], np.zeros(4 * hidden, np.float32)])
        self.words = method.quantize(model.matrices["embedding"]).rows()
        softmax = method.quantize(model.matrices["softmax_W"])
        self.lstm = qsdk.lstm(w, r, bias=bias[None], activations=method, threads=1)
        self.logits = qsdk.linear(softmax, bias=model.softmax_b, activations=method, threads=1)

    def hidden_states(self, words: Words) -> Floats:
        states: Floats = self.lstm(self.words[words]).y[:, 0]
        return states

    def text(self, start: int, length: int, without: int, seed: int = 0) -> list[int]:
        """Numbers of ``length`` words drawn one after the other, none of them ``without``."""
        rng, state, words = np.random.default_rng(seed), self.lstm.state(), [start]
        for _ in range(length):
            h = self.lstm.step(self.words[words[-1:]], state)
            logits = self.logits(h)[0].astype(np.float64) / 0.8  # a little below the model's own
            logits[without] = -np.inf
            chances = np.exp(logits - logits.max())
            words.append(int(rng.choice(len(chances), p=chances / chances.sum())))
        return words[1:]


def load(folder: Path) -> tuple[LanguageModel, list[str], Words]:
    """The model, its words by number, and the test text as numbers."""
    arrays: Any = qsdk.Container(folder / "ptb_lstm300.safetensors")
    vocabulary = (folder / "ptb_vocab.txt").read_text(encoding="utf-8").split()
    number = {word: n for n, word in enumerate(vocabulary)}
    with lzma.open(folder / "ptb.test.txt.xz", "rt", encoding="utf-8") as file:
        text = file.read().replace("\n", " <eos> ").split()
    model = LanguageModel(
        matrices={name: arrays[name] for name in MATRICES},
        bias=arrays["b_ih"] + arrays["b_hh"],
        softmax_b=arrays["softmax_b"],
    )
    return model, vocabulary, np.array([number[word] for word in text])


def perplexity(model: LanguageModel | CodedModel, text: Words, streams: int = STREAMS) -> float:
    """exp of the mean surprise at a word, in nats, given those before it in its stream."""
    steps = len(text) // streams
    words = text[: steps * streams].reshape(streams, steps).T
    states = model.hidden_states(words[:-1])
    states, wanted = states.reshape(-1, states.shape[-1]), words[1:].ravel()
    total, block = 0.0, 500  # rows of logits that stay in a cache
    for start in range(0, len(wanted), block):
        logits, here = model.logits(states[start : start + block]), wanted[start : start + block]
        right = logits[np.arange(len(here)), here]
        top = logits.max(axis=1, keepdims=True)
        logits -= top
        sums = np.exp(logits, out=logits).sum(axis=1)
        total += float((np.log(sums) + top[:, 0] - right).sum(dtype=np.float64))
    with np.errstate(over="ignore"):
        return float(np.exp(total / len(wanted)))


def quantizer_of(method: str, bits: int) -> Any:
    plugin, options = METHODS[method]
    return qsdk.registry.get(f"quantizer:{plugin}", bits=bits, **options)


@attrs.frozen(kw_only=True)
class Cell:
    """What one method does at one width.

    relative_mse : squared errors over squares, of all weights that were quantized
    smaller : bytes of these weights as floats over those as codes
    """

    method: str
    bits: int
    relative_mse: float
    smaller: float
    perplexity: float = np.nan


def quantized(
    model: LanguageModel, method: str, bits: int, names: Iterable[str] = MATRICES
) -> tuple[LanguageModel, Cell]:
    """``model`` with the decoded codes of its matrices ``names``, and what that changed."""
    quantizer = quantizer_of(method, bits)
    matrices = dict(model.matrices)
    noise = signal = floats = stored = 0.0
    for name in names:
        weight = model.matrices[name]
        encoding = quantizer.quantize(weight)
        matrices[name] = encoding.dequantize()
        noise += np.square(matrices[name] - weight, dtype=np.float64).sum()
        signal += np.square(weight, dtype=np.float64).sum()
        floats, stored = floats + weight.nbytes, stored + encoding.nbytes
    cell = Cell(method=method, bits=bits, relative_mse=noise / signal, smaller=floats / stored)
    return attrs.evolve(model, matrices=matrices), cell


def measure(
    model: LanguageModel, text: Words, methods: Iterable[str], bits: Iterable[int], names: list[str]
) -> list[Cell]:
    """All cells of the table of weights."""

    def cell(method: str, width: int) -> Cell:
        changed, found = quantized(model, method, width, names)
        return attrs.evolve(found, perplexity=perplexity(changed, text))

    pairs = itertools.product(methods, bits)
    return side_by_side([functools.partial(cell, *pair) for pair in pairs], "weights")


def measure_online(
    model: LanguageModel, text: Words, methods: Iterable[str], bits: Iterable[int]
) -> Online:
    """Perplexities of weights and activations alike."""

    def coded(method: str, width: int) -> float:
        return perplexity(CodedModel(model, quantizer_of(method, width)), text)

    pairs = [*itertools.product(methods, bits)]
    tasks = [functools.partial(coded, *pair) for pair in pairs]
    return dict(zip(pairs, side_by_side(tasks, "activations"), strict=True))


def side_by_side(tasks: list[Callable[[], T]], what: str) -> list[T]:
    """What the tasks give, one on each core, a bar on standard error meanwhile.

    Products of ten rows are too small to share, so BLAS keeps to one thread in each.
    """
    console = Console(stderr=True)
    with threadpool_limits(1), ThreadPoolExecutor(os.cpu_count()) as pool:
        futures = [pool.submit(task) for task in tasks]
        done = as_completed(futures)
        for _ in track(done, what, total=len(tasks), console=console, transient=True):
            pass
    return [future.result() for future in futures]


def table(cells: list[Cell], what: str, of_float: float) -> str:
    """The paper's form, in Markdown: errors on the left, perplexities on the right."""
    widths = list(dict.fromkeys(cell.bits for cell in cells))

    def row(*columns: Iterable[str]) -> str:
        return "| " + " | ".join(word for column in columns for word in column) + " |\n"

    text = row(
        [what],
        (f"MSE, {b} bits" for b in widths),
        (f"perplexity, {b} bits" for b in widths),
        (f"{b} bits smaller by" for b in widths),
    )
    text += row(["---"], ["---:"] * (3 * len(widths)))
    for method in dict.fromkeys(cell.method for cell in cells):
        of_method = [cell for cell in cells if cell.method == method]
        text += row(
            [method],
            (f"{cell.relative_mse:.3f}" for cell in of_method),
            (_number(cell.perplexity) for cell in of_method),
            (f"{cell.smaller:.1f}" for cell in of_method),
        )
    each = len(widths)
    return text + row(["float"], [""] * each, [f"{of_float:.2f}"] * each, ["1.0"] * each)


def online_table(online: Online, of_float: float) -> str:
    """Markdown, as :func:`table`."""
    methods, widths = (list(dict.fromkeys(words)) for words in zip(*online, strict=True))
    text = f"| bits of weights / activations | {' | '.join(methods)} |\n"
    text += "| --- |" + " ---: |" * len(methods) + "\n"
    for b in widths:
        found = " | ".join(_number(online[method, b]) for method in methods)
        text += f"| {b} / {b} | {found} |\n"
    return text + "| float |" + f" {of_float:.2f} |" * len(methods) + "\n"


def _number(perplexity: float) -> str:
    return f"{perplexity:.2f}" if perplexity < 1e5 else f"{perplexity:.0e}"


def plot(cells: list[Cell], online: Online, of_float: float, file: Path) -> None:
    """Perplexity against bits, a line for each method."""
    import matplotlib

    matplotlib.use("Agg")
    # The same bytes for the same figures, and text as text.
    matplotlib.rcParams.update({"svg.hashsalt": "qsdk", "svg.fonttype": "none"})
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(figsize=(6, 3.6), layout="constrained")
    highest = 1.5 * of_float  # lines may come from beyond
    for method in dict.fromkeys(cell.method for cell in cells):
        shown = [c for c in cells if c.method == method and np.isfinite(c.perplexity)]
        if any(c.perplexity < highest for c in shown):
            points = [(c.bits, c.perplexity) for c in shown]
            axes.plot(*zip(*points, strict=True), marker="o", label=method)
    if online:
        points = [(b, found) for (method, b), found in online.items() if method == ONLINE[-1]]
        axes.plot(*zip(*points, strict=True), "s--", label=f"{ONLINE[-1]}, activations too")
    axes.axhline(of_float, color="black", linestyle=":", label="float")
    axes.set(xlabel="bits", ylabel="test perplexity", ylim=(of_float - 2, highest))
    axes.set_xticks(sorted({cell.bits for cell in cells}))
    axes.legend()
    figure.savefig(file, metadata={"Date": None} if file.suffix == ".svg" else None)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("data", type=Path)
    parser.add_argument("--methods", help=f"of {', '.join(METHODS)}; separated by commas")
    parser.add_argument("--bits", default="2,3,4")
    parser.add_argument("--recurrent-only", action="store_true", help="W_ih and W_hh, no others")
    parser.add_argument("--online", action="store_true", help="activations as well, on kernels")
    parser.add_argument("--text", type=int, default=0, help="words to write with 2-bit codes")
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--out", type=Path, help="where the tables go as well, as Markdown")
    parser.add_argument("--plot", type=Path)
    given = parser.parse_args()
    methods = [m.strip() for m in given.methods.split(",")] if given.methods else [*METHODS]
    unknown = [method for method in methods if method not in METHODS]
    if unknown:
        parser.error(f"no method {unknown[0]!r}; there are {', '.join(METHODS)}")
    bits = [int(width) for width in given.bits.split(",")]
    run(given, methods, bits)


def run(given: argparse.Namespace, methods: list[str], bits: list[int]) -> None:
    model, vocabulary, text = load(given.data)
    names = MATRICES[:2] if given.recurrent_only else MATRICES
    (of_float,) = side_by_side([lambda: perplexity(model, text)], "float")
    cells = measure(model, text, methods, bits, names)
    online = measure_online(model, text, ONLINE, bits) if given.online else {}
    written = write(model, vocabulary, given.text) if given.text else ""
    page = table(cells, ", ".join(names), of_float)
    if online:
        page += "\n" + online_table(online, of_float)
    if written:
        page += (
            f"\nWritten with 2 bits for each weight and activation:\n\n```text\n{written}\n```\n"
        )
    if given.plot:
        plot(cells, online, of_float, given.plot)
    if given.out:
        with qsdk.write_atomic(given.out) as file:
            file.write(page.encode())
    if given.json:
        rows = [attrs.asdict(cell) for cell in cells]
        coded = [{"method": m, "bits": b, "perplexity": p} for (m, b), p in online.items()]
        document = {"float": of_float, "weights": rows, "online": coded, "text": written}
        print(json.dumps(document, indent=2))
    else:
        print(page)


def write(model: LanguageModel, vocabulary: list[str], length: int) -> str:
    """A text of the 2-bit model, a sentence a line."""
    eos, unknown = vocabulary.index("<eos>"), vocabulary.index("<unk>")
    numbers = CodedModel(model, quantizer_of(ONLINE[-1], 2)).text(eos, length, without=unknown)
    lines = " ".join(vocabulary[n] for n in numbers).split("<eos>")
    return "\n".join(line.strip() for line in lines).strip()


if __name__ == "__main__":
    main()
