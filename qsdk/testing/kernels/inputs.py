"""Inputs for layers: floats, and codes where scale and zero_point are fixed."""

from __future__ import annotations

import itertools

import numpy as np

from qsdk.interfaces import Activations
from qsdk.testing.check import Array, Case, Inputs
from qsdk.testing.corpus import normal
from qsdk.testing.kernels.bench import Bench

LENGTHS = (0, 1, 2, 3, 7, 8, 9, 15, 16, 17, 31, 32, 33, 48, 63, 64, 65, 96, 127, 128, 129)
LONG = (255, 256, 257, 511)
ROWS = (1, 3, 2, 5)
IMAGES = (  # (batch, channels, length...): around the channels that one instruction takes
    (1, 1, 5, 5), (2, 3, 7, 6), (1, 4, 1, 1), (1, 8, 4, 9), (2, 15, 3, 3), (1, 16, 8, 8),
    (1, 17, 5, 4), (1, 31, 2, 3), (3, 32, 4, 4), (1, 33, 3, 5), (1, 64, 2, 2), (1, 65, 3, 3),
    (1, 3, 17), (2, 16, 9), (1, 5, 33), (1, 1, 1), (1, 3, 33, 3), (1, 2, 1, 20), (1, 128, 3, 3),
    (1, 6, 4, 1), (2, 5, 7, 1),
)  # fmt: skip


def bench_of(case: Case) -> Bench:
    bench: Bench = case.facts["bench"]
    return bench


def is_conv(case: Case) -> bool:
    return bench_of(case).kernel.operation == "conv"


def _filled(case: Case, *shapes: tuple[int, ...]) -> Inputs:
    """Normal floats of these shapes; every other one is of codes where those are taken."""
    activations = Activations(form=bench_of(case).given)
    for turn, shape in enumerate(shapes):
        if activations.is_fixed and turn % 2:
            info = np.iinfo(activations.dtype)
            codes = np.random.default_rng(turn).integers(info.min, info.max, shape, endpoint=True)
            yield f"codes {shape}", codes.astype(activations.dtype)
        else:
            yield f"floats {shape}", normal(*shape, seed=turn) * np.float32(2.5)


def lengths(case: Case) -> Inputs:
    """Lengths beside those that instructions and blocks have."""
    if is_conv(case):
        yield from _filled(case, *IMAGES)
    else:
        rows = itertools.cycle(ROWS)
        yield from _filled(case, *((next(rows), length) for length in (*LENGTHS, *LONG)))


def counts(case: Case) -> Inputs:
    """No row, one, and several; linear layers take any number of axes in front."""
    if is_conv(case):
        yield from _filled(case, *((count, 3, 5, 4) for count in (0, 0, 1, 1, 2, 7)))
        return
    yield from _filled(case, (0, 32), (0, 32), (1, 64), (4, 33), (9, 64), (17, 32), (23, 65))
    yield from _filled(case, (32,), (64,), (2, 3, 32), (1, 0, 32), (2, 1, 2, 64))


def some(case: Case) -> Inputs:
    """One of floats, one of codes where those are taken, odd and even."""
    shapes = ((3, 5, 6, 7), (2, 16, 5, 5)) if is_conv(case) else ((3, 64), (5, 96), (4, 37))
    yield from _filled(case, *shapes)


def one(case: Case) -> Inputs:
    """One of floats."""
    yield from _filled(case, (2, 16, 5, 5) if is_conv(case) else (3, 64))


def large(case: Case) -> Inputs:
    """Enough work for several threads."""
    yield from _filled(case, (8, 16, 20, 21) if is_conv(case) else (130, 384))


def extremes(case: Case) -> Inputs:
    """The ends of the input's grid all over, and in turns."""
    activations = Activations(form=bench_of(case).given)
    shapes = (
        ((1, 64, 3, 3), (2, 33, 4)) if is_conv(case) else ((2, 64), (1, 511), (3, 256), (1, 33))
    )
    info = np.iinfo(np.int8 if not activations.is_fixed else activations.dtype)
    for shape, ends in itertools.product(shapes, ((0, 0), (1, 1), (0, 1))):
        limits = (info.min, info.max)
        pattern = np.array([limits[end] for end in ends])
        array = np.resize(pattern, shape)
        what = f"all {limits[ends[0]]}" if ends[0] == ends[1] else "both ends in turns"
        floats = array.astype(np.float32) / 16
        yield what, array.astype(info.dtype) if activations.is_fixed else floats


def spoiled(x: Array, row: int, value: float) -> Array:
    """``x`` with one value in the middle of a row (an image) that is ``value``."""
    other = x.copy()
    flat = other.reshape(len(other), -1)
    flat[row, flat.shape[1] // 2] = value
    return other
