"""Runs the examples: every code block of README and docs, every doctest of the packages.

Blocks of a page run in order, in one temporary folder that holds ``model.onnx``, ``data.npz``
and ``labels.npy``: the network of ``qsdk demo`` and its held-out images. A block is

    python    executed, all blocks of a page in one namespace
    console   each line after "$ " run by bash; output that is shown is compared, "..." is a gap
    sh        run by bash as it is
    text      not code

and a comment on the line above it says what is different:

    <!-- file: NAME -->             written to that file of the folder, whatever its language
    <!-- exit status: N -->         what the last command of the block must end with, if not 0
    <!-- run by .ci/run: NAME -->   sets up an environment, so .ci/run pastes it into a fresh clone
"""

from __future__ import annotations

import contextlib
import doctest
import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from sybil import Document, Example, Region, Sybil
from sybil.evaluators.python import PythonEvaluator
from sybil.parsers.markdown.lexers import FencedCodeBlockLexer
from sybil.parsers.rest import DocTestParser

LEXER = FencedCodeBlockLexer(language=r"\S+")
NOTE = re.compile(r"<!-- (file|exit status|run by \.ci/run): (.+?) -->\n[ \t]*\Z")
COMMAND = re.compile(r"^\$ ((?:.*\\\n)*.*)\n?", re.MULTILINE)
FLAGS = doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE
TIME_LIMIT = 120  # seconds for one command

# pip in an example neither asks the network nor changes the environment that runs the tests.
OFFLINE_PIP = {
    "PIP_NO_INDEX": "1",
    "PIP_NO_DEPS": "1",
    "PIP_NO_BUILD_ISOLATION": "0",  # pip reads this one as the value of build_isolation
    "PIP_DISABLE_PIP_VERSION_CHECK": "1",
    "PIP_ROOT_USER_ACTION": "ignore",
    "PIP_QUIET": "1",
}


def code_blocks(document: Document) -> Iterator[Region]:
    """Every fenced block of a page, with what evaluates it."""
    for region in LEXER(document):
        language = region.lexemes["language"]
        note = NOTE.search(document.text, 0, region.start)
        kind, value = note.groups() if note else ("", "")
        if language == "text" or language.startswith("{") or kind == "run by .ci/run":
            continue
        region.parsed = region.lexemes["source"]
        if kind == "file":
            region.evaluator = _Writer(value)
        elif language == "python":
            region.evaluator = PythonEvaluator()
        elif language in ("console", "sh"):
            region.evaluator = _Shell(language, int(value or 0))
        else:
            line = document.text.count("\n", 0, region.start) + 1
            raise ValueError(f"{document.path}:{line}: nothing runs a {language!r} block")
        yield region


class _Writer:
    """Puts a block into a file of the page's folder."""

    def __init__(self, name: str):
        self.name = name

    def __call__(self, example: Example) -> None:
        path = Path(self.name)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(str(example.parsed), encoding="utf-8")


class _Shell:
    """Runs the commands of a block and compares what they print."""

    def __init__(self, language: str, status: int):
        self.language, self.status = language, status

    def __call__(self, example: Example) -> str | None:
        text = str(example.parsed)
        commands = [(text, "")] if self.language == "sh" else _commands(text)
        if not commands:
            return "no line begins with '$ '"
        statuses = [0] * (len(commands) - 1) + [self.status]
        for (command, expected), status in zip(commands, statuses, strict=True):
            result = subprocess.run(
                ["bash", "-euo", "pipefail", "-c", command],
                env=_environment(),
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
                timeout=TIME_LIMIT,
            )
            shown = f"$ {command}\n{result.stdout}"
            if result.returncode != status:
                return f"{shown}exit status {result.returncode}, not {status}"
            if expected and not doctest.OutputChecker().check_output(
                expected, result.stdout, FLAGS
            ):
                return f"{shown}--- not what the page shows:\n{expected}"
        return None


def _commands(text: str) -> list[tuple[str, str]]:
    """(command, output shown below it) for each line after a prompt."""
    found = list(COMMAND.finditer(text))
    ends = [match.start() for match in found[1:]] + [len(text)]
    return [
        (match.group(1), text[match.end() : end]) for match, end in zip(found, ends, strict=True)
    ]


def _environment() -> dict[str, str]:
    scripts = Path(sys.executable).parent
    packages = Path.cwd() / "site-packages"
    return {
        **{k: v for k, v in os.environ.items() if not k.startswith(("PYTEST_", "PIP_"))},
        **OFFLINE_PIP,
        "PATH": f"{scripts}{os.pathsep}{os.environ['PATH']}",
        "PIP_TARGET": str(packages),
        "PYTHONPATH": str(packages),
        "QSDK_CACHE_DIR": str(Path.cwd() / "cache"),
        "COLUMNS": "120",
        "NO_COLOR": "1",
    }


def _enter_folder(namespace: dict[str, Any]) -> None:
    """The temporary folder of a page, with a reader's own model and data in it."""
    import numpy as np

    import qsdk

    stack = contextlib.ExitStack()
    folder = Path(tempfile.mkdtemp(prefix="qsdk-docs-"))
    stack.callback(shutil.rmtree, folder, ignore_errors=True)
    stack.callback(os.chdir, Path.cwd())
    demo = Path(qsdk.__file__).parent / "demo"
    shutil.copy(demo / "digits.onnx", folder / "model.onnx")
    with np.load(demo / "digits.npz") as digits:
        images = (digits["images"] / 16).astype(np.float32)[:, np.newaxis]
        np.savez(folder / "data.npz", input=images)
        np.save(folder / "labels.npy", digits["labels"])
    os.chdir(folder)
    namespace["_leave"] = stack.close


def _leave_folder(namespace: dict[str, Any]) -> None:
    namespace["_leave"]()


pages = Sybil(
    parsers=[code_blocks],
    patterns=["README.md", "docs/*.md", "docs/*/*.md"],
    setup=_enter_folder,
    teardown=_leave_folder,
    name="page",
)
docstrings = Sybil(
    parsers=[DocTestParser()],
    patterns=["qsdk/*.py", "qsdk/*/*.py", "plugins/*/*.py", "plugins/*/*/*.py"],
    name="docstring",
)
pytest_collect_file = (pages + docstrings).pytest()
