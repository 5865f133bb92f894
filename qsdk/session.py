"""``qsdk.Session``: a model file, run with the kernels of this CPU."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from qsdk.errors import DataError, OptionError, did_you_mean
from qsdk.interfaces import Model, Piece
from qsdk.operations import thread_limit
from qsdk.pipeline import load


class Session:
    """Runs a model: layers that qsdk knows by its kernels, the rest by another runtime.

    model : a Model, or what :func:`load` takes, such as the path of an ``.onnx`` file
    threads : at most so many; by default QSDK_NUM_THREADS, else as many as there are
    inputs, outputs : names of the arrays that :meth:`run` takes and gives
    plan : which piece of the model runs by what, in order

    Weights are packed here, once. Raises OptionError for a model that cannot run, FileRefusedError
    and MissingExtraError as :func:`load` does.
    """

    def __init__(self, model: Model | str | Path | Any, *, threads: int | None = None):
        self.model: Model = model if isinstance(model, Model) else load(model)
        if "run" not in self.model.has:
            raise OptionError(
                f"a {self.model.format} model cannot run: it holds weights and no graph; "
                "give an .onnx file, or a weight to qsdk.linear"
            )
        self.threads = thread_limit(threads)
        self.inputs: Sequence[str] = tuple(self.model.inputs)
        self.outputs: Sequence[str] = tuple(self.model.outputs)
        self._program = self.model.prepare(self.threads)

    @property
    def plan(self) -> Sequence[Piece]:
        return self._program.plan

    def run(self, feeds: Mapping[str, ArrayLike]) -> dict[str, NDArray[Any]]:
        """The outputs by name, from the inputs by name. Raises DataError for what does not fit."""
        for name in feeds:
            if name not in self.inputs:
                raise DataError(f"the model has no input {name!r}{did_you_mean(name, self.inputs)}")
        missing = [name for name in self.inputs if name not in feeds]
        if missing:
            raise DataError(f"the model's inputs are {list(self.inputs)}; {missing} are missing")
        return self._program.run({name: np.asarray(array) for name, array in feeds.items()})

    def __repr__(self) -> str:
        source = self.model.source.name if self.model.source else f"a {self.model.format} model"
        return "\n".join([f"<Session of {source}>", *(f"  {piece}" for piece in self.plan)])
