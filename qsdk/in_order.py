"""Work in several threads whose results come in order, a few of them at a time."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Generator, Iterable
from concurrent.futures import Executor, Future, wait
from typing import TypeVar

T = TypeVar("T")
R = TypeVar("R")


def in_order(
    pool: Executor, task: Callable[[T], R], items: Iterable[T], at_once: int
) -> Generator[R, None, None]:
    """What the task gives for each item, while at most so many are under way or wait to be taken.

    Where the task raises, or nobody goes on to take results, no thread stays at work.

    >>> from concurrent.futures import ThreadPoolExecutor
    >>> with ThreadPoolExecutor(2) as pool:
    ...     list(in_order(pool, abs, [-3, 1, -2], at_once=2))
    [3, 1, 2]
    """
    under_way: deque[Future[R]] = deque()
    try:
        for item in items:
            under_way.append(pool.submit(task, item))
            if len(under_way) == at_once:
                yield under_way.popleft().result()
        while under_way:
            yield under_way.popleft().result()
    finally:
        wait(under_way)
