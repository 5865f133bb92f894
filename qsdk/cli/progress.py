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
    last = time.monotonic()

    def report(done: int, total: int, name: str) -> None:
        nonlocal last
        if time.monotonic() - last >= between:
            last = time.monotonic()
            of = f" of {total}" if total else ""
            click.echo(printable(f"{what}: {done}{of} {name}").rstrip(), err=True)

    yield report


@contextlib.contextmanager
def bar(what: str) -> Iterator[Advance]:
    """A bar on standard error that is gone when the work is done."""
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

    progress = Progress(
        TextColumn(what),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TextColumn("{task.description}", markup=False),
        console=Console(stderr=True),
        transient=True,
    )
    with progress:
        task = progress.add_task("", total=1)

        def report(done: int, total: int, name: str) -> None:
            progress.update(task, completed=done, total=total or None, description=printable(name))

        yield report
