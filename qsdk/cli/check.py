"""``qsdk check``: the contract kit, on one plugin or on all."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from qsdk.cli.output import Output
from qsdk.cli.verb import verb

if TYPE_CHECKING:
    from qsdk.testing import Result


@verb("check")
@click.argument("name", required=False)
@click.option(
    "--save",
    metavar="DIR",
    type=click.Path(file_okay=False, path_type=Path),
    help="Write an .npz for each failure, which replays it.",
)
def command(output: Output, name: str | None, save: Path | None) -> int:
    """Check whether NAME keeps the contract of its kind; without NAME everything registered.

    NAME may be written in full: [distribution:][kind:]name, such as quantizer:squant.
    Exit status 0 when it does, 1 when a check fails.
    """
    from qsdk.registry import registry
    from qsdk.streams import output_to_stderr
    from qsdk.testing import KIT_VERSION, check_plugin

    entries = [registry.find(name)] if name else registry.entries()
    results = []
    # Whatever a plugin prints must not end up in a document on standard output.
    with output.progress("checking") as advance, output_to_stderr():
        for done, entry in enumerate(entries, 1):
            results.append(check_plugin(entry, save_failures=save))
            advance(done, len(entries), entry.full_name)
    ok = all(result.ok for result in results)
    output.document(
        {
            "ok": ok,
            "kit_version": KIT_VERSION,
            "results": [
                {"full_name": entry.full_name, **result.to_dict()}
                for entry, result in zip(entries, results, strict=True)
            ],
        }
    )
    for result in results:
        _say(output, result, named=len(results) > 1)
    output.table(
        ["kind", "name", ">checks", ">run", ">failed", ">skipped", "verdict"],
        [_row(result) for result in results],
    )
    return 0 if ok else 1


def _say(output: Output, result: Result, *, named: bool) -> None:
    """What did not simply pass, with its reasons."""
    text = str(result).removesuffix(result.summary()).rstrip()
    if text:
        output.say(f"{result.kind} {result.subject}:\n{text}\n" if named else text)


def _row(result: Result) -> list[Any]:
    run = len(result.outcomes) - len(result.skipped)
    numbers = (len({o.check for o in result.outcomes}), run, len(result.failed))
    return [
        result.kind,
        result.subject,
        *map(str, (*numbers, len(result.skipped))),
        "ok" if result.ok else "broken",
    ]
