"""Each operation on one thread and on several, in turn.

    python tests/bench/two_threads.py [--threads 2] [--seconds 4]

Times are the best of what was tried in those seconds: several threads need every core quiet at
once, which takes tries where neighbours are at work. Beside the ratio: what the weights are, in
MB, and how fast they are read on all threads, in GB/s; first how fast memory itself is read, by one
thread and by all.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import attrs
import numpy as np

import qsdk

LINEAR = [
    ("W2A2", 1, 4096, 1024),
    ("W2A2", 16, 4096, 1024),
    ("W2A2", 64, 4096, 1024),
    ("W2A2", 1, 42000, 1024),
    ("W3A3", 1, 4096, 1024),
    ("int8", 1, 4096, 4096),
    ("int8", 16, 4096, 4096),
    ("int8", 128, 4096, 4096),
    ("int8", 512, 1024, 1024),
    ("int8", 3136, 64, 576),
    ("int4 g32", 1, 4096, 4096),
    ("int4 g32", 16, 4096, 4096),
]
CONV = [(1, 16, 32, 1), (32, 16, 32, 1), (32, 64, 8, 1), (1, 128, 56, 128), (32, 128, 56, 128)]
READ_MB = 256


@attrs.frozen
class Work:
    """A call for each number of threads; ``nbytes`` of weights."""

    name: str
    calls: list[Callable[[], object]]
    nbytes: int


def works(threads: int) -> Iterator[Work]:
    rng = np.random.default_rng(0)
    for form, m, n, k in LINEAR:
        x = rng.standard_normal((m, k)).astype(np.float32)
        weight = rng.standard_normal((n, k)).astype(np.float32)
        encoding, activations = coded(form, weight)
        layers = [
            qsdk.linear(encoding, activations=activations, threads=count) for count in (1, threads)
        ]
        yield Work(f"{form} {m}x{n}x{k}", [calling(layer, x) for layer in layers], encoding.nbytes)
    for batch, channels, size, groups in CONV:
        x = rng.standard_normal((batch, channels, size, size)).astype(np.float32)
        weight = rng.standard_normal((channels, channels // groups, 3, 3)).astype(np.float32)
        encoding, _ = coded("int8", weight)
        form = qsdk.Activations(form="fixed_uint8", scale=0.03, zero_point=128)
        layers = [
            qsdk.conv(encoding, activations=form, padding=1, groups=groups, threads=count)
            for count in (1, threads)
        ]
        kind = "depthwise" if groups > 1 else "conv"
        name = f"{kind} 3x3 {batch}x{channels}x{size}x{size}"
        yield Work(name, [calling(layer, x) for layer in layers], encoding.nbytes)


def coded(form: str, weight: np.ndarray) -> tuple[Any, str]:
    if form.startswith("W"):
        bits = int(form[1])
        return qsdk.registry.get("greedy", bits=bits).quantize(weight), f"binary{bits}"
    words = (
        {"bits": 4, "granularity": "per_group", "group_size": 32} if " " in form else {"bits": 8}
    )
    return qsdk.registry.get("rtn", symmetric=True, **words).quantize(weight), "int8"


def calling(layer: Any, x: np.ndarray) -> Callable[[], object]:
    y = layer(x)
    return lambda: layer(x, out=y)


def best(calls: list[Callable[[], object]], seconds: float) -> list[float]:
    times = [float("inf")] * len(calls)
    end = time.perf_counter() + seconds
    while time.perf_counter() < end:
        for i, call in enumerate(calls):
            call()  # its threads are awake, its weights where they are after a call
            start = time.perf_counter()
            call()
            times[i] = min(times[i], time.perf_counter() - start)
    return times


def bandwidth(threads: int) -> float:
    """GB/s in which the slowest of so many threads reads memory that no cache holds."""
    arrays = [np.ones(READ_MB * 2**18, np.float32) for _ in range(threads)]
    with ThreadPoolExecutor(threads) as pool:
        (took,) = best([lambda: list(pool.map(np.max, arrays))], 2)
    return sum(array.nbytes for array in arrays) / took / 1e9


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, add_help=True)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--seconds", type=float, default=4)
    given = parser.parse_args()
    read = [bandwidth(count) for count in (1, given.threads)]
    print(f"memory is read at {read[0]:.1f} GB/s, on {given.threads} threads at {read[1]:.1f}")
    for work in works(given.threads):
        one, several = best(work.calls, given.seconds)
        print(
            f"{work.name:28} {one * 1e6:9.1f} us {several * 1e6:9.1f} us {one / several:5.2f}x"
            f" {work.nbytes / 1e6:7.2f} MB {work.nbytes / several / 1e9:6.1f} GB/s",
            flush=True,
        )


if __name__ == "__main__":
    main()
