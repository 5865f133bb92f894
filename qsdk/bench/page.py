"""The results of ``qsdk bench`` as one HTML file with a picture per table."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING

from qsdk.bench.machine import Machine
from qsdk.bench.peers import SAME
from qsdk.bench.run import Result
from qsdk.bench.tables import BESIDE, groups, notes, ratio_text, skipped, table
from qsdk.html_page import items, page, svg
from qsdk.html_page import table as html_table

if TYPE_CHECKING:
    from matplotlib.figure import Figure

BLUE, GREY = "#3b6ea5", "#9aa5b1"
HOW = (
    "All libraries took turns in one process; times are the best of {rounds} rounds. A bar shows "
    "how many times longer than qsdk the fastest other library takes: right of the line qsdk is "
    "faster. Blue: the same work; grey: what qsdk's work stands in for."
)


def write_page(
    path: Path, machine: Machine, rounds: int, results: Sequence[Result], command: str
) -> None:
    """Write it, atomically."""
    from qsdk.storage import write_atomic

    html = render(machine, rounds, results, command)
    with write_atomic(path) as file:
        file.write(html.encode("utf-8", "backslashreplace"))


def render(machine: Machine, rounds: int, results: Sequence[Result], command: str) -> str:
    parts = [items(machine.lines()), f"<p>{HOW.format(rounds=rounds)}</p>"]
    for title, group in groups(results).items():
        heads, rows = table(group)
        if rows:
            parts.append(f"<h2>{escape(title)}</h2>")
            parts.append(svg(_figure(group)))
            parts.append(html_table([head.lstrip(">") for head in heads], rows))
    parts += ["<h2>Notes</h2>", items([*skipped(results), *notes(results)])]
    parts += ["<h2>To run it again</h2>", f"<pre>{escape(command)}</pre>"]
    return page("kernels beside other libraries", "\n".join(parts))


def _figure(results: Sequence[Result]) -> Figure:
    """A bar per shape and kind of peer, first shape on top."""
    from matplotlib.figure import Figure

    bars = [
        (str(result.case.work), kind, ratio)
        for result in results
        for kind in result.kinds
        if (ratio := result.ratio(kind)) is not None
    ]
    figure = Figure(figsize=(8, 0.9 + 0.26 * len(bars)), layout="constrained")
    axes = figure.subplots()
    places = range(len(bars))
    colours = [BLUE if kind == SAME else GREY for _, kind, _ in bars]
    axes.barh(places, [ratio - 1 for *_, ratio in bars], left=1, color=colours, height=0.7)
    for place, (*_, ratio) in zip(places, bars, strict=True):
        axes.text(max(ratio, 1), place, f" {ratio_text(ratio)}", va="center", fontsize=8)
    labels = [f"{work}, {BESIDE.get(kind, 'same work')}" for work, kind, _ in bars]
    axes.set_yticks(places, labels, fontsize=8, parse_math=False)
    axes.set_xscale("log")
    axes.margins(x=0.15)
    axes.invert_yaxis()
    axes.axvline(1, color="black", linewidth=0.8)
    axes.set_xlabel("times as fast as the best of them")
    axes.spines[["top", "right"]].set_visible(False)
    return figure
