"""DATA of the command line: feeds for a model, and labels. Nothing is ever unpickled."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from qsdk.errors import DataError, FileRefusedError, OptionError
from qsdk.interfaces import Model
from qsdk.storage import ZippedArrays
from qsdk.streams import output_to_stderr

Feeds = Mapping[str, NDArray[Any]]

LABELS = "labels"  # may stand beside the inputs in one archive


def batches(data: str, model: Model, size: int) -> Iterator[Feeds]:
    """Feeds for ``model``, ``size`` rows at a time.

    data : an ``.npz`` with one array per model input, an ``.npy`` for a model with one input, or
        ``module:function`` that yields feeds; these are taken as they come
    """
    if not data.endswith((".npy", ".npz")):
        yield from _from_function(data, model)
        return
    feeds = _feeds(load_arrays(Path(data)), data, model)
    lengths = {len(array) if array.ndim else 1 for array in feeds.values()}
    if len(lengths) != 1:
        yield feeds  # no common first axis: there is nothing to cut along
        return
    for start in range(0, lengths.pop(), size):
        yield {name: array[start : start + size] for name, array in feeds.items()}


def _feeds(arrays: Feeds, data: str, model: Model) -> Feeds:
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
    if not path.is_file():
        raise DataError(f"there is no file {str(path)!r}")
    if path.suffix != ".npy":
        return {name: array.read() for name, array in ZippedArrays(path).items()}
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
