"""Tensors are shown to their observers: many in one call, and by several threads."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import attrs
import numpy as np
from numpy.typing import NDArray

from qsdk.calibration.feeds import not_finite
from qsdk.calibration.watch import Watch
from qsdk.errors import DataError
from qsdk.interfaces import Observer
from qsdk.interfaces.ends import Extent

Tensors = Mapping[str, NDArray[Any]]
Each = Callable[[Callable[["Group"], None], Sequence["Group"]], Iterable[None]]

GROUPS = 8  # of the observers of a kind: so many threads can observe at the same time


@attrs.frozen(eq=False)
class Group:
    """Observers of one kind, each with the tensor that it is to see, in the hand of one thread."""

    kind: type[Observer]
    names: Sequence[str]
    observers: Sequence[Observer]
    tensors: Sequence[str]
    lock: threading.Lock = attrs.field(factory=threading.Lock)


class Observing:
    """The observers of a calibration.

    is_indifferent : no observer cares in which order and in what pieces it sees its data
    """

    def __init__(self, watches: Mapping[str, Watch], observers: Mapping[str, Observer]):
        self.is_indifferent = all(observer.mergeable for observer in observers.values())
        by_kind: dict[type[Observer], list[str]] = {}
        for name, observer in observers.items():
            by_kind.setdefault(type(observer), []).append(name)
        chosen = [names[i::GROUPS] for names in by_kind.values() for i in range(GROUPS)]
        if not self.is_indifferent:  # one by one, as the model computes their tensors
            chosen = [[name] for name in observers]
        self._groups = []
        for names in filter(None, chosen):
            pairs = [(name, tensor) for name in names for tensor in watches[name].site.watched]
            owners, tensors = zip(*pairs, strict=True)
            several = [observers[name] for name in owners]
            self._groups.append(Group(type(several[0]), owners, several, tensors))

    def show(self, tensors: Tensors, number: int, start: int, each: Each) -> dict[str, Extent]:
        """Every observer sees its tensors of batch ``number`` from row ``start`` on.

        each : how groups are gone through, ``map`` or the like
        Returns the ends of what each saw, where it was not empty.
        Raises DataError for the first tensor, in the order of the model, that none can observe.
        """
        extents: dict[str, Extent] = {}
        errors: dict[str, DataError] = {}

        def observe(group: Group) -> None:
            values = [tensors[tensor] for tensor in group.tensors]
            with group.lock:
                found = group.kind.observe_each(group.observers, values)
            for name, tensor, extent in zip(group.names, group.tensors, found, strict=True):
                if isinstance(extent, DataError):
                    errors[tensor] = extent
                elif extent is not None:
                    extents[name] = both(extents.get(name, extent), extent)

        for _ in each(observe, self._groups):
            pass
        for tensor in filter(errors.__contains__, tensors):
            if np.isfinite(tensors[tensor]).all():
                raise DataError(f"tensor {tensor!r} in batch {number}: {errors[tensor]}")
            raise not_finite(tensor, tensors[tensor], number, start)
        return extents


def both(a: Extent, b: Extent) -> Extent:
    """Of all that two parts hold."""
    return min(a[0], b[0]), max(a[1], b[1])
