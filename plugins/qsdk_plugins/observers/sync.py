"""Observers of several workers: the ends of each batch are exchanged before they are taken in.

So each worker has the state of one that sees the batches of all as one. Source: MegEngine's
SyncMinMaxObserver and SyncExponentialMovingAverageObserver.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Iterable
from typing import Any, ClassVar

import attrs
import numpy as np
from numpy.typing import ArrayLike, NDArray

import qsdk
from qsdk.errors import DataError, OptionError
from qsdk.interfaces import Ends, Observer
from qsdk_plugins.observers.ema import Ema
from qsdk_plugins.observers.minmax import MinMax

Gather = Callable[[NDArray[np.float32]], Iterable[ArrayLike]]


def _function(given: Any) -> Gather | None:
    """A callable, or what ``module:function`` names; None where nothing is given."""
    if given is None or callable(given):
        return given  # type: ignore[no-any-return]
    module, _, function = str(given).partition(":")
    try:
        found: Gather = getattr(importlib.import_module(module), function)
    except (ImportError, AttributeError, ValueError) as error:
        raise OptionError(
            f"gather is {given!r}, which is no module:function ({error}); give one that takes an "
            "array and returns those of all workers"
        ) from None
    return found


def gathered(gather: Gather | None, ends: Ends) -> Ends:
    """The ends of what all workers saw; those given where there is one worker."""
    if gather is None:
        return ends
    ours = np.stack([ends.low, ends.high])
    for array in map(np.asarray, gather(ours.copy())):
        if array.shape != ours.shape or array.dtype != np.float32:
            raise DataError(
                f"gather gave {array.dtype} {array.shape} for one of the workers; each must be "
                f"float32 {ours.shape}, the ends of as many channels"
            )
        ends = ends.joined(Ends.of(array[0], array[1]))
    return ends


@attrs.define(kw_only=True, eq=False)
class Sync(MinMax):
    """Min-max over several workers.

    gather : takes the ends of a batch, float32 (2, channels), and returns those of all workers, as
        ``comm.allgather`` of MPI does; a callable or ``module:function``. None for one worker alone
    It is called once for each batch that is not empty, so all workers must see as many of them.
    """

    name: ClassVar[str] = "sync"

    gather: Gather | None = attrs.field(default=None, converter=_function)

    def _observe(self, rows: NDArray[np.float32], ends: Ends) -> None:
        super()._observe(rows, gathered(self.gather, ends))


@attrs.define(kw_only=True, eq=False)
class SyncEma(Ema):
    """EMA over several workers.

    gather : as that of ``sync``
    """

    name: ClassVar[str] = "sync_ema"

    gather: Gather | None = attrs.field(default=None, converter=_function)

    def _observe(self, rows: NDArray[np.float32], ends: Ends) -> None:
        super()._observe(rows, gathered(self.gather, ends))


@qsdk.hookimpl
def qsdk_observers() -> list[type[Observer]]:
    return [Sync, SyncEma]
