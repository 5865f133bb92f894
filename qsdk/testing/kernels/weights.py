"""Weights to prepare: affine ones made here, others from the quantizers that give them."""

from __future__ import annotations

import contextlib
import functools
import itertools
from collections.abc import Callable, Iterator

import attrs
import numpy as np
from numpy.typing import NDArray

from qsdk.encodings import Affine, Encoding
from qsdk.errors import QsdkError, SchemeError
from qsdk.interfaces import Kernel
from qsdk.plugins import Entry
from qsdk.registry import entries
from qsdk.scheme import Granularity, Scheme, Slices
from qsdk.testing.check import NotApplicable
from qsdk.testing.encodings import makers

# (shape, fill, seed) -> weight; fill is one of FILLS
Make = Callable[[tuple[int, ...], str, int], Encoding]
RANDOM, LOWEST, HIGHEST, ALTERNATING = "random", "lowest", "highest", "alternating"
EXTREMES = (LOWEST, HIGHEST, ALTERNATING)
GROUPS = (4, 32, 1, 2, 3, 8, 64)  # times the multiple that a kernel declares

GRIDS = (  # from the hardest to the mildest; a kernel may refuse some
    {"signed": False},
    {"signed": True},
    {"signed": True, "symmetric": True},
    {"signed": True, "symmetric": True, "narrow_range": True},
)


@attrs.frozen
class AffineWeights:
    """Affine weights of one scheme; ``share`` of the grid is used, around its zero_point."""

    scheme: Scheme
    share: float = 1.0

    @functools.lru_cache(maxsize=1024)  # noqa: B019 - of equal ones, which each kernel has
    def __call__(self, shape: tuple[int, ...], fill: str, seed: int) -> Encoding:
        rng, scheme = np.random.default_rng(seed), self.scheme
        params = Slices(scheme, shape).params_shape
        zero_point = self._zero_point(rng, params, fill)
        scale = rng.uniform(0.5, 1.5, params).astype(np.float32) * np.float32(2.0**-scheme.bits)
        return Affine.from_codes(self._codes(rng, shape, fill), scale, zero_point, scheme)

    def _zero_point(
        self, rng: np.random.Generator, params: tuple[int, ...], fill: str
    ) -> NDArray[np.int64]:
        if self.scheme.symmetric or self.share < 1:
            return np.full(params, max(self.scheme.qmin, 0), np.int64)
        if fill in (LOWEST, HIGHEST):  # as far from the codes as can be
            far = self.scheme.qmax if fill == LOWEST else self.scheme.qmin
            return np.full(params, far, np.int64)
        return rng.integers(self.scheme.qmin, self.scheme.qmax, params, endpoint=True)

    def _codes(
        self, rng: np.random.Generator, shape: tuple[int, ...], fill: str
    ) -> NDArray[np.int64]:
        low, high = (int(end * self.share) for end in (self.scheme.qmin, self.scheme.qmax))
        if fill == RANDOM:
            return rng.integers(low, high, shape, endpoint=True)
        ends = {LOWEST: (low, low), HIGHEST: (high, high), ALTERNATING: (high, low)}[fill]
        return np.resize(np.array(ends, np.int64), shape)


def affine_weights(kernel: Kernel, bits: int, granularity: str) -> Iterator[Make]:
    """Every grid and group size with these limits, for the kernel to choose from."""
    groups: list[int | None] = [None]
    if granularity == Granularity.PER_GROUP:
        groups = [size * kernel.group_multiple for size in GROUPS]
    for share, grid, group in itertools.product((1.0, 0.25), GRIDS, groups):
        try:
            scheme = Scheme(bits=bits, granularity=granularity, group_size=group, **grid)
        except SchemeError:
            continue
        yield AffineWeights(scheme, share)


def encoded_weights(encoding: str) -> tuple[tuple[str, Make], ...]:
    """What every quantizer makes that gives this encoding, or the example of its class."""
    entry = next(entry for entry in entries("encoding") if entry.name == encoding)
    return _encoded_weights(entry, tuple(entries("quantizer")))


@functools.lru_cache
def _encoded_weights(
    encoding: Entry, quantizers: tuple[Entry, ...]
) -> tuple[tuple[str, Make], ...]:
    """One for all kernels, and each weight made once; ``quantizers`` are those of the registry."""
    found: list[tuple[str, Make]] = []
    for label, make in makers(encoding.target):
        quantized = functools.lru_cache(functools.partial(_quantized, label, make))
        with contextlib.suppress(QsdkError, NotApplicable):  # its own contract's business
            if isinstance(quantized((4, 32), RANDOM, 0), encoding.target):
                found.append((label, quantized))
    return tuple(found)


def _quantized(
    label: str, make: Callable[..., Encoding], shape: tuple[int, ...], fill: str, seed: int
) -> Encoding:
    floats = np.random.default_rng(seed).standard_normal(shape).astype(np.float32)
    if fill != RANDOM:
        ends = {LOWEST: (-1, -1), HIGHEST: (1, 1), ALTERNATING: (1, -1)}[fill]
        floats = np.resize(np.array(ends, np.float32), shape)
    try:
        return make(floats)
    except QsdkError as error:
        raise NotApplicable(f"{label} takes no weight of shape {shape}: {error}") from None
