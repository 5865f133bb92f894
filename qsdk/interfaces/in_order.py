"""Work in several threads whose results come in order, a few of them at a time."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Generator, Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

from qsdk import cpu

T = TypeVar("T")
R = TypeVar("R")


def in_order(task: Callable[[T], R], items: Iterable[T]) -> Generator[R, None, None]:
    """What the task gives for each item; as many as there are cores are under way or wait to be
    taken. Once the task raises, or nobody goes on to take results, no thread stays at work.

    >>> list(in_order(abs, [-3, 1, -2]))
    [3, 1, 2]
    """
    under_way: deque[Future[R]] = deque()
    with ThreadPoolExecutor(cpu.cores()) as pool:
        for item in items:
            under_way.append(pool.submit(task, item))
            if len(under_way) == cpu.cores():
                yield under_way.popleft().result()
        while under_way:
            yield under_way.popleft().result()
