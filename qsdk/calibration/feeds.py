"""Calibration data, checked batch by batch: what was given, and what the model's input expects."""

from __future__ import annotations

import hashlib
import itertools
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import attrs
import numpy as np
from numpy.typing import ArrayLike, NDArray

from qsdk.errors import DataError
from qsdk.interfaces import Model

Feeds = Mapping[str, NDArray[Any]]
Data = Iterable[Mapping[str, ArrayLike] | ArrayLike]  # an array, or a dict of some, is one batch


@attrs.frozen(eq=False)
class Batch:
    """number : of the batch in the stream, from 0; feeds : an array for each input."""

    number: int
    feeds: Feeds

    @property
    def rows(self) -> int:
        """Length of the first axis of the first input; 1 where it has no axes."""
        first = next(iter(self.feeds.values()))
        return len(first) if first.ndim else 1

    def digest(self) -> int:
        """A number of 256 bits that other data does not have."""
        digest = hashlib.sha256()
        for name in sorted(self.feeds):
            array = np.ascontiguousarray(self.feeds[name])
            digest.update(f"{name} {array.dtype.str} {array.shape};".encode())
            digest.update(array.reshape(-1).view(np.uint8).data)
        return int.from_bytes(digest.digest(), "big")

    def parts(self, rows: int) -> Iterator[tuple[int, Feeds]]:
        """At most so many rows at a time, about as many in each part, with the number of the first.

        All of it where ``rows`` is 0.
        """
        count = -(-self.rows // rows) if rows else 1
        if count <= 1:
            yield 0, self.feeds
            return
        ends = [i * self.rows // count for i in range(count + 1)]
        for start, end in itertools.pairwise(ends):
            yield start, {name: array[start:end] for name, array in self.feeds.items()}


def as_batches(data: Data) -> Data:
    """What can be gone through: data that is one array, or one dict of arrays, is one batch."""
    if isinstance(data, str | bytes):
        what = f"a {type(data).__name__}"
        raise DataError(f"the calibration data is {what}; give batches, or open the file")
    return [data] if isinstance(data, Mapping | np.ndarray) else data


def batches(data: Data, model: Model) -> Iterator[Batch]:
    """Every batch of ``data``, with the names, dtypes and shapes that the model takes.

    A batch is a dict of arrays, or an array for a model with one input.
    Raises DataError for the first that does not fit, and for NaN and infinity with the position.
    """
    number = -1
    for number, given in enumerate(as_batches(data)):
        feeds = _named(given, number, model)
        for name, array in feeds.items():
            _check(name, array, number, model)
        yield Batch(number, feeds)
    if number < 0:
        raise DataError("the calibration data is empty; give at least one batch")


def _named(given: Any, number: int, model: Model) -> Feeds:
    inputs = list(model.inputs)
    if not isinstance(given, Mapping):
        if len(inputs) != 1:
            raise DataError(
                f"batch {number} is one array, and the model has {len(inputs)} inputs: "
                f"{', '.join(inputs)}; give a dict with an array for each"
            )
        given = {inputs[0]: given}
    if set(given) != set(inputs):
        raise DataError(
            f"batch {number} has {', '.join(map(str, given)) or 'nothing'}, and the model's "
            f"inputs are {', '.join(inputs)}; give one array for each, of that name"
        )
    return {name: np.asarray(given[name]) for name in inputs}


def _check(name: str, array: NDArray[Any], number: int, model: Model) -> None:
    expected = model.input_types.get(name)
    if expected is not None and not expected.takes(array):
        raise DataError(
            f"input {name!r} expects {expected}, and batch {number} has {array.dtype} "
            f"{array.shape}; give arrays that are ready to feed"
        )
    if not array.size:
        raise DataError(f"input {name!r} of batch {number} is empty: its shape is {array.shape}")
    if array.dtype.kind == "f" and not np.isfinite(array).all():
        raise DataError(f"input {name!r} of batch {number} {_first_bad(array)}")


def _first_bad(array: NDArray[Any]) -> str:
    """Where the first value is that is not finite."""
    place = np.unravel_index(int(np.argmin(np.isfinite(array))), array.shape)
    index = "[" + ", ".join(str(int(i)) for i in place) + "]"
    return f"holds {array[place]} at {index}; mend or leave out that sample"


def not_finite(tensor: str, array: NDArray[Any], number: int, first_row: int) -> DataError:
    """The error for a tensor computed from finite inputs; ``first_row`` is that of the part."""
    floats = np.asarray(array, np.float64)
    place = [int(i) for i in np.unravel_index(int(np.argmin(np.isfinite(floats))), array.shape)]
    value = array[tuple(place)]
    if place:
        place[0] += first_row
    return DataError(
        f"tensor {tensor!r} is {value} at {place} in batch {number}, from inputs that are finite; "
        "the float model itself fails on that sample: leave it out"
    )
