"""Noise in place of data, held to what a network's batch norms told of its layers."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from qsdk.errors import DataError
from qsdk.interfaces.links import Expected
from qsdk.interfaces.model import Model

LARGEST = 3.0  # deviations at which noise is cut: about where standardized data ends as well
VALUES = 2**18  # of an input that there are to be
ROWS = (16, 256)  # at least and at most


def noise(
    model: Model,
    rows: int | None = None,
    *,
    ranges: Mapping[str, tuple[float, float]] | None = None,
) -> dict[str, NDArray[Any]]:
    """Feeds of seeded normal noise, cut at three deviations; zeros where an input holds no floats.

    rows : samples where the model takes any number; by default so many that means and deviations
        over them are good to a few percent
    ranges : by name where the noise of an input is cut; -3 and 3 where nothing is said
    Raises DataError where other lengths than the number of samples are free.
    """
    for name, kind in model.input_types.items():
        if kind.shape is None or None in kind.shape[1:]:
            raise DataError(
                f"input {name!r} is {kind}, so noise for it has no shape; give calibration data"
            )
    if rows is None:
        each = max((array.size for array in model.blank().values()), default=1)
        rows = min(max(math.ceil(VALUES / max(each, 1)), ROWS[0]), ROWS[1])
    rng = np.random.default_rng(0)
    feeds = model.blank(rows)
    for name, zeros in feeds.items():
        if zeros.dtype.kind == "f":
            low, high = (ranges or {}).get(name, (-LARGEST, LARGEST))
            values = (high + low) / 2 + rng.standard_normal(zeros.shape) * (high - low) / 6
            feeds[name] = np.clip(values, low, high).astype(zeros.dtype)
    return feeds


def as_expected(
    expected: Expected, outputs: Iterable[NDArray[np.float32]], axis: int
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """scale and shift with which ``scale * outputs + shift`` has the moments expected.

    outputs : batches of a layer's outputs, their channels on ``axis``
    Returns two of (channels,); scale is 1 for a channel that does not vary.
    """
    rows = np.concatenate(
        [np.moveaxis(y, axis, 0).reshape(len(expected.mean), -1) for y in outputs], axis=1
    )
    mean = rows.mean(axis=1, dtype=np.float64)
    deviation = rows.std(axis=1, dtype=np.float64)
    scale = np.divide(
        expected.deviation, deviation, out=np.ones_like(deviation), where=deviation > 0
    )
    return scale, expected.mean - scale * mean
