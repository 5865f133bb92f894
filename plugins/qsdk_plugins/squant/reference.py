"""SQuant in numpy, row by row, as the paper tells it: the meaning of the C code.

With ``x = w / scale + zero_point`` and codes ``q``, the error ``e = q - x`` is held as an
integer in units of 2**-20 step. Sums, comparisons and sorts are then exact, so that every
implementation takes the same decisions whatever the order of its sums.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

STEP = 1 << 20  # one step of the grid, in units of the error
FAR = 2.0**30  # an error that a clipped weight cannot exceed

Errors = NDArray[np.int64]


class Candidates(NamedTuple):
    """Which codes of a row may be raised by one, and which lowered."""

    up: NDArray[np.bool_]
    down: NDArray[np.bool_]


def squant_rows(
    rows: NDArray[np.float32],
    kernel_size: int,
    scale: NDArray[np.float32],
    zero_point: NDArray[np.int32],
    qmin: int,
    qmax: int,
    *,
    stage_k: bool = True,
    stage_c: bool = True,
) -> NDArray[Any]:
    """Codes of ``rows`` (n, kernels * kernel_size), int8, or uint8 when ``qmin`` is 0.

    A row is an output channel (or a group) with its own scale and zero_point.
    """
    codes = np.empty(rows.shape, np.int32)
    with np.errstate(over="ignore"):  # far outside the grid: clipped
        steps = rows / scale[:, None]
    for i, row in enumerate(steps):
        codes[i] = _squant_row(row, kernel_size, int(zero_point[i]), qmin, qmax, stage_k, stage_c)
    return codes.astype(np.int8 if qmin < 0 else np.uint8)


def _squant_row(
    steps: NDArray[np.float32],
    kernel_size: int,
    zero_point: int,
    qmin: int,
    qmax: int,
    stage_k: bool,
    stage_c: bool,
) -> NDArray[np.int32]:
    # Stage E: to nearest. A clipped weight keeps its error, so that the others make up for it.
    rounded = np.clip(np.rint(steps), qmin - zero_point, qmax - zero_point)
    with np.errstate(over="ignore"):  # a weight far outside: its error is clipped right here
        scaled = np.clip((rounded - steps) * np.float32(STEP), -FAR, FAR)
    error = np.rint(scaled).astype(np.int64)
    codes = rounded.astype(np.int32) + zero_point
    candidates = Candidates((error < 0) & (codes < qmax), (error > 0) & (codes > qmin))
    if stage_k and kernel_size > 1:
        left = Candidates(np.zeros(len(codes), bool), np.zeros(len(codes), bool))
        for start in range(0, len(codes), kernel_size):
            kernel = slice(start, start + kernel_size)
            _stage_k(codes[kernel], error[kernel], _part(candidates, kernel), _part(left, kernel))
        candidates = left
    if stage_c:
        _flip(codes, error, candidates)
    return codes


def _part(candidates: Candidates, kernel: slice) -> Candidates:
    return Candidates(candidates.up[kernel], candidates.down[kernel])


def _stage_k(
    codes: NDArray[np.int32], error: Errors, candidates: Candidates, left: Candidates
) -> None:
    """Flip within one kernel, and leave at most one candidate for the channel.

    When the kernel's sum was brought past zero, taking the last flip back helps a channel that
    is off in that direction; when it stopped short, the next flip would.
    """
    before = int(error.sum())
    order, flipped = _flip(codes, error, candidates)
    if before == 0:
        return
    same, opposite = (left.up, left.down) if before < 0 else (left.down, left.up)
    if flipped * STEP >= abs(before):
        opposite[order[flipped - 1]] = True
    elif flipped < len(order):
        same[order[flipped]] = True


def _flip(
    codes: NDArray[np.int32], error: Errors, candidates: Candidates
) -> tuple[NDArray[np.intp], int]:
    """Move the codes of largest error to their other neighbour until the sum is within 0.5.

    Returns the candidates of the needed direction, largest error first and ties by position,
    and how many of them were flipped.
    """
    total = int(error.sum())
    if total == 0:
        return np.empty(0, np.intp), 0
    direction, allowed = (1, candidates.up) if total < 0 else (-1, candidates.down)
    places = np.flatnonzero(allowed)
    order = places[np.argsort(-np.abs(error[places]), kind="stable")]
    count = min(_round_half_even(abs(total)), len(order))
    codes[order[:count]] += direction
    error[order[:count]] += direction * STEP
    return order, count


def _round_half_even(error: int) -> int:
    """``error`` in whole steps, to nearest, ties to even."""
    whole, rest = divmod(error, STEP)
    return whole + (2 * rest > STEP or (2 * rest == STEP and whole % 2 == 1))
