"""A report of one run as one HTML file: nothing in it comes from anywhere else.

Pictures are SVG made by matplotlib, the extra ``report``.
"""

from __future__ import annotations

import json
import math
import os
import platform
from collections.abc import Mapping, Sequence
from html import escape
from importlib.util import find_spec
from pathlib import Path
from string import Template
from typing import TYPE_CHECKING

from qsdk.errors import MissingExtraError, OptionError
from qsdk.html_page import items, page, svg, table
from qsdk.report import LayerReport, Report

if TYPE_CHECKING:
    from matplotlib.figure import Figure

Histogram = tuple[Sequence[int], Sequence[int]]

BLUE, RED = "#3b6ea5", "#c0504d"
NO_HISTOGRAMS = (
    "None: the output took the place of the input, or these layers have no integer codes."
)


def check_report(path: Path, *others: Path | None) -> None:
    """Find out before long work whether :func:`write_report` can write ``path``.

    others : files of the same run that the report must not take the place of
    Raises MissingExtraError without matplotlib, OptionError where no file can be.
    """
    if find_spec("matplotlib") is None:
        raise MissingExtraError("matplotlib", "report")
    folder = path.resolve().parent
    if not folder.is_dir():
        raise OptionError(f"--report {str(path)!r}: there is no folder {str(folder)!r}")
    if not os.access(folder, os.W_OK):
        raise OptionError(f"--report {str(path)!r}: the folder cannot be written to")
    if path.is_dir():
        raise OptionError(f"--report {str(path)!r} is a folder; give a file name")
    if path.resolve() in {other.resolve() for other in others if other}:
        raise OptionError(f"--report {str(path)!r} is the model's own file; give another name")


def write_report(
    path: Path, report: Report, histograms: Mapping[str, Histogram], command: str
) -> None:
    """Write ``report`` as HTML, atomically.

    histograms : for the worst layers, codes and how often each occurs
    command : what to type to run it again
    """
    from qsdk.storage import write_atomic

    page = render(report, histograms, command)
    with write_atomic(path) as file:
        file.write(page.encode("utf-8", "backslashreplace"))


def render(report: Report, histograms: Mapping[str, Histogram], command: str) -> str:
    """The page."""
    body = Template(_BODY).substitute(
        facts=table([], _facts(report)),
        worst=escape(", ".join(f"{x.name} ({_decibels(x.sqnr_db)} dB)" for x in report.worst)),
        sqnr=svg(_sqnr_figure(report.layers, {x.name for x in report.worst})),
        histograms=svg(_code_figure(histograms)) if histograms else f"<p>{NO_HISTOGRAMS}</p>",
        layers=table(_HEADS, [_cells(layer) for layer in report.layers]),
        kept=items(f"{name}: {reason}" for name, reason in report.kept.items()),
        notes=items(report.notes),
        settings=escape(json.dumps(report.recipe, indent=2)),
        versions=table([], _versions(report)),
        command=escape(command),
    )
    return page(f"{report.source} to {report.output}", body)


def _facts(report: Report) -> list[tuple[str, ...]]:
    before, after = report.file_bytes_before, report.file_bytes_after
    return [
        ("layers", f"{len(report.layers)} quantized, {len(report.kept)} kept as they are"),
        ("weights", f"{report.nbytes_before:,} to {report.nbytes_after:,} bytes, "
                    f"{report.ratio:.2f} times smaller"),
        ("bits per weight", f"{report.bits_per_weight:.2f}, scales and zero points included"),
        ("file", f"{before:,} to {after:,} bytes, {before / max(after, 1):.2f} times smaller"),
        ("time", f"{report.seconds:.2f} s"),
    ]  # fmt: skip


def _versions(report: Report) -> list[tuple[str, ...]]:
    import numpy as np

    import qsdk
    from qsdk.registry import registry

    methods = sorted({layer.method for layer in report.layers})
    found = [(name, registry.find(f"quantizer:{name}").origin) for name in methods]
    return [
        ("qsdk", qsdk.__version__),
        *found,
        ("numpy", np.__version__),
        ("Python", platform.python_version()),
        ("platform", platform.platform()),
    ]


_HEADS = ("layer", "operation", "shape", "from", "to", "bytes", "SQNR dB", "max error", "seconds")


def _cells(layer: LayerReport) -> tuple[str, ...]:
    return (
        layer.name,
        layer.operation,
        " × ".join(map(str, layer.shape)),
        layer.stored_before,
        layer.stored_after,
        f"{layer.nbytes_before:,} to {layer.nbytes_after:,}",
        _decibels(layer.sqnr_db),
        f"{layer.max_error:.3g}",
        f"{layer.seconds:.3f}",
    )


def _decibels(value: float) -> str:
    return "exact" if value == math.inf else f"{value:.2f}"


def _sqnr_figure(layers: Sequence[LayerReport], worst: set[str]) -> Figure:
    """A bar per layer, first layer on top; exact layers reach to the end."""
    from matplotlib.figure import Figure

    finite = [x.sqnr_db for x in layers if math.isfinite(x.sqnr_db)]
    most = max([1.0, *finite]) * 1.05
    values = [x.sqnr_db if math.isfinite(x.sqnr_db) else most for x in layers]
    figure = Figure(figsize=(8, 0.9 + 0.24 * len(layers)), layout="constrained")
    axes = figure.subplots()
    bars = axes.barh(range(len(layers)), values, color=BLUE, height=0.7)
    for bar, layer in zip(bars, layers, strict=True):
        bar.set_color(RED if layer.name in worst else BLUE)
        end = bar.get_width() + most / 100
        axes.text(end, bar.get_y() + 0.35, _decibels(layer.sqnr_db), va="center", fontsize=8)
    axes.set_yticks(range(len(layers)), [_short(x.name) for x in layers], fontsize=8,
                    parse_math=False)  # fmt: skip
    axes.set_ylim(len(layers) - 0.4, -0.6)
    axes.set_xlim(min([0.0, *finite]), most * 1.1)
    axes.set_xlabel("SQNR of the weight, dB (higher is better)")
    axes.spines[["top", "right"]].set_visible(False)
    return figure


def _code_figure(histograms: Mapping[str, Histogram]) -> Figure:
    """A small picture per layer, worst first."""
    from matplotlib.figure import Figure
    from matplotlib.ticker import MaxNLocator

    columns = min(3, len(histograms))
    rows = -(-len(histograms) // columns)
    figure = Figure(figsize=(2.7 * columns, 2.3 * rows), layout="constrained")
    grid = figure.subplots(rows, columns, squeeze=False).reshape(-1)
    for axes, (name, (codes, counts)) in zip(grid, histograms.items(), strict=False):
        axes.bar(codes, counts, width=0.9, color=RED)
        axes.set_title(_short(name), fontsize=9, parse_math=False)
        axes.tick_params(labelsize=7)
        axes.set_xlabel("code", fontsize=8)
        axes.xaxis.set_major_locator(MaxNLocator(nbins=6, integer=True))
        axes.spines[["top", "right"]].set_visible(False)
    for axes in grid[len(histograms) :]:
        axes.set_visible(False)
    return figure


def _short(name: str, most: int = 40) -> str:
    """The end of a long name tells layers apart; the table has it whole."""
    name = "".join(c if c.isprintable() else "?" for c in name)
    return name if len(name) <= most else "..." + name[3 - most :]


_BODY = """$facts
<p>Lowest SQNR, red below: <strong>$worst</strong></p>
<h2>SQNR per layer</h2>
$sqnr
<h2>Codes of the worst layers</h2>
<p>How often each code occurs. Where most weights fall on a few codes, a few large weights set
the scale: groups, another range_rule or more bits help such a layer.</p>
$histograms
<h2>Layers</h2>
$layers
<h2>Kept as they are</h2>
$kept
<h2>Notes</h2>
$notes
<h2>Settings and versions</h2>
<pre>$settings</pre>
$versions
<h2>To run it again</h2>
<pre>$command</pre>"""
