"""What ``qsdk compare`` found, and how people read it."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

from qsdk.cli.output import Output
from qsdk.cli.text import decibels, shape_text

if TYPE_CHECKING:
    from qsdk.cli.comparison import Difference, OutputReport
    from qsdk.layer_errors import CodeError, LayerError

OWN_ROWS = 16  # of the first batch, that layers' own errors are taken from
NAMED = 5  # worst ones


class Found:
    """What running both models tells; empty where they did not run.

    tensors : what layers give, on the first batch
    own, codes : errors of layers and of coded tensors by themselves, on its first rows
    """

    def __init__(self) -> None:
        self.tensors: dict[str, Difference] = {}
        self.own: dict[str, LayerError] = {}
        self.codes: dict[str, CodeError] = {}
        self.outputs: list[OutputReport] = []


def show(output: Output, rows: list[dict[str, Any]], found: Found) -> None:
    _show_layers(output, rows, found.tensors)
    if found.own:
        output.say()
        _show_own(output, found.own)
    _say_worst(output, rows, found)
    _show_outputs(output, found.outputs)


def _show_layers(
    output: Output, rows: list[dict[str, Any]], tensors: dict[str, Difference]
) -> None:
    heads = ["layer", "shape", "from -> to", ">SQNR dB", ">cosine", ">max error"]
    cells = []
    for row in rows:
        weight, tensor = row["weight"], tensors.get(row["name"])
        cells.append(
            [
                row["name"],
                shape_text(row["shape"]),
                " -> ".join(row["stored"]),
                decibels(weight["sqnr_db"]),
                f"{weight['cosine']:.5f}",
                f"{weight['max_error']:.3g}",
                *([decibels(tensor.sqnr_db) if tensor else "-"] if tensors else []),
            ]
        )
    output.table([*heads, *([">output dB"] if tensors else [])], cells)


def _show_own(output: Output, own: dict[str, LayerError]) -> None:
    """The second table: each layer by itself, on inputs of the float model."""
    output.table(
        ["layer by itself", ">own dB", ">cosine", ">clipping", ">rounding", ">saturation",
         ">clipped", "mostly"],
        [
            (
                name,
                decibels(error.sqnr_db),
                f"{error.cosine:.5f}",
                *(_part(getattr(error, f"{part}_db")) for part in
                  ("clipping", "rounding", "saturation")),
                f"{error.clipped:.3%}",
                error.cause,
            )
            for name, error in own.items()
        ],
    )  # fmt: skip


def _part(value: float) -> str:
    return "-" if value == math.inf else f"{value:.2f}"


def _say_worst(output: Output, rows: list[dict[str, Any]], found: Found) -> None:
    worst = sorted(rows, key=lambda row: row["weight"]["sqnr_db"])[:NAMED]
    named = ", ".join(f"{x['name']} ({decibels(x['weight']['sqnr_db'])} dB)" for x in worst)
    output.say(f"\nworst weights: {named}")
    if found.tensors:
        low = sorted(found.tensors.items(), key=lambda item: item[1].sqnr_db)[:NAMED]
        named = ", ".join(f"{name} ({decibels(x.sqnr_db)} dB)" for name, x in low)
        output.say(f"worst layer outputs, first batch: {named}")
    errors = sorted(found.own.items(), key=lambda item: item[1].worst_db)
    lossy = [(name, error) for name, error in errors if error.cause][:NAMED]
    if lossy:
        named = ", ".join(f"{name} ({x.worst_db:.2f} dB, {x.cause})" for name, x in lossy)
        output.say(f"worst by themselves: {named}")
    clipping = sorted(found.codes.items(), key=lambda item: item[1].clipping_db)[:NAMED]
    clipping = [(name, x) for name, x in clipping if x.clipped]
    if clipping:
        named = ", ".join(
            f"{name} ({x.clipped:.3%}, {x.clipping_db:.2f} dB)" for name, x in clipping
        )
        output.say(f"most clipped tensors: {named}")


def _show_outputs(output: Output, outputs: list[OutputReport]) -> None:
    for report in outputs:
        text = (
            f"output {report.name}, {report.rows} rows: "
            f"SQNR {decibels(report.difference.sqnr_db)} dB, "
            f"cosine {report.difference.cosine:.5f}, "
            f"max error {report.difference.max_error:.3g}"
        )
        if report.agreement is not None:
            text += f", same argmax {100 * report.agreement:.2f} %"
        output.say(text)
        if report.top1 is not None:
            a, b = (100 * share for share in report.top1)
            output.say(f"top-1: float {a:.2f} %, quantized {b:.2f} % ({b - a:+.2f} points)")
