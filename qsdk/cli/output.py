"""Where results, notes and tables go: a terminal, a log, or one JSON document."""

from __future__ import annotations

import json
import math
import sys
from collections.abc import Iterable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import click

from qsdk.cli.progress import Advance, bar, lines
from qsdk.cli.text import printable

SCHEMA_VERSION = 1  # of the documents of verbs; a report brings its own


class Output:
    """The results of one verb.

    as_json : results go into one document, and nothing else is on standard output
    quiet : nothing but errors, and the document if it is wanted
    """

    def __init__(self, *, as_json: bool = False, quiet: bool = False):
        self.as_json = as_json
        self.quiet = quiet

    def document(self, content: Mapping[str, Any]) -> None:
        """Print the JSON document, if it is wanted; call once."""
        if self.as_json:
            whole = plain({"schema_version": SCHEMA_VERSION, **content})
            click.echo(json.dumps(whole, indent=2, allow_nan=False))

    def say(self, text: str = "") -> None:
        """A line of the result, for people."""
        if not (self.as_json or self.quiet):
            click.echo("\n".join(printable(line) for line in text.splitlines()))

    def note(self, text: str) -> None:
        """Something beside the result."""
        if not self.quiet:
            click.echo(printable(text), err=True)

    def table(self, columns: Sequence[str], rows: Iterable[Sequence[str]]) -> None:
        """Rows of text; a column whose head begins with ``>`` stands to the right."""
        if self.as_json or self.quiet:
            return
        texts = [[printable(cell) for cell in row] for row in rows]
        if sys.stdout.isatty():
            _rich_table(columns, texts)
        else:
            click.echo(plain_table(columns, texts))

    def progress(self, what: str) -> AbstractContextManager[Advance]:
        """A function of (done, total, name) that shows how far long work has come."""
        if self.quiet:
            return nullcontext(lambda done, total, name: None)
        return bar(what) if sys.stderr.isatty() else lines(what)


def plain(value: Any) -> Any:
    """``value`` as strict JSON has it: what is not finite is null, numpy's numbers are numbers."""
    if isinstance(value, Mapping):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple, set, frozenset)):
        return [plain(item) for item in value]
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if value is None or isinstance(value, (str, bool, int)):
        return value
    return plain(value.tolist()) if hasattr(value, "tolist") else str(value)


def plain_table(columns: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Columns as wide as what is in them: nothing is cut.

    >>> print(plain_table(["name", ">bytes"], [["conv1", "12"]]))
    name   bytes
    conv1     12
    """
    heads = [column.lstrip(">") for column in columns]
    whole = [heads, *rows]
    widths = [max(map(len, column)) for column in zip(*whole, strict=True)]
    right = [column.startswith(">") for column in columns]
    return "\n".join(
        "  ".join(
            cell.rjust(width) if to_right else cell.ljust(width)
            for cell, width, to_right in zip(row, widths, right, strict=True)
        ).rstrip()
        for row in whole
    )


UNBROKEN = 20  # columns of up to so many characters are not folded as long as others can be


def _rich_table(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    console = Console(highlight=False)
    widths = [max(map(len, column)) for column in zip(columns, *rows, strict=True)]
    fits = sum(min(width, UNBROKEN) + 2 for width in widths) <= console.width
    table = Table(box=None, padding=(0, 2, 0, 0), pad_edge=False)
    for column, width in zip(columns, widths, strict=True):
        justify: Any = "right" if column.startswith(">") else "left"
        whole = fits and width <= UNBROKEN
        table.add_column(column.lstrip(">"), justify=justify, overflow="fold", no_wrap=whole)
    for row in rows:
        table.add_row(*(Text(cell) for cell in row))
    console.print(table)
