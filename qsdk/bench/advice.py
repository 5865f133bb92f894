"""What each layer of a model would gain on this CPU: float beside what qsdk can do, measured.

Times depend on shapes only, so a layer's weight is never read, and layers of one shape are
measured once.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import attrs

from qsdk.bench.cases import BINARY2, CONV_DYNAMIC, CONV_STATIC, INT8, UNIT_SCALE, Form, int4
from qsdk.bench.ours import ours
from qsdk.bench.peers import SAME, Candidate, Peer
from qsdk.bench.run import OURS, Calls, Subject, build, timed
from qsdk.bench.works import Convolution, Product
from qsdk.errors import QsdkError
from qsdk.interfaces import Layer, Model

GAIN = 1.05  # what is less is not worth the bits

# name of a way -> the form for products, and for convolutions
WAYS: Mapping[str, tuple[Form, Form]] = {
    "int8": (INT8, CONV_DYNAMIC),
    "int8 fixed": (attrs.evolve(INT8, activations=UNIT_SCALE), CONV_STATIC),
    "int4 g32": (int4(32), attrs.evolve(int4(32), operation="conv-int4")),
    "binary2": (BINARY2, attrs.evolve(BINARY2, operation="conv-binary")),
}


@attrs.frozen(kw_only=True)
class Measured:
    """The ways of one shape.

    floats : the fastest float library; None where none has this operation
    ways, nbytes : by the names of WAYS; missing : why the others are not there
    """

    floats: Subject | None
    ways: Mapping[str, Subject]
    nbytes: Mapping[str, int]
    missing: Mapping[str, str]

    @property
    def best(self) -> str | None:
        """The fastest way, whether or not it gains anything."""
        return min(self.ways, key=lambda name: self.ways[name].timing.best_ns, default=None)

    def gain(self, way: str | None) -> float | None:
        """How many times faster than float."""
        if self.floats is None or way is None:
            return None
        return self.floats.timing.best_ns / self.ways[way].timing.best_ns

    @property
    def advised(self) -> str | None:
        """The fastest way if it gains something; None: stay with float."""
        gain = self.gain(self.best)
        return self.best if gain is not None and gain >= GAIN else None


@attrs.frozen(kw_only=True)
class Advice:
    """For one layer. work, measured : None where no kernel is for it, for the ``reason``."""

    layer: Layer
    work: Product | Convolution | None = None
    measured: Measured | None = None
    reason: str = ""

    @property
    def float_bytes(self) -> int:
        return 4 * math.prod(self.layer.shape)

    def verdict(self) -> str:
        if self.measured is None:
            return self.reason
        best, gain = self.measured.best, self.measured.gain(self.measured.best)
        if best is None:
            return "stay with float32: no kernel here for its codes"
        if gain is None:
            return f"{best} is the fastest; no float library to compare with"
        if self.measured.advised is None:
            return f"stay with float32: {best} is {gain:.2g} times as fast"
        smaller = self.float_bytes / max(self.measured.nbytes[best], 1)
        return f"{best}: {gain:.2g} times as fast, {smaller:.1f} times smaller"

    def to_dict(self) -> dict[str, Any]:
        found = {
            "name": self.layer.name,
            "operation": self.layer.operation,
            "shape": self.layer.shape,
            "work": str(self.work) if self.work else None,
            "advice": self.verdict(),
            "float_bytes": self.float_bytes,
        }
        if (measured := self.measured) is None:
            return {**found, "advised": None}
        return {
            **found,
            "advised": measured.advised,
            "gain": measured.gain(measured.best),
            "float": measured.floats.to_dict() if measured.floats else None,
            "ways": {
                name: {
                    **way.to_dict(),
                    "gain": measured.gain(name),
                    "nbytes": measured.nbytes[name],
                }
                for name, way in measured.ways.items()
            },
            "missing": measured.missing,
        }


def advise_layers(
    model: Model,
    feeds: Mapping[str, Any],
    peers: Sequence[Peer],
    rounds: int,
    threads: int,
    progress: Callable[[int, int, str], None] = lambda done, total, name: None,
) -> list[Advice]:
    """Run ``model`` once on ``feeds`` for its shapes, then measure each shape.

    peers : whose float products and convolutions to compare with
    """
    tensors = [layer.attributes["output"] for layer in model.layers]
    shapes = {name: array.shape for name, array in model.run(feeds, tensors).items()}
    seen: dict[Product | Convolution, Measured] = {}
    advice = []
    for done, layer in enumerate(model.layers):
        progress(done, len(model.layers), layer.name)
        work = work_of(layer, shapes[layer.attributes["output"]])
        if work is None:
            reason = f"no kernel for {layer.operation}"
            advice.append(Advice(layer=layer, reason=reason))
            continue
        if work not in seen:
            seen[work] = measure(attrs.evolve(work), peers, rounds, threads)
        advice.append(Advice(layer=layer, work=work, measured=seen[work]))
    return advice


def measure(
    work: Product | Convolution, peers: Sequence[Peer], rounds: int, threads: int
) -> Measured:
    """Float libraries and all ways of qsdk, in the same rounds."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # those of the libraries
        floats, _ = build((peer.name, _float_candidates(peer, work)) for peer in peers)
        names: dict[tuple[str, str, str], str] = {}
        calls: Calls = {}
        nbytes, missing = {}, {}
        for name, forms in WAYS.items():
            try:
                mine = ours(forms[isinstance(work, Convolution)], work, threads)
                mine.call()
            except QsdkError as error:
                missing[name] = str(error)
                continue
            key = (OURS, f"{name}: {mine.name}", SAME)
            names[key], calls[key], nbytes[name] = name, mine.call, mine.nbytes
        subjects = timed({**floats, **calls}, rounds, threads)
    libraries = [subject for subject in subjects if subject.library != OURS]
    return Measured(
        floats=min(libraries, key=lambda subject: subject.timing.best_ns, default=None),
        ways={
            names[subject.library, subject.name, subject.kind]: subject
            for subject in subjects
            if subject.library == OURS
        },
        nbytes=nbytes,
        missing=missing,
    )


def _float_candidates(peer: Peer, work: Product | Convolution) -> Iterable[Candidate]:
    return peer.product(work) if isinstance(work, Product) else peer.convolution(work)


def work_of(layer: Layer, out_shape: tuple[int, ...]) -> Product | Convolution | None:
    """What a layer computes when its result has this shape; None for other operations."""
    if layer.operation in ("MatMul", "Gemm"):
        rows = math.prod(out_shape) // layer.shape[0]
        return Product(max(rows, 1), *layer.shape)
    if layer.operation == "Conv" and len(layer.shape) in (3, 4):
        return _convolution(layer, out_shape)
    return None


def _convolution(layer: Layer, out_shape: tuple[int, ...]) -> Convolution:
    """With the shortest input that gives this result; what a stride leaves over takes no time."""
    words, kernel = layer.attributes, layer.shape[2:]
    axes = len(kernel)
    stride = tuple(words.get("strides", (1,) * axes))
    dilation = tuple(words.get("dilations", (1,) * axes))
    reach = [d * (k - 1) + 1 for d, k in zip(dilation, kernel, strict=True)]
    padding = tuple(words.get("pads", (0,) * 2 * axes))
    if str(words.get("auto_pad", "")).startswith("SAME"):
        padding = (*((r - 1) // 2 for r in reach), *(r // 2 for r in reach))
    lengths = tuple(
        max((out_shape[2 + i] - 1) * stride[i] + reach[i] - padding[i] - padding[axes + i], 1)
        for i in range(axes)
    )
    groups = int(words.get("group", 1))
    return Convolution(out_shape[0], layer.shape[1] * groups, lengths, layer.shape[0], kernel,
                       stride, padding, dilation, groups)  # fmt: skip
