"""The group ``qsdk``: it knows its verbs from a table and imports only the one that runs."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Sequence
from typing import Any

import click
from click.shell_completion import CompletionItem

from qsdk.cli.failures import guarded
from qsdk.errors import did_you_mean

# verb -> (module in qsdk.cli, line of help)
VERBS = {
    "quantize": ("quantize", "Write a model with its weights in few bits."),
    "compare": ("compare", "A float model and its quantized one: each layer, and the output."),
    "inspect": ("inspect", "What is in a file: layers, number formats, bytes, who made it."),
    "list": ("list_", "Everything registered, with its distribution, version and health."),
    "describe": ("describe", "Options of a quantizer, observer, ...: types, defaults, limits."),
    "check": ("check", "The contract kit: does a plugin keep its promises?"),
    "cpu": ("cpu", "Features of this CPU, and which kernel would run what, and why."),
    "doctor": ("doctor", "Health of the installation, the extension, every plugin and kernel."),
    "bench": ("bench", "Kernels beside numpy and the libraries installed, as ratios."),
    "demo": ("demo", "The main job on a network that ships with qsdk, in seconds."),
}

EPILOG = """\b
Exit status:
  0    done
  1    failed
  2    wrong use
  3    a quality limit was missed
  4    the input file was refused
  5    an extra or a plugin is missing
  130  interrupted

`qsdk VERB --help` says more. Every verb takes --json, --quiet and --traceback."""


class LazyGroup(click.Group):
    """Help, completion and misspelt verbs are answered from the table alone."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(VERBS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in VERBS:
            return None
        command: click.Command = importlib.import_module(f"qsdk.cli.{VERBS[cmd_name][0]}").command
        command.short_help = VERBS[cmd_name][1]
        return command

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        verb = args[0]
        if verb not in VERBS and not verb.startswith("-"):
            ctx.fail(f"no verb {verb!r}{did_you_mean(verb, VERBS)}")
        return super().resolve_command(ctx, args)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Verbs"):
            formatter.write_dl([(verb, line) for verb, (_, line) in VERBS.items()])

    def shell_complete(self, ctx: click.Context, incomplete: str) -> list[CompletionItem]:
        verbs = [
            CompletionItem(verb, help=line)
            for verb, (_, line) in VERBS.items()
            if verb.startswith(incomplete)
        ]
        return [*verbs, *click.Command.shell_complete(self, ctx, incomplete)]

    def main(self, args: Sequence[str] | None = None, *rest: Any, **settings: Any) -> Any:
        """Run a verb and exit with its status: every failure passes through here."""
        words = list(sys.argv[1:] if args is None else args)
        settings.update(standalone_mode=False, obj=tuple(words))
        settings.setdefault("prog_name", "qsdk")
        call = super().main
        sys.exit(guarded(lambda: call(words, *rest, **settings), words))


@click.group(cls=LazyGroup, epilog=EPILOG, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="qsdk", message="qsdk %(version)s")
@click.option("--traceback", is_flag=True, help="Show where an error comes from.")
def qsdk(traceback: bool) -> None:
    """Make a trained network small and fast on a CPU."""
