"""What a peer is: a library that can do the same work, or the work that qsdk's replaces."""

from __future__ import annotations

import abc
from collections.abc import Callable, Iterable
from typing import ClassVar

import attrs

from qsdk.bench.cases import Form
from qsdk.bench.timing import Call
from qsdk.bench.works import Convolution, Product, Values, Weights, Work

SAME, FLOAT, ROUNDING, READ = "same", "float", "rounding", "read"


@attrs.frozen(eq=False)
class Candidate:
    """One way in which a peer does a case.

    name : of the function
    kind : "same" for the same work; else what it does instead: "float" the product in float32,
        "rounding" plain rounding of the weights, "read" one pass that only reads
    build : prepares what a caller may prepare once, and gives the call to time
    """

    name: str
    kind: str
    build: Callable[[], Call]


class Peer(abc.ABC):
    """A library; imported when asked for, held to ``threads``.

    What a peer does not have gives no candidates; what fails while it is built is reported.
    """

    name: ClassVar[str]

    def __init__(self, threads: int):
        self.threads = threads

    @abc.abstractmethod
    def version(self) -> str:
        """Its version; raises ImportError or OSError where it is not installed."""

    def candidates(self, form: Form, work: Work) -> Iterable[Candidate]:
        if isinstance(work, Product):
            yield from self.product(work)
            if form.operation == "linear-int8":
                yield from self.int8(work, form.output)
            if form.operation == "linear-int4":
                yield from self.int4(work, form.options["group_size"])
        elif isinstance(work, Convolution):
            yield from self.convolution(work)
            if form.operation == "conv-int8":
                yield from self.int8_convolution(work, is_static=form.name == "static")
        elif isinstance(work, Weights):
            yield from self.quantize(work, SAME if form.plugin == "rtn" else ROUNDING)
        else:
            yield from self.observe(work, form.plugin)

    def product(self, work: Product) -> Iterable[Candidate]:
        """In float32."""
        return ()

    def int8(self, work: Product, output: str) -> Iterable[Candidate]:
        """Codes in and int32 out, or floats in and out with codes made inside the call."""
        return ()

    def int4(self, work: Product, group_size: int) -> Iterable[Candidate]:
        """Floats in and out, weights of 4 bits."""
        return ()

    def convolution(self, work: Convolution) -> Iterable[Candidate]:
        """In float32."""
        return ()

    def int8_convolution(self, work: Convolution, is_static: bool) -> Iterable[Candidate]:
        """Floats in and out, the scale of the input known beforehand or found inside."""
        return ()

    def quantize(self, work: Weights, kind: str) -> Iterable[Candidate]:
        """Rounding to 8 bits, as ``kind``; or reading once."""
        return ()

    def observe(self, work: Values, plugin: str) -> Iterable[Candidate]:
        """Minimum and maximum, or a histogram of 2048 bins; or reading once."""
        return ()
