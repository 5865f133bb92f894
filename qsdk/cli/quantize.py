"""``qsdk quantize``: a model file in, a smaller one out."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from qsdk.cli.output import Output
from qsdk.cli.text import by_reason, decibels, shape_text, size_text
from qsdk.cli.verb import verb

if TYPE_CHECKING:
    from qsdk.recipe import Recipe
    from qsdk.report import Report

FILE = click.Path(path_type=Path)


@verb("quantize")
@click.argument("model", type=FILE)
@click.option("-o", "--output", "target", type=FILE, help="The file to write; may be MODEL.")
@click.option("--method", help="A quantizer of `qsdk list quantizer`.  [default: squant]")
@click.option("--bits", type=int, help="Bits per weight.  [default: the quantizer's own]")
@click.option("--group-size", type=int, metavar="N", help="So many weights share one scale.")
@click.option("--symmetric", is_flag=True, default=None, help="Keep zero_point at 0.")
@click.option("--option", "options", multiple=True, metavar="KEY=VALUE",
              help="An option of `qsdk describe METHOD`; may be repeated.")  # fmt: skip
@click.option("--activations", metavar="METHOD",
              help="Code activations: an observer, with --calibration, or a word such as binary2."
              "  [default: floats]")  # fmt: skip
@click.option("--activation-bits", type=int, metavar="N", help="Bits of these codes.")
@click.option("--activation-option", "activation_options", multiple=True, metavar="KEY=VALUE",
              help="An option of that METHOD; may be repeated.")  # fmt: skip
@click.option("--calibration", metavar="DATA",
              help="Samples without labels: an .npz, an .npy, or module:function.")  # fmt: skip
@click.option("--batch-size", type=click.IntRange(min=1), default=32, show_default=True,
              help="Samples of DATA in a batch.")  # fmt: skip
@click.option("--calibration-state", "state", type=FILE,
              help="Keep statistics here, and go on from them after an interruption.")  # fmt: skip
@click.option("--max-memory", type=click.IntRange(min=1), metavar="MB",
              help="Of statistics and tensors, beside what the model takes to run.")  # fmt: skip
@click.option("--recipe", metavar="NAME|FILE",
              help="One of `qsdk list recipe`, or a TOML file; words given here win.")  # fmt: skip
@click.option("--include", multiple=True, metavar="GLOB", help="Only layers of these names.")
@click.option("--exclude", multiple=True, metavar="GLOB", help="Leave these layers in float.")
@click.option("--report", "report_file", type=FILE, help="Write an HTML report with plots.")
@click.option("--dry-run", is_flag=True, help="Check everything, show the plan, write nothing.")
@click.option("--min-sqnr", type=float, metavar="DB", help="Exit 3 if a layer is below this.")
def command(
    output: Output,
    model: Path,
    target: Path | None,
    method: str | None,
    options: tuple[str, ...],
    activations: str | None,
    activation_bits: int | None,
    activation_options: tuple[str, ...],
    calibration: str | None,
    batch_size: int,
    state: Path | None,
    max_memory: int | None,
    recipe: str | None,
    include: tuple[str, ...],
    exclude: tuple[str, ...],
    report_file: Path | None,
    dry_run: bool,
    min_sqnr: float | None,
    **scheme_words: Any,
) -> int:
    """Write MODEL with its weights in few bits, and say what that cost, layer by layer.

    \b
    qsdk quantize net.onnx -o net-int4.onnx
    qsdk quantize net.onnx -o net-int8.onnx --method rtn --bits 8 --exclude 'fc*'
    qsdk quantize net.onnx -o net-int8.onnx --calibration images.npz
    qsdk quantize net.onnx -o net-w4a8.onnx --bits 4 --activations kl --calibration images.npz
    qsdk quantize lstm.onnx -o lstm-w2a2.onnx --method greedy --bits 2 --activations binary2
    """
    from qsdk.cli.words import build_recipe, with_activations

    if recipe is None and calibration is not None and not (method or activations):
        recipe = "int8"
    chosen = build_recipe(recipe, method, scheme_words, options, include, exclude)
    chosen = with_activations(chosen, activations, activation_bits, activation_options)
    data: dict[str, Any] = {}
    if calibration is not None:
        megabytes = None if max_memory is None else max_memory * 10**6
        data = _data(model, calibration, batch_size)
        data |= {"calibration_state": state, "max_memory": megabytes}
    if report_file is not None:
        from qsdk.html_report import check_report

        check_report(report_file, model, target)
    if dry_run:
        from qsdk.cli.dry_run import show_plan

        show_plan(output, model, target, chosen, has_data=calibration is not None)
        return 0
    if target is None:
        raise click.UsageError("-o is missing: say which file to write (or --dry-run)")
    report = _quantize(output, model, target, chosen, report_file, data)
    missed = _missed(report, min_sqnr)
    output.document({**report.to_dict(), **missed})
    _show(output, report)
    return _tell_missed(missed)


def _data(model: Path, calibration: str, batch_size: int) -> dict[str, Any]:
    from qsdk.cli.data import stream
    from qsdk.pipeline import load

    return {"calibration": stream(calibration, load(model), batch_size)}


def _quantize(
    output: Output,
    model: Path,
    target: Path,
    recipe: Recipe,
    report_file: Path | None,
    data: dict[str, Any],
) -> Report:
    from qsdk.pipeline import quantize_file

    old = _identity(target)
    try:
        with output.progress("quantizing") as progress:
            report = quantize_file(model, target, recipe, progress=progress, **data)
        if report_file is not None:
            _write_report(model, recipe, report, report_file)
    except KeyboardInterrupt:
        if _identity(target) == old:
            raise
        raise KeyboardInterrupt(f"{target} was written whole, nothing after it") from None
    return report


def _identity(file: Path) -> tuple[int, int] | None:
    """Changes when another file takes the place of this one."""
    try:
        found = file.stat()
    except OSError:
        return None
    return found.st_ino, found.st_mtime_ns


def _write_report(model: Path, recipe: Recipe, report: Report, file: Path) -> None:
    import shlex

    from qsdk.cli.histograms import code_histograms
    from qsdk.html_report import write_report

    words: tuple[str, ...] = click.get_current_context().obj or ()
    histograms = code_histograms(model, recipe, [layer.name for layer in report.worst])
    write_report(file, report, histograms, shlex.join(["qsdk", *words]))


def _missed(report: Report, min_sqnr: float | None) -> dict[str, Any]:
    """What ``--json`` adds when layers are below the limit; empty when none is."""
    from qsdk.cli.failures import as_dict
    from qsdk.errors import QualityError

    limit = float("-inf") if min_sqnr is None else min_sqnr
    below = [layer for layer in report.layers if layer.sqnr_db < limit]
    if not below:
        return {}
    named = ", ".join(f"{layer.name} ({layer.sqnr_db:.3f} dB)" for layer in below)
    error = QualityError(
        f"{len(below)} of {len(report.layers)} layers are below {limit:g} dB: {named}; "
        f"{report.output} was written: give these layers more bits, or --exclude them"
    )
    return {"below": [layer.name for layer in below], "error": as_dict(error)}


def _tell_missed(missed: dict[str, Any]) -> int:
    if not missed:
        return 0
    click.echo(f"error: {missed['error']['message']}", err=True)
    return int(missed["error"]["exit_status"])


def _show(output: Output, report: Report) -> None:
    from qsdk.recipe import Recipe

    output.table(
        ["layer", "shape", "from -> to", ">bytes", ">SQNR dB", ">max error"],
        [
            (
                layer.name,
                shape_text(layer.shape),
                f"{layer.stored_before} -> {layer.stored_after}",
                f"{layer.nbytes_before} -> {layer.nbytes_after}",
                decibels(layer.sqnr_db),
                f"{layer.max_error:.3g}",
            )
            for layer in report.layers
        ],
    )
    output.say()
    if report.coverage:
        output.table(["codes of", "seen in calibration"], list(report.coverage.items()))
        output.say()
    for name, options in Recipe.from_dict(report.recipe).pass_choices():
        output.say(f"pass: {name}{''.join(f' {k}={v}' for k, v in options.items())}")
    output.say(report.summary())
    for check in report.outputs:
        output.say(str(check))
    worst = ", ".join(f"{layer.name} ({decibels(layer.sqnr_db)} dB)" for layer in report.worst)
    output.say(f"worst: {worst}")
    for line in by_reason(report.kept):
        output.say(f"kept: {line}")
    for note in report.notes:
        output.say(f"note: {note}")
    before, after = report.file_bytes_before, report.file_bytes_after
    output.say(
        f"{report.source} {size_text(before)} -> {report.output} {size_text(after)} "
        f"({before / max(after, 1):.2f}x)"
    )
