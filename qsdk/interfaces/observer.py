"""What an observer is: it looks at activations and says which range the codes must cover."""

from __future__ import annotations

import abc
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, Self

import attrs
import numpy as np
from numpy.typing import ArrayLike, NDArray

from qsdk.affine import scale_and_zero_point
from qsdk.encodings import Arrays
from qsdk.errors import DataError
from qsdk.interfaces.ends import Ends, Extent
from qsdk.interfaces.finite import as_float32, not_finite
from qsdk.interfaces.quantizer import CONTRACT
from qsdk.ranges import extremes
from qsdk.scheme import Scheme


@attrs.define(kw_only=True, eq=False)
class Observer(abc.ABC):
    """Collects statistics in bounded memory, however long the stream.

    axis : keeps one range per index of this axis; None for one range in all
    ``mergeable`` observers are monoids: observing a then b, or merging an observer of a with
    an observer of b, gives the same state, to the bit.
    """

    name: ClassVar[str]
    mergeable: ClassVar[bool]
    contract: ClassVar[int] = CONTRACT

    axis: int | None = None

    @property
    def is_data_free(self) -> bool:
        """Whether noise, held to a network's batch norms, is enough for it instead of data."""
        return False

    def observe(self, x: ArrayLike) -> Ends | None:
        """Take in one batch: floats of any shape, never changed.

        Returns the ends of this batch, channel by channel; None if it is empty.
        Raises DataError for NaN and infinity (with the position), and for an ``axis`` that is
        not there or has another length than before. An empty batch changes nothing.
        """
        floats = as_float32(x, "the batch")
        if self.axis is None:
            rows = floats.reshape(1, -1)
        elif -floats.ndim <= self.axis < floats.ndim:
            channels = floats.shape[self.axis]
            rows = np.moveaxis(floats, self.axis, 0).reshape(
                channels, floats.size // max(channels, 1)
            )
        else:
            raise DataError(f"axis {self.axis} does not exist in a batch of shape {floats.shape}")
        if not rows.size:
            return None
        ends = self._take(np.ascontiguousarray(rows))
        if ends is None:
            raise not_finite(x, floats, "the batch")
        return ends

    @classmethod
    def observe_each(
        cls, observers: Sequence[Self], tensors: Sequence[ArrayLike]
    ) -> list[Extent | DataError | None]:
        """Let each observer :meth:`observe` its tensor.

        Returns of each the lowest and the highest value, None if it is empty, or the error that it
        raises. For those to override that take less time for many than for one after the other.
        """
        found: list[Extent | DataError | None] = []
        for observer, x in zip(observers, tensors, strict=True):
            try:
                ends = observer.observe(x)
                found.append(None if ends is None else ends.extent)
            except DataError as error:
                found.append(error)
        return found

    def _take(self, rows: NDArray[np.float32]) -> Ends | None:
        """:meth:`_observe`, and the ends of the rows; None, and nothing changed, where a value is
        not finite.

        For those to override that find this out in the pass in which they count.
        """
        low, high, finite = extremes(rows)
        if not finite:
            return None
        ends = Ends.of(low, high)
        self._observe(rows, ends)
        return ends

    @abc.abstractmethod
    def _observe(self, rows: NDArray[np.float32], ends: Ends) -> None:
        """Take in rows (channels, values), not empty; one channel when ``axis`` is None.

        ``ends`` are the lowest and the highest value of each: found with the check for NaN, so
        that nobody needs a second pass.
        """

    @abc.abstractmethod
    def merge(self, other: Self) -> Self:
        """A new observer that has seen what both have; raises where order matters."""

    @abc.abstractmethod
    def range(self) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Ends (low, high) per channel, shape (channels,), or () when ``axis`` is None.

        Raises DataError when nothing was observed.
        """

    def range_for(self, scheme: Scheme) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """The ends that serve codes of ``scheme`` best; :meth:`range` where it makes no difference.

        Raises DataError when nothing was observed.
        """
        return self.range()

    @abc.abstractmethod
    def state(self) -> Arrays:
        """Everything seen so far, as named arrays."""

    @abc.abstractmethod
    def load_state(self, arrays: Mapping[str, NDArray[Any]]) -> None:
        """Continue from what :meth:`state` gave.

        Raises DataError for what no observer of this kind, axis and options can have given.
        """

    def _require_same_axis(self, other: Observer) -> None:
        """For :meth:`merge`: DataError when the two look along different axes."""
        if self.axis != other.axis:
            raise DataError(f"observers of axis {self.axis} and {other.axis} do not merge")

    def _checked_state(
        self, arrays: Mapping[str, NDArray[Any]], **expected: tuple[type[Any], tuple[int, ...]]
    ) -> dict[str, NDArray[Any]]:
        """For :meth:`load_state`: copies of the arrays, those ``expected`` and without NaN.

        expected : name -> (dtype, shape behind the first axis, that of the channels)
        """
        if arrays.keys() != expected.keys():
            raise DataError(
                f"a state of {self.name} has {', '.join(expected)}; this has {', '.join(arrays)}"
            )
        lengths = [] if self.axis is None else [len(a) for a in arrays.values() if np.ndim(a)]
        channels = max(lengths, default=1) or 1
        for name, (dtype, behind) in expected.items():
            array, shape = np.asarray(arrays[name]), (channels, *behind)
            if array.dtype != dtype or array.shape != shape:
                raise DataError(
                    f"{name!r} of the state is {array.dtype} {array.shape}; for this {self.name} "
                    f"it must be {np.dtype(dtype)} {shape}"
                )
            if array.dtype.kind == "f" and np.isnan(array).any():
                raise DataError(f"{name!r} of the state holds NaN; no observer gives that")
        return {name: np.array(array) for name, array in arrays.items()}

    def params(self, scheme: Scheme) -> tuple[NDArray[np.float32], NDArray[np.int32]]:
        """Scale and zero_point for ``scheme``, of the shape of :meth:`range`."""
        return scale_and_zero_point(*self.range_for(scheme), scheme)
