"""From an exception to one line on standard error, a JSON document, and an exit status."""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import click

from qsdk.cli.output import Output
from qsdk.cli.text import one_line
from qsdk.errors import PreflightError, QsdkError

INTERRUPTED = 130


def guarded(call: Callable[[], object], words: Sequence[str]) -> int:
    """The exit status of ``call``; whatever it raises has been told to the user.

    words : the command line, looked through for ``--json`` and ``--traceback``, so that wrong
        use is answered in the same form as what fails later
    """
    try:
        status = call()
        sys.stdout.flush()
    except BrokenPipeError:  # the reader has what it wanted
        _discard_stdout()
        return 1
    except Exception as error:
        if "--traceback" in words:
            _print_traceback(error)
        tell(error, as_json="--json" in words)
        return exit_status(error)
    return status if isinstance(status, int) else 0


def tell(error: BaseException, *, as_json: bool) -> None:
    """One line, or one per problem, on standard error; with ``as_json`` a document as well."""
    if isinstance(error, click.UsageError) and type(error).__name__ == "NoArgsIsHelpError":
        error.show()
        return
    for line in _lines(error):
        click.echo(line, err=True)
    if as_json:
        with _a_broken_stdout_ends_quietly():
            Output(as_json=True).document({"error": as_dict(error)})
            sys.stdout.flush()
    elif isinstance(error, OSError):
        with _a_broken_stdout_ends_quietly():
            sys.stdout.flush()


def as_dict(error: BaseException) -> dict[str, Any]:
    """What ``--json`` says of an error."""
    name = "Interrupted" if isinstance(error, click.Abort) else type(error).__name__
    found: dict[str, Any] = {
        "type": name,
        "message": message(error),
        "exit_status": exit_status(error),
    }
    if isinstance(error, PreflightError):
        found["problems"] = list(error.problems)
    return found


def exit_status(error: BaseException) -> int:
    if isinstance(error, QsdkError):
        return error.exit_status
    if isinstance(error, click.Abort):
        return INTERRUPTED
    return error.exit_code if isinstance(error, click.ClickException) else 1


def message(error: BaseException) -> str:
    """The error in one line."""
    if isinstance(error, click.Abort):
        said = error.__cause__.args if error.__cause__ else ()
        return f"interrupted; {said[0] if said else 'nothing was written'}"
    if isinstance(error, click.ClickException):
        return one_line(error.format_message())
    if isinstance(error, QsdkError):
        return one_line(str(error))
    if isinstance(error, OSError) and error.strerror:
        where = f": {error.filename}" if error.filename else ""
        return one_line(f"{error.strerror}{where}")
    if isinstance(error, MemoryError):
        return "not enough memory"
    return one_line(
        f"{type(error).__name__}: {error}; this is a fault in qsdk or in a plugin: "
        "run again with --traceback and report it"
    )


def _lines(error: BaseException) -> list[str]:
    if isinstance(error, click.Abort):
        return [message(error)]
    if isinstance(error, PreflightError) and error.problems:
        problems = [one_line(problem) for problem in error.problems]
        if len(problems) == 1:
            return [f"error: {problems[0]}"]
        return [f"error: {len(problems)} problems found before starting:", *problems]
    lines = [f"error: {message(error)}"]
    if isinstance(error, click.UsageError) and error.ctx:
        lines.append(f"`{error.ctx.command_path} --help` shows what there is")
    return lines


@contextlib.contextmanager
def _a_broken_stdout_ends_quietly() -> Iterator[None]:
    """When standard output takes no more, what is left for it goes nowhere."""
    try:
        yield
    except OSError:
        _discard_stdout()


def _discard_stdout() -> None:
    with contextlib.suppress(OSError, ValueError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _print_traceback(error: BaseException) -> None:
    import traceback

    click.echo("".join(traceback.format_exception(error)), err=True, nl=False)
