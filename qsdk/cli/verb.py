"""What all verbs share: a click command with --json, --quiet and --traceback."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import click

from qsdk.cli.output import Output

COMMON = {
    "--json": "Print one JSON document on standard output; everything else on standard error.",
    "--quiet": "Print nothing but errors (and the document of --json).",
    "--traceback": "Show where an error comes from.",
}


def verb(name: str) -> Callable[[Callable[..., Any]], click.Command]:
    """Turn a function of (output, **options) into a click command with the common options."""

    def decorate(function: Callable[..., Any]) -> click.Command:
        @click.command(name, context_settings={"help_option_names": ["-h", "--help"]})
        @functools.wraps(function)
        def command(as_json: bool, quiet: bool, traceback: bool, **options: Any) -> Any:
            return function(Output(as_json=as_json, quiet=quiet), **options)

        for flag, text in COMMON.items():
            names = [flag, "as_json"] if flag == "--json" else [flag]
            command.params.append(click.Option(names, is_flag=True, help=text))
        return command

    return decorate
