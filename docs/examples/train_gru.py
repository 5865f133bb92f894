"""Train a small GRU to predict text character by character, in plain numpy.

    OPENBLAS_NUM_THREADS=1 python docs/examples/train_gru.py FOLDER [--text FILE] [--epochs 20]

Without ``--text`` it learns the Python language reference, in the form that ships with Python
itself: the module ``pydoc_data.topics``, from which ``help("yield")`` prints. Written into FOLDER:

    gru.safetensors   what was learnt, as float16, 347 kB
    held_out.txt      every tenth passage of the text; the network never saw it

With ``p = embedding[previous character]`` the state ``h`` moves as ONNX's GRU does, gates in the
order z, r, h and with linear_before_reset = 1:

    z = sigmoid(Wz p + Rz h + bz)                r = sigmoid(Wr p + Rr h + br)
    n = tanh(Wh p + Wbh + r * (Rh h + Rbh))      h' = (1 - z) * n + z * h
    scores of the next character = projection h' + bias

The other form, linear_before_reset = 0, multiplies ``Rh`` with ``r * h``. Here all three recurrent
products are of the same ``h``: one matrix product in a step, and for a quantized layer one vector
to code instead of two. PyTorch and cuDNN compute it this way too.

Sources: Cho et al. 2014, arXiv:1406.1078 (the cell); Kingma and Ba 2015, arXiv:1412.6980 (Adam);
Pascanu et al. 2013, arXiv:1211.5063 (clipping the gradient's norm).
"""

import argparse
import lzma
from pathlib import Path

import numpy as np
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn
from safetensors.numpy import save_file

VOCABULARY = "\n" + "".join(map(chr, range(32, 127)))  # the id of a character is its place
EMBEDDING, HIDDEN = 64, 192
STREAMS, STEPS = 64, 64  # texts read side by side; steps through which the gradient goes back
LEARNING_RATE, CLIP = 3e-3, 1.0
DROPOUT = 0.1  # share of the outputs of a step that the projection does not see
PASSAGE = 2000  # characters, about


def python_reference():
    """The text of ``help()``'s topics, each paragraph once: some topics contain others."""
    from pydoc_data.topics import topics

    paragraphs = {}
    for topic in sorted(topics):
        for paragraph in topics[topic].split("\n\n"):
            paragraphs.setdefault(" ".join(paragraph.split()), paragraph.strip("\n"))
    return "\n\n".join(paragraphs.values())


def read_text(path):
    data = path.read_bytes()
    return (lzma.decompress(data) if path.suffix == ".xz" else data).decode()


def plain(text):
    """``text`` in the characters of the vocabulary, others as the nearest or as ``?``."""
    text = text.translate(str.maketrans("‘’“”–—\t", "''\"\"-- "))
    return "".join(character if character in VOCABULARY else "?" for character in text)


def split(text):
    """(what to learn, what to hold out): every tenth passage, cut at the end of a paragraph."""
    end = "\n\n" if "\n\n" in text else "\n"
    passages = [""]
    for piece in text.split(end):
        if len(passages[-1]) > PASSAGE:
            passages.append("")
        passages[-1] += piece + end
    held_out = passages[9::10]
    del passages[9::10]
    return "".join(passages), "".join(held_out)


def to_ids(text):
    places = np.zeros(128, np.int64)
    places[[ord(character) for character in VOCABULARY]] = np.arange(len(VOCABULARY))
    return places[np.frombuffer(text.encode("ascii"), np.uint8)]


def side_by_side(ids, streams):
    """``ids`` cut into ``streams`` texts of one length: (length, streams)."""
    return ids[: len(ids) // streams * streams].reshape(streams, -1).T


def sigmoid(x):
    return 1 / (1 + np.exp(-x))


def initial(rng, hidden=HIDDEN, embedding=EMBEDDING):
    """W (3 hidden, embedding), R (3 hidden, hidden) and B (6 hidden): one direction of ONNX's."""
    symbols = len(VOCABULARY)

    def uniform(rows, columns, bound):
        return rng.uniform(-bound, bound, (rows, columns)).astype(np.float32)

    # orthogonal blocks neither blow up nor shrink the state on its way through time
    blocks = [np.linalg.qr(rng.standard_normal((hidden, hidden)))[0] for _ in range(3)]
    return {
        "embedding": uniform(symbols, embedding, 1),
        "W": uniform(3 * hidden, embedding, embedding**-0.5),
        "R": np.concatenate(blocks).astype(np.float32),
        "B": np.zeros(6 * hidden, np.float32),
        "projection": uniform(symbols, hidden, hidden**-0.5),
        "bias": np.zeros(symbols, np.float32),
    }


def forward(net, ids, h):
    """The states after each character, (steps, streams, hidden), and what the way back needs.

    ids : (steps, streams)
    h : (streams, hidden), the state before the first
    """
    hidden = h.shape[1]
    from_input = net["embedding"][ids] @ net["W"].T + net["B"][: 3 * hidden]
    recurrent, bias = np.ascontiguousarray(net["R"].T), net["B"][3 * hidden :]
    states = np.empty((len(ids) + 1, *h.shape), h.dtype)
    gates = np.empty_like(from_input)  # z, r, n
    candidates = np.empty((len(ids), *h.shape), h.dtype)  # Rh h + Rbh
    states[0] = h
    for step, given in enumerate(from_input):
        product = states[step] @ recurrent + bias
        gates[step, :, : 2 * hidden] = sigmoid((given + product)[:, : 2 * hidden])
        z, r = gates[step, :, :hidden], gates[step, :, hidden : 2 * hidden]
        candidates[step] = product[:, 2 * hidden :]
        n = gates[step, :, 2 * hidden :] = np.tanh(given[:, 2 * hidden :] + r * candidates[step])
        states[step + 1] = n + z * (states[step] - n)
    return states[1:], (states, gates, candidates)


def nats(scores, targets):
    """Minus the log-likelihood of each target, and the gradient of their sum to the scores."""
    scores = scores - scores.max(axis=-1, keepdims=True)
    gradient = np.exp(scores)
    total = gradient.sum(axis=-1, keepdims=True)
    gradient /= total
    places = (*np.indices(targets.shape, sparse=True), targets)
    gradient[places] -= 1
    return np.log(total[..., 0]) - scores[places], gradient


def loss_and_gradients(net, ids, targets, h, keep=1.0):
    """(mean loss in nats, gradients by name, the last state); ``keep`` scales what is dropped out.

    keep : 1, or an array that broadcasts to the states, mostly ``1 / (1 - DROPOUT)``, some 0
    """
    hidden, count = h.shape[1], ids.size
    outputs, (states, gates, candidates) = forward(net, ids, h)
    seen = outputs * keep
    loss, d_scores = nats(seen @ net["projection"].T + net["bias"], targets)
    d_scores /= count
    d_seen = d_scores @ net["projection"] * keep

    d_input = np.empty_like(gates)  # to what W makes, and by columns of z, r, n
    d_recurrent = np.empty_like(gates)  # to what R makes
    d_h = np.zeros_like(h)
    for step in reversed(range(len(ids))):
        d_h += d_seen[step]
        z, r, n = np.split(gates[step], 3, axis=1)
        d_n = d_h * (1 - z) * (1 - n * n)
        d_input[step, :, :hidden] = d_h * (states[step] - n) * z * (1 - z)
        d_input[step, :, hidden : 2 * hidden] = d_n * candidates[step] * r * (1 - r)
        d_input[step, :, 2 * hidden :] = d_n
        d_recurrent[step] = d_input[step]
        d_recurrent[step, :, 2 * hidden :] *= r
        d_h = d_h * z + d_recurrent[step] @ net["R"]

    def rows(array):
        return array.reshape(count, -1)

    d_embedding = np.zeros_like(net["embedding"])
    np.add.at(d_embedding, ids.ravel(), rows(d_input) @ net["W"])
    gradients = {
        "embedding": d_embedding,
        "W": rows(d_input).T @ rows(net["embedding"][ids]),
        "R": rows(d_recurrent).T @ rows(states[:-1]),
        "B": np.concatenate([rows(d_input).sum(axis=0), rows(d_recurrent).sum(axis=0)]),
        "projection": rows(d_scores).T @ rows(seen),
        "bias": rows(d_scores).sum(axis=0),
    }
    return loss.mean(), gradients, outputs[-1]


class Adam:
    """Steps of a size that does not depend on the gradient's, averaged; in place."""

    def __init__(self, net):
        self.net, self.count = net, 0
        self.mean = {name: np.zeros_like(array) for name, array in net.items()}
        self.square = {name: np.zeros_like(array) for name, array in net.items()}

    def step(self, gradients, rate):
        norm = np.sqrt(sum(float(np.square(g).sum()) for g in gradients.values()))
        shrink = min(1.0, CLIP / (norm + 1e-12))
        self.count += 1
        rate *= np.sqrt(1 - 0.99**self.count) / (1 - 0.9**self.count)
        for name, gradient in gradients.items():
            mean, square = self.mean[name], self.square[name]
            mean += 0.1 * (shrink * gradient - mean)
            square += 0.01 * (np.square(shrink * gradient) - square)
            self.net[name] -= np.float32(rate) * mean / (np.sqrt(square) + 1e-8)


def windows(ids, epochs, rng):
    """Pieces of STREAMS texts, (STEPS + 1, STREAMS), and whether the texts begin with it."""
    for _ in range(epochs):
        text = side_by_side(np.roll(ids, -int(rng.integers(len(ids)))), STREAMS)
        for first in range(0, len(text) - STEPS, STEPS):
            yield text[first : first + STEPS + 1], first == 0


def train(net, ids, epochs, rng):
    """Read the text ``epochs`` times, from another place each time; gives the number of steps."""
    total = len(list(windows(ids, epochs, np.random.default_rng(0))))
    optimizer, smooth = Adam(net), np.log(len(VOCABULARY))
    h = start = np.zeros((STREAMS, net["R"].shape[1]), np.float32)
    columns = TextColumn("training"), BarColumn(), TimeRemainingColumn()
    shown = TextColumn("{task.description}")
    with Progress(*columns, shown, console=Console(stderr=True), transient=True) as progress:
        task = progress.add_task("", total=total)
        for step, (window, begins) in enumerate(windows(ids, epochs, rng)):
            seen = rng.random((STEPS, *start.shape), np.float32) >= DROPOUT
            keep = seen / np.float32(1 - DROPOUT)
            h = start if begins else h
            loss, gradients, h = loss_and_gradients(net, window[:-1], window[1:], h, keep)
            # half a wave of a cosine, from the full rate down to 0
            optimizer.step(gradients, LEARNING_RATE * (1 + np.cos(np.pi * step / total)) / 2)
            smooth += 0.02 * (loss - smooth)
            words = f"{smooth / np.log(2):.3f} bits per character"
            progress.update(task, completed=step, description=words)
    return total


def evaluate(net, ids, streams=64):
    """Bits per character, read as ``streams`` texts that each start with a state of zeros."""
    text = side_by_side(ids, streams)
    h = np.zeros((streams, net["R"].shape[1]), np.float32)
    outputs, _ = forward(net, text[:-1], h)
    return nats(outputs @ net["projection"].T + net["bias"], text[1:])[0].mean() / np.log(2)


def unigram(ids, held_out):
    """Bits per character of who knows only how frequent each one is."""
    counts = np.bincount(ids, minlength=len(VOCABULARY)) + 1
    return -np.log2(counts / counts.sum())[held_out].mean()


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path, help="where the two files go")
    parser.add_argument("--text", type=Path, help="a text file, or one packed as .xz")
    parser.add_argument("--epochs", type=int, default=20)
    parser.add_argument("--hidden", type=int, default=HIDDEN)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()

    text = read_text(options.text) if options.text else python_reference()
    learnt, held_out = split(plain(text))
    if not held_out:
        parser.error(f"the text has {len(text)} characters; give one of {20 * PASSAGE} or more")
    ids, held_out_ids = to_ids(learnt), to_ids(held_out)
    rng = np.random.default_rng(options.seed)
    net = initial(rng, options.hidden)
    steps = train(net, ids, options.epochs, rng)

    stored = {name: array.astype(np.float16) for name, array in net.items()}
    kept = {name: array.astype(np.float32) for name, array in stored.items()}
    bits = evaluate(kept, held_out_ids)
    options.folder.mkdir(parents=True, exist_ok=True)
    metadata = {"vocabulary": VOCABULARY, "linear_before_reset": "1"}
    save_file(stored, options.folder / "gru.safetensors", metadata)
    (options.folder / "held_out.txt").write_bytes(held_out.encode())
    print(f"{len(ids):,} characters, {steps:,} steps of {STREAMS} x {STEPS}")
    print(f"held out: {len(held_out_ids):,} characters, {bits:.3f} bits per character;")
    print(f"frequencies alone: {unigram(ids, held_out_ids):.3f}")


if __name__ == "__main__":
    main()
