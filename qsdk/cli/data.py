"""DATA of the command line: feeds for a model, and labels. Nothing is ever unpickled."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import attrs
import numpy as np
from numpy.typing import NDArray

from qsdk.errors import DataError, FileRefusedError, OptionError
from qsdk.interfaces import Model
from qsdk.storage import ZippedArrays
from qsdk.storage.archive import ZippedArray
from qsdk.streams import output_to_stderr

Feeds = Mapping[str, NDArray[Any]]

LABELS = "labels"  # may stand beside the inputs in one archive


def batches(data: str, model: Model, size: int) -> Iterator[Feeds]:
    """Feeds for ``model``, ``size`` rows at a time; see :func:`stream`."""
    return iter(stream(data, model, size))


def stream(data: str, model: Model, size: int) -> Iterable[Feeds]:
    """Feeds for ``model`` that can be gone through more than once, never all in memory.

    data : an ``.npz`` with one array per model input, an ``.npy`` for a model with one input, or
        ``module:function`` that yields feeds; these are taken as they come
    size : rows at a time
    """
    if data.endswith((".npy", ".npz")):
        return _File(Path(data), model, size)
    return _Function(data, model)


@attrs.frozen
class _Function:
    data: str
    model: Model

    def __iter__(self) -> Iterator[Feeds]:
        return _from_function(self.data, self.model)


@attrs.frozen
class _File:
    """An ``.npy`` is mapped; members of an ``.npz`` are read along."""

    path: Path
    model: Model
    size: int

    def __length_hint__(self) -> int:
        lengths = self._lengths(self._arrays())
        return -(-lengths.pop() // self.size) if len(lengths) == 1 else 1

    def __iter__(self) -> Iterator[Feeds]:
        arrays = self._arrays()
        if len(self._lengths(arrays)) != 1:  # no common first axis: there is nothing to cut along
            yield {name: np.asarray(array) for name, array in arrays.items()}
            return
        pieces = [_pieces(array, self.size) for array in arrays.values()]
        for cut in zip(*pieces, strict=True):
            yield dict(zip(arrays, cut, strict=True))

    def _lengths(self, arrays: Mapping[str, Any]) -> set[int]:
        return {array.shape[0] if array.ndim else 1 for array in arrays.values()}

    def _arrays(self) -> Mapping[str, Any]:
        return _feeds(open_arrays(self.path), str(self.path), self.model)


def _pieces(array: Any, size: int) -> Iterator[NDArray[Any]]:
    if isinstance(array, ZippedArray):
        yield from array.pieces(size)
        return
    for start in range(0, len(array), size) if array.ndim else ():
        yield array[start : start + size]


def _feeds(arrays: Mapping[str, Any], data: str, model: Model) -> Mapping[str, Any]:
    if list(arrays) == [""] and len(model.inputs) == 1:
        return {model.inputs[0]: arrays[""]}
    if list(arrays) == [""]:
        raise DataError(
            f"{data} holds one array, and the model has {len(model.inputs)} inputs: "
            f"{', '.join(model.inputs)}; give an .npz with an array for each"
        )
    given = [name for name in arrays if name in model.inputs or name != LABELS]
    if set(given) != set(model.inputs):
        raise DataError(
            f"{data} holds {', '.join(given) or 'nothing'}, and the model's inputs are "
            f"{', '.join(model.inputs)}; give one array for each, of that name"
        )
    return {name: arrays[name] for name in given}


def load_arrays(path: Path) -> Feeds:
    """The arrays of an ``.npz``; of an ``.npy`` the only one, under the name ""."""
    arrays = open_arrays(path)
    return {n: a.read() if isinstance(a, ZippedArray) else a for n, a in arrays.items()}


def open_arrays(path: Path) -> Mapping[str, Any]:
    """The same, none of them read yet."""
    if not path.is_file():
        raise DataError(f"there is no file {str(path)!r}")
    if path.suffix != ".npy":
        return dict(ZippedArrays(path))
    try:
        return {"": np.lib.format.open_memmap(path, mode="r")}
    except Exception as error:  # numpy raises what it likes on bad bytes
        raise FileRefusedError(f"{path.name} holds no array that can be read: {error}") from None


def load_labels(path: Path) -> NDArray[Any]:
    """Whole numbers from an ``.npy``, or from the array ``labels`` of an ``.npz``."""
    arrays = load_arrays(path)
    name = "" if "" in arrays else LABELS
    if name not in arrays:
        raise DataError(f"{path.name} holds {', '.join(arrays)}; name the array 'labels'")
    if arrays[name].dtype.kind not in "iu":
        raise DataError(f"the labels in {path.name} are {arrays[name].dtype}; give whole numbers")
    return arrays[name]


def _from_function(data: str, model: Model) -> Iterator[Feeds]:
    """What ``module:function`` yields; what it prints goes to standard error."""
    module, colon, function = data.partition(":")
    if not (module and colon and function):
        raise OptionError(
            f"--data {data!r} is no .npz, no .npy and no module:function that yields feeds"
        )
    if "" not in sys.path and str(Path.cwd()) not in sys.path:
        sys.path.insert(0, str(Path.cwd()))
    with output_to_stderr():
        try:
            source = getattr(importlib.import_module(module), function)
        except (ImportError, AttributeError) as error:
            raise OptionError(f"--data {data!r}: {error}") from error
        feeds = iter(source())
    while True:
        with output_to_stderr():
            batch = next(feeds, None)
        if batch is None:
            return
        if not isinstance(batch, Mapping) or set(batch) != set(model.inputs):
            given = sorted(batch) if isinstance(batch, Mapping) else f"a {type(batch).__name__}"
            raise DataError(
                f"{data} yields {given}; give a dict with the model's inputs: "
                f"{', '.join(model.inputs)}"
            )
        yield {str(name): np.asarray(array) for name, array in batch.items()}
