"""How far long work has come: a bar on a terminal, now and then a line in a log."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator

import click

from qsdk.cli.text import printable

Advance = Callable[[int, int, str], None]  # (done, in all or 0, name)

SECONDS_BETWEEN_LINES = 3.0


@contextlib.contextmanager
def lines(what: str, between: float = SECONDS_BETWEEN_LINES) -> Iterator[Advance]:
    """A line on standard error at most every ``between`` seconds; none for short work."""
    start = last = time.monotonic()

    def report(done: int, total: int, name: str) -> None:
        nonlocal last
        if time.monotonic() - last >= between:
            last = time.monotonic()
            of = f" of {total}{time_left(done, total, last - start)}" if total else ""
            click.echo(printable(f"{what}: {done}{of} {name}").rstrip(), err=True)

    yield report


def time_left(done: int, total: int, seconds: float) -> str:
    """What is left if the rest goes like the part done; empty where nothing can be told.

    >>> time_left(10, 40, 20.0), time_left(1, 100, 60.0), time_left(0, 5, 1.0)
    (', 60 s left', ', 99 min left', '')
    """
    if not 0 < done < total:
        return ""
    left = seconds / done * (total - done)
    return f", {left:.0f} s left" if left < 120 else f", {left / 60:.0f} min left"


@contextlib.contextmanager
def bar(what: str) -> Iterator[Advance]:
    """A bar on standard error that is gone when the work is done."""
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        TextColumn,
        TimeElapsedColumn,
        TimeRemainingColumn,
    )

    progress = Progress(
        TextColumn(what),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
        TextColumn("{task.description}", markup=False),
        console=Console(stderr=True),
        transient=True,
    )
    with progress:
        task = progress.add_task("", total=1)

        def report(done: int, total: int, name: str) -> None:
            progress.update(task, completed=done, total=total or None, description=printable(name))

        yield report
