"""``qsdk bench``: kernels beside numpy and the peers that are installed, as ratios in one run."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from qsdk.cli.output import Output
from qsdk.cli.verb import verb

if TYPE_CHECKING:
    from qsdk.bench.machine import Machine
    from qsdk.bench.run import Result

FILE = click.Path(path_type=Path)
ROUNDS, QUICK_ROUNDS = 10, 3


@verb("bench")
@click.argument("operation", required=False)
@click.option("--threads", type=click.IntRange(min=1), default=1, show_default=True,
              help="Threads of every library, qsdk's own too.")  # fmt: skip
@click.option("--rounds", type=click.IntRange(min=1), metavar="R",
              help=f"Each library runs once a round.  [default: {ROUNDS}]")  # fmt: skip
@click.option("--shape", "shapes", multiple=True, metavar="MxNxK",
              help="Measure this shape; may be repeated. A convolution: "
              "BATCHxCHANNELSxSIZExOUTxKERNEL[xSTRIDE[xGROUPS]].")  # fmt: skip
@click.option("--quick", is_flag=True, help=f"A few shapes, {QUICK_ROUNDS} rounds.")
@click.option("--markdown", is_flag=True, help="Print the tables for a page of documentation.")
@click.option("--report", "report_file", type=FILE, help="Write an HTML report with plots.")
@click.option("--advise", "model", type=FILE, metavar="MODEL",
              help="Say for each layer of MODEL which form is fastest here.")  # fmt: skip
@click.option("--data", help="With --advise: one batch to run, as for `qsdk compare`; its size "
              "is the layers'.")  # fmt: skip
@click.option("--batch", type=click.IntRange(min=1), metavar="N",
              help="With --advise: so many rows of data.  [default: 1]")  # fmt: skip
def command(
    output: Output,
    operation: str | None,
    threads: int,
    rounds: int | None,
    quick: bool,
    model: Path | None,
    **options: Any,
) -> None:
    """Time qsdk beside numpy, mkl, onnxruntime, torch and openvino, whichever are installed.

    All take turns in one process; a figure is the best of the rounds, and a ratio above 1 says
    how many times faster qsdk is. QSDK_DISABLE_CPU_FEATURES takes features away from qsdk only.

    \b
    qsdk bench linear-int8 --shape 16x4096x4096
    qsdk bench --quick --report bench.html
    qsdk bench --advise model.onnx
    """
    from qsdk.bench.threads import limited_to

    count = rounds or (QUICK_ROUNDS if quick else ROUNDS)
    _check(operation, model, quick, options)
    with limited_to(threads) as notes:
        for note in notes:
            output.note(f"note: {note}")
        if model is not None:
            from qsdk.cli.advise import advise

            advise(output, model, options["data"], options["batch"] or 1, threads, count)
        else:
            _measure(output, operation, threads, count, quick, **options)


def _check(operation: str | None, model: Path | None, quick: bool, options: dict[str, Any]) -> None:
    if model is None and (options["data"] or options["batch"]):
        raise click.UsageError("--data and --batch go with --advise MODEL")
    others = (operation, options["shapes"], quick, options["report_file"], options["markdown"])
    if model is not None and any(others):
        raise click.UsageError(
            "--advise takes the shapes of MODEL and prints one table: "
            "leave OPERATION, --shape, --quick, --markdown and --report out"
        )


def _measure(
    output: Output,
    operation: str | None,
    threads: int,
    rounds: int,
    quick: bool,
    *,
    shapes: tuple[str, ...],
    markdown: bool,
    report_file: Path | None,
    **_: Any,
) -> None:
    from qsdk.bench.cases import cases
    from qsdk.bench.machine import Machine
    from qsdk.bench.peers import installed
    from qsdk.bench.run import run_case
    from qsdk.bench.works import parse_shape

    if report_file is not None:
        from qsdk.html_report import check_report

        check_report(report_file)
    chosen = cases(operation, map(parse_shape, shapes), quick)
    peers, left_out = installed(threads)
    versions = {peer.name: version for peer, version in peers.items()}
    machine = Machine.here(threads, versions, left_out)
    results = []
    with output.progress("measuring") as progress:
        for done, case in enumerate(chosen):
            progress(done, len(chosen), str(case))
            results.append(run_case(case, peers, rounds, threads))
    _document(output, machine, rounds, results)
    _show(output, machine, rounds, results, markdown)
    if report_file is not None:
        from qsdk.bench.page import write_page

        write_page(report_file, machine, rounds, results, _command())


def _document(output: Output, machine: Machine, rounds: int, results: list[Result]) -> None:
    import attrs

    output.document(
        {
            "machine": attrs.asdict(machine),
            "rounds": rounds,
            "results": [result.to_dict() for result in results],
        }
    )


def _show(
    output: Output, machine: Machine, rounds: int, results: list[Result], markdown: bool
) -> None:
    from qsdk.bench import tables

    if markdown:
        output.say(tables.page(machine.lines(), results, _command()))
        return
    for line in machine.lines():
        output.say(line)
    for title, group in tables.groups(results).items():
        heads, rows = tables.table(group)
        if rows:
            output.say(f"\n{title}, best of {rounds}")
            output.table(heads, rows)
    output.say()
    for line in (*tables.skipped(results), *tables.notes(results)):
        output.say(line)


def _command() -> str:
    import shlex

    words: tuple[str, ...] = click.get_current_context().obj or ()
    return shlex.join(["qsdk", *words])
