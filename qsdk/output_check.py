"""Proof without labels: the quantized model beside the float one, on some of the data."""

from __future__ import annotations

import operator
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from qsdk import metrics
from qsdk.calibration import Data
from qsdk.interfaces import Model
from qsdk.report import OutputCheck

SAMPLE_ROWS = 64  # kept of the data, from its first batches
LEAST_SQNR_DB = 10.0  # below it a warning: noise is more than a tenth of the signal's power
LEAST_AGREEMENT = 0.9


class Sample:
    """Passes data on, and keeps its first rows."""

    def __init__(self, data: Data):
        self._data = data
        self.kept: list[Any] = []
        self._rows = 0

    def __length_hint__(self) -> int:
        return operator.length_hint(self._data)

    def __iter__(self) -> Iterator[Any]:
        self.kept, self._rows = [], 0
        for batch in self._data:
            if self._rows < SAMPLE_ROWS:
                self._keep(batch)
            yield batch

    def first(self) -> list[Any]:
        """The rows that were kept; they are read now if nobody has gone through the data."""
        if not self.kept:
            for _ in self:
                if self._rows >= SAMPLE_ROWS:
                    break
        return self.kept

    def _keep(self, batch: Any) -> None:
        arrays = batch if isinstance(batch, Mapping) else {"": batch}
        lengths = {len(array) if np.ndim(array) else 0 for array in arrays.values()}
        rows = SAMPLE_ROWS - self._rows
        if len(lengths) != 1 or 0 in lengths:
            self.kept.append(batch)
            self._rows += 1
            return
        cut = {name: np.array(array[:rows]) for name, array in arrays.items()}
        self.kept.append(cut if isinstance(batch, Mapping) else cut[""])
        self._rows += min(rows, lengths.pop())


def check_outputs(before: Model, after: Model, sample: Sequence[Any]) -> tuple[OutputCheck, ...]:
    """How far each output of ``after`` is from that of ``before`` on these batches."""
    first, *_ = before.inputs
    feeds = [batch if isinstance(batch, Mapping) else {first: batch} for batch in sample]
    pairs = [(before.run(batch), after.run(batch)) for batch in feeds]
    return tuple(_check(name, [(a[name], b[name]) for a, b in pairs]) for name in before.outputs)


def _check(name: str, pairs: list[tuple[Any, Any]]) -> OutputCheck:
    floats, coded = (np.concatenate([np.ravel(pair[i]) for pair in pairs]) for i in (0, 1))
    classes = [pair for pair in pairs if np.ndim(pair[0]) >= 2]
    rows = sum(len(a) if np.ndim(a) else 1 for a, _ in pairs)
    shares = [(metrics.agreement(a, b), len(a)) for a, b in classes]
    same = sum(share * n for share, n in shares) / rows if len(classes) == len(pairs) else None
    return OutputCheck(name=name, rows=rows, sqnr_db=metrics.sqnr_db(floats, coded), agreement=same)


def warnings(checks: Sequence[OutputCheck]) -> list[str]:
    """A line for each output that is far off."""
    return [
        f"warning: {check}; below {LEAST_SQNR_DB:g} dB or {LEAST_AGREEMENT:.0%} a model is most "
        "likely broken: try more bits, another observer, or keep some layers in float"
        for check in checks
        if check.sqnr_db < LEAST_SQNR_DB
        or (check.agreement is not None and check.agreement < LEAST_AGREEMENT)
    ]
