"""What a model is: layers with names, weights and order, from whatever file or framework."""

from __future__ import annotations

import abc
import hashlib
import math
import threading
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar, Self

import attrs
import numpy as np
from numpy.typing import ArrayLike, NDArray

from qsdk.encodings import Encoding
from qsdk.errors import DataError, RecipeError, some
from qsdk.interfaces.folding import folding
from qsdk.interfaces.links import Block, Changes, Expected, Link, Stage
from qsdk.interfaces.operation import Activations, InputForm
from qsdk.interfaces.program import Piece, Program
from qsdk.interfaces.site import FixedCodes, Site

Runner = Callable[[Mapping[str, NDArray[Any]]], dict[str, NDArray[Any]]]
FLOATS = frozenset({"float16", "bfloat16", "float32", "float64"})


@attrs.frozen(kw_only=True, eq=False)
class Layer:
    """One weight and what is done with it.

    name : unique in the model; patterns of a recipe match it, or ``weight_name``
    operation : ONNX operator type, or "" where the source has no graph
    shape : (out channels, in channels / groups, kernel...), whatever the file's layout
    stored : the number format in the file: "float32", or what its encoding says
    nbytes : bytes of the weight in the file
    activations : how the input that meets the weight is coded when the model runs
    read : gives the weight, float, of ``shape``; called each time ``weight`` is asked for
    input_name : the tensor that meets the weight, or "" where the source has no graph
    read_bias : gives what is added to each output channel, (out channels,), zeros where the file
        has nothing; None where the operation has no place for it
    read_encoding : gives the weight as codes, of ``shape``; None, or a result of None, where it is
        stored as floats or in a way that no encoding of qsdk has
    hessian : gives the second moment of the layer's inputs, ``X^T X / n``: float64 (groups, K, K)
        with K = in channels / groups * kernel, in the order of the weight's rows in C order; None
        where no inputs were seen. Called by quantizers that declare that they need it
    input_mean : gives the mean of the same inputs: float64 (groups, K)
    """

    name: str
    operation: str = ""
    weight_name: str
    shape: tuple[int, ...]
    stored: str
    nbytes: int
    attributes: Mapping[str, Any] = attrs.field(factory=dict, repr=False)
    activations: Activations = attrs.field(factory=Activations)
    read: Callable[[], NDArray[Any]] = attrs.field(repr=False)
    input_name: str = ""
    read_bias: Callable[[], NDArray[Any]] | None = attrs.field(default=None, repr=False)
    read_encoding: Callable[[], Encoding | None] | None = attrs.field(default=None, repr=False)
    hessian: Callable[[], NDArray[np.float64]] | None = attrs.field(default=None, repr=False)
    input_mean: Callable[[], NDArray[np.float64]] | None = attrs.field(default=None, repr=False)

    @classmethod
    def of_inputs(
        cls, weight: ArrayLike, inputs: ArrayLike, *, name: str = "weight", groups: int = 1
    ) -> Self:
        """A layer of one weight and inputs that it met, for quantizers outside of a pipeline.

        weight : (out channels, in channels / groups, kernel...)
        inputs : (..., groups * K): what the rows of the weight are multiplied by; for a
            convolution the patches under the kernel, group by group, each channels first
        Raises DataError where the lengths do not fit.

        >>> layer = Layer.of_inputs(np.ones((1, 2)), [[1.0, 2.0], [3.0, 0.0]])
        >>> layer.hessian().tolist()
        [[[5.0, 1.0], [1.0, 2.0]]]
        """
        given, x = np.asarray(weight), np.asarray(inputs, np.float64)
        length = math.prod(given.shape[1:])
        if x.ndim < 1 or x.shape[-1] != groups * length or (given.ndim and given.shape[0] % groups):
            raise DataError(
                f"inputs of shape {x.shape} do not fit a weight of shape {given.shape} in "
                f"{groups} groups; the last axis must be {groups * length}"
            )
        rows = x.reshape(math.prod(x.shape[:-1]), groups, length).transpose(1, 2, 0)
        hessian = rows @ rows.transpose(0, 2, 1) / max(rows.shape[2], 1)
        return cls(
            name=name,
            weight_name=name,
            shape=given.shape,
            stored=str(given.dtype),
            nbytes=given.nbytes,
            read=lambda: given,
            hessian=lambda: hessian,
        )

    @property
    def weight(self) -> NDArray[Any]:
        """The weight, read or decoded now and not kept."""
        return self.read()

    @property
    def output_axis(self) -> int:
        """Where the layer's output has its channels."""
        return 1 if self.operation in ("Conv", "ConvTranspose") else -1

    def by_input(self, weight: NDArray[np.float64]) -> NDArray[np.float64]:
        """A weight of this layer as (groups, outputs of a group, its inputs, kernel)."""
        groups = self.attributes.get("group", 1)
        return weight.reshape(groups, weight.shape[0] // groups, weight.shape[1], -1)

    def along(self, values: NDArray[Any], output: NDArray[Any]) -> NDArray[Any]:
        """One value per output channel, (channels,), shaped and typed to meet the output."""
        behind = output.ndim - 2 if self.output_axis == 1 else 0
        return values.reshape(-1, *(1,) * behind).astype(output.dtype)

    @property
    def bias(self) -> NDArray[Any] | None:
        """What is added to each output channel, read now; None where there is no place for it."""
        return self.read_bias() if self.read_bias else None

    @property
    def encoding(self) -> Encoding | None:
        """The codes of the weight, read now; None where there are none that qsdk knows."""
        return self.read_encoding() if self.read_encoding else None

    @property
    def is_float(self) -> bool:
        """Whether the weight is stored as floats, so that there is something to quantize."""
        return self.stored in FLOATS


@attrs.frozen
class InputType:
    """What a model takes under one name.

    shape : a number where the length is fixed, None where any will do; None for any shape
    """

    dtype: np.dtype[Any]
    shape: tuple[int | None, ...] | None = None

    def takes(self, array: NDArray[Any]) -> bool:
        """Whether dtype and shape are what is expected."""
        if array.dtype != self.dtype:
            return False
        return self.shape is None or (
            len(self.shape) == array.ndim
            and all(n in (None, m) for n, m in zip(self.shape, array.shape, strict=True))
        )

    def __str__(self) -> str:
        if self.shape is None:
            return str(self.dtype)
        lengths = ", ".join("any" if n is None else str(n) for n in self.shape)
        return f"{self.dtype} ({lengths})"


class Model(abc.ABC):
    """Layers in order. Never changed: writing gives a new file, ``with_encodings`` a new model.

    has : what it can do: "weights" always, "graph" when it knows operations and their order,
        "run" when it can compute
    format : the adapter's name
    suffix : what its files are called
    """

    format: ClassVar[str]
    suffix: ClassVar[str]
    has: ClassVar[frozenset[str]] = frozenset({"weights"})
    source: Path | None = None

    @property
    @abc.abstractmethod
    def layers(self) -> Sequence[Layer]:
        """All layers in order; their weights are read when asked for."""

    @property
    def skipped(self) -> Mapping[str, str]:
        """Weights that cannot become layers, with the reason for each."""
        return {}

    @property
    def metadata(self) -> Mapping[str, Any]:
        """What a run of qsdk wrote into the file; empty for other files."""
        return {}

    @property
    def inputs(self) -> Sequence[str]:
        """Names of the arrays that :meth:`run` takes."""
        return ()

    @property
    def input_types(self) -> Mapping[str, InputType]:
        """What is known of each input; empty where nothing is."""
        return {}

    @property
    def outputs(self) -> Sequence[str]:
        """Names of the arrays that :meth:`run` gives when nothing is said."""
        return ()

    @property
    def files(self) -> Sequence[Path]:
        """The file it was read from, and those with its data beside it."""
        return [self.source] if self.source else []

    @property
    def notes(self) -> Sequence[str]:
        """What a reader should know of how this model is stored; for a report."""
        return ()

    def run_notes(self) -> Sequence[str]:
        """What a runtime makes of this model, found by asking it; for a report."""
        return ()

    @property
    def codes(self) -> Mapping[str, FixedCodes]:
        """Codes that are fixed in the model, by the name of the tensor that holds their values."""
        return {}

    def fingerprint(self) -> str:
        """A text that is another for another model: what was measured on this belongs to it."""
        digest = hashlib.sha256()
        for layer in self.layers:
            weight = np.ascontiguousarray(layer.weight).reshape(-1)
            digest.update(f"{layer.name} {layer.stored} {layer.shape};".encode())
            digest.update(weight.view(np.uint8).data)
        return digest.hexdigest()

    def folded(self) -> Model:
        """The same network with each batch norm in the layer before it; itself if it has none.

        Equal up to the rounding of floats.
        """
        found = folding(self.layers, self.links)
        return self.changed(found) if found.removed else self

    def sites(self, layers: Collection[str], floats: Collection[str] = ()) -> Sequence[Site]:
        """Where codes must be fixed beforehand so that these layers run in integers.

        floats : those of the layers that compute in floats all the same: their inputs have codes,
            and nothing else for their sake
        In the order in which the model computes them. Raises QsdkError where it has no graph.
        """
        raise RecipeError(
            f"a {self.format} model has no graph, so nothing says which tensors to calibrate; "
            "quantize the weights alone, or give qsdk.linear its activations"
        )

    @abc.abstractmethod
    def write(
        self,
        path: Path,
        encodings: Iterable[tuple[str, Encoding]] = (),
        metadata: Callable[[], Mapping[str, Any]] = dict,
        activations: Mapping[str, Activations] | None = None,
        codes: Mapping[str, FixedCodes] | None = None,
    ) -> Sequence[str]:
        """Write the model to ``path`` atomically, the named layers' weights replaced.

        encodings : (layer name, encoding) in order of the layers, taken one at a time
        metadata : called after the last encoding; what it gives can be read back by ``metadata``
        activations : how the new model is to code the inputs of these layers, by name; floats
            where nothing is said. Only given where ``activation_obstacles`` finds nothing
        codes : of the tensors of ``sites``, by name. Only given where there are sites
        Returns what the new model's ``notes`` would say.
        """

    def obstacles(self, layers: Collection[str]) -> Sequence[str]:
        """Why a file cannot be written in which these layers are quantized; asked before any work.

        Only what can be known without reading a weight.
        """
        return ()

    def activation_obstacles(self, activations: Mapping[str, Activations]) -> Sequence[str]:
        """Why a model cannot be made that codes the inputs of these layers like that."""
        coded = [name for name, form in activations.items() if form.form != InputForm.FLOAT32]
        if not coded:
            return ()
        return [
            f"{some(coded)}: a {self.format} model cannot say how inputs are coded; "
            "quantize the weights alone, and give qsdk.linear its activations"
        ]

    @abc.abstractmethod
    def with_encodings(
        self,
        encodings: Mapping[str, Encoding],
        metadata: Mapping[str, Any],
        activations: Mapping[str, Activations] | None = None,
        codes: Mapping[str, FixedCodes] | None = None,
    ) -> Model:
        """A new model in memory whose named layers have these weights, and inputs coded so."""

    def run(
        self, feeds: Mapping[str, NDArray[Any]], fetch: Sequence[str] | None = None
    ) -> dict[str, NDArray[Any]]:
        """Compute the tensors named in ``fetch``, by default the outputs, from the inputs."""
        raise TypeError(f"a {self.format} model cannot run: it holds weights and no graph")

    def runner(self, fetch: Sequence[str], at_once: int, threads: int) -> Runner:
        """:meth:`run` for these tensors, for several that call it at the same time.

        at_once : how many call it; threads : that all of these calls are to take together
        """
        lock = threading.Lock()

        def run(feeds: Mapping[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
            with lock:
                return self.run(feeds, fetch)

        return run

    def prepare(self, threads: int = 0) -> Program:
        """The model packed for many runs; :class:`qsdk.Session` asks for it.

        threads : at most so many in a run, 0 for as many as there are
        """
        return _Itself(self)

    def blank(self, batch: int = 1) -> dict[str, NDArray[Any]]:
        """Feeds of zeros, for a run of which only the shapes matter.

        batch : length of a first axis that may be of any length; other such axes get length 1
        """
        raise TypeError(f"a {self.format} model cannot run: it holds weights and no graph")

    @property
    def links(self) -> Sequence[Link]:
        """For each layer of its own weight what comes behind it; empty without a graph."""
        return ()

    @property
    def expected(self) -> Mapping[str, Expected]:
        """By layer what batch norms told of its outputs before they were folded into it."""
        return {}

    def changed(self, changes: Changes) -> Model:
        """A new model in memory with other numbers in some places, and without some steps."""
        raise TypeError(f"a {self.format} model has no graph that could be changed")

    def stages(self, layers: Collection[str]) -> Sequence[Stage]:
        """The model cut behind each of these layers, for who looks at their outputs in turn."""
        raise TypeError(f"a {self.format} model cannot run: it holds weights and no graph")

    def blocks(self) -> Sequence[Block]:
        """The model cut where one tensor is all that goes on, as far as that goes; floats alone."""
        raise TypeError(f"a {self.format} model cannot run: it holds weights and no graph")

    def save(self, path: str | Path) -> None:
        """Write the model as it is."""
        self.write(Path(path), (), lambda: self.metadata)


class _Itself(Program):
    """A model that has no other way to run than its own."""

    def __init__(self, model: Model):
        self._model = model
        self.plan = (Piece(tuple(layer.name for layer in model.layers), model.format),)

    def run(self, feeds: Mapping[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
        return self._model.run(feeds)
