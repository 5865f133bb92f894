"""Seeded arrays, ordinary and nasty: small, so that a run takes seconds.

Each family yields (what it is, array). They depend on numpy's own generator of a fixed seed and
on nothing else.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from qsdk.scheme import Granularity, Scheme
from qsdk.testing.check import Case, Inputs

FLOAT32 = np.finfo(np.float32)


def normal(*shape: int, seed: int = 0) -> NDArray[np.float32]:
    """Gaussian values of the generator with that seed."""
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


def _axes(case: Case) -> int:
    """Axes that an array must have for the case's scheme."""
    scheme: Scheme | None = case.facts.get("scheme")
    if scheme is None or scheme.granularity is Granularity.PER_TENSOR:
        return 0
    return max(scheme.axis + 1, -scheme.axis)


def _fitting(case: Case, *arrays: tuple[str, NDArray[Any]]) -> Inputs:
    """Those with enough axes; short shapes get axes of length 1 in front."""
    needed = _axes(case)
    for what, array in arrays:
        missing = max(needed - array.ndim, 0)
        yield (
            what,
            array.reshape((1,) * missing + array.shape)
            if array.ndim
            else array.reshape((1,) * needed),
        )


def one(case: Case) -> Inputs:
    """One ordinary weight."""
    yield from _fitting(case, ("normal", normal(5, 3, 2, 2)))


def some(case: Case) -> Inputs:
    """Two ordinary shapes, odd in every axis."""
    yield from _fitting(case, ("normal", normal(5, 3, 3, 3)), ("matrix", normal(4, 11, seed=1)))


def shapes(case: Case) -> Inputs:
    """One to five axes, axes of length 1, and lengths beside powers of two."""
    sizes = [(7,), (4, 11), (1, 33), (31, 1), (2, 3, 5), (3, 2, 3, 3), (2, 1, 2, 1, 3)]
    yield from _fitting(case, *((str(size), normal(*size, seed=len(size))) for size in sizes))


def empty(case: Case) -> Inputs:
    """No value at all: a length of 0 on any axis."""
    sizes = [(0, 3), (3, 0), (0, 0), (2, 0, 3, 3), (0, 4, 3, 3)]
    yield from _fitting(case, *((f"empty {size}", np.zeros(size, np.float32)) for size in sizes))


def single(case: Case) -> Inputs:
    """One value, with and without axes."""
    for shape in ((), (1,), (1, 1), (1, 1, 1, 1)):
        yield from _fitting(case, (f"single {shape}", np.full(shape, -2.5, np.float32)))


def constants(case: Case) -> Inputs:
    """One value all over."""
    for value in (3.7, -0.01, 1e-30, -1e37):
        yield from _fitting(case, (f"all {value}", np.full((4, 6), value, np.float32)))


def denormals(case: Case) -> Inputs:
    """Values below the smallest normal float."""
    yield from _fitting(case, ("denormals", (normal(4, 11) * 1e-40).astype(np.float32)))
    yield from _fitting(case, ("smallest", np.full((2, 3), FLOAT32.smallest_subnormal, np.float32)))


def huge(case: Case) -> Inputs:
    """Values up to the largest float."""
    weight = normal(4, 11)
    yield from _fitting(case, ("huge", weight / np.abs(weight).max() * FLOAT32.max))
    yield from _fitting(case, ("largest", np.full((2, 3), FLOAT32.max, np.float32)))
    yield from _fitting(case, ("both ends", np.array([[FLOAT32.max, -FLOAT32.max]], np.float32)))


def zeros(case: Case) -> Inputs:
    """Nothing but zeros, of both signs."""
    yield from _fitting(case, ("zeros", np.zeros((3, 7), np.float32)))
    yield from _fitting(case, ("negative zeros", np.full((2, 5), -0.0, np.float32)))


def nasty(case: Case) -> Inputs:
    """Every family above, then outliers, ties, one-sided data and more of random spread."""
    for family in (some, zeros, huge, denormals, single, constants, empty):
        yield from family(case)
    outlier = normal(4, 11)
    outlier[1, 2] = 1e6
    yield from _fitting(
        case,
        ("outlier", outlier),
        ("positive", np.abs(normal(4, 11))),
        ("negative", -np.abs(normal(4, 11)) - 5),
        ("ties", np.arange(-12, 12, dtype=np.float32).reshape(2, 12) / 2),
    )
    for seed in range(1000):
        rng = np.random.default_rng(seed)
        shape = tuple(rng.integers(1, 6, rng.integers(1, 5)))
        spread = rng.standard_normal(shape) * 2.0 ** rng.integers(-20, 20, shape)
        yield from _fitting(case, (f"random {seed}", spread.astype(np.float32)))


def layouts(array: NDArray[Any]) -> dict[str, NDArray[Any]]:
    """``array`` in other memory layouts, equal in value."""
    twice = np.repeat(array, 2, axis=-1)[..., ::2] if array.ndim else array
    return {
        "Fortran order": np.asfortranarray(array),
        "reversed strides": array[::-1].copy()[::-1] if array.ndim else array,
        "every other value": twice,
        "big-endian": array.astype(array.dtype.newbyteorder(">")),
        "unaligned": np.frombuffer(b"x" + array.tobytes(), array.dtype, offset=1).reshape(
            array.shape
        ),
        "read-only": _read_only(array),
    }


def _read_only(array: NDArray[Any]) -> NDArray[Any]:
    copy = array.copy()
    copy.flags.writeable = False
    return copy
