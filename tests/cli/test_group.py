"""Help, version, completion and misspelt verbs: fast, and without numpy, rich or a plugin."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from qsdk.cli.main import VERBS

HEAVY = ("numpy", "rich", "scipy", "attrs", "pluggy", "ml_dtypes", "qsdk_plugins", "matplotlib")

LOADED = f"""
import sys
import time
from qsdk.__main__ import main
try:
    main()
except SystemExit:
    pass
print("LOADED", [name for name in {HEAVY!r} if name in sys.modules],
      [name for name in sys.modules if name.startswith("qsdk.cli.")])
"""


def loaded_by(*words, **environment):
    result = subprocess.run(
        [sys.executable, "-c", LOADED, *words], capture_output=True, text=True, env=environment
    )
    assert "LOADED" in result.stdout, result.stderr
    return result.stdout


def test_help_imports_nothing_heavy_and_no_verb():
    text = loaded_by("--help")
    assert "LOADED [] [" in text
    assert not any(f"'qsdk.cli.{module}'" in text for module, _ in VERBS.values())


def test_version_imports_nothing_heavy():
    text = loaded_by("--version")
    assert text.startswith("qsdk 0.") and "LOADED [] [" in text


@pytest.mark.parametrize(
    ("words", "completed"),
    [
        ("qsdk qua", "quantize"),
        ("qsdk quantize --meth", "--method"),
        ("qsdk describe squ", "squant"),
    ],
)
def test_completion_imports_nothing_heavy(words, completed):
    count = len(words.split()) - 1
    text = loaded_by(_QSDK_COMPLETE="bash_complete", COMP_WORDS=words, COMP_CWORD=str(count))
    assert f"plain,{completed}" in text.splitlines()
    loaded = next(line for line in text.splitlines() if line.startswith("LOADED"))
    allowed = "['attrs']" if "describe" in words else "[]"
    assert loaded.startswith(("LOADED []", f"LOADED {allowed}")), loaded


def test_help_lists_every_verb_and_every_exit_status(run):
    text = run("--help").stdout
    for verb, (_, line) in VERBS.items():
        assert verb in text and line in text
    for status in ("0", "1", "2", "3", "4", "5", "130"):
        assert f"\n    {status} " in text


@pytest.mark.parametrize("verb", VERBS)
def test_every_verb_has_help_and_the_common_options(run, verb):
    text = run(verb, "--help").stdout
    assert all(option in text for option in ("--json", "--quiet", "--traceback"))
    assert text.startswith(f"Usage: qsdk {verb}")


def test_unknown_verb_names_the_nearest(run):
    result = run("quantise", status=2)
    assert "no verb 'quantise'; did you mean 'quantize'?" in result.stderr


def test_unknown_option_names_the_nearest(run):
    result = run("quantize", "x.onnx", "--bit", "3", status=2)
    assert "--bit" in result.stderr and "'--bits'" in result.stderr


def test_wrong_use_with_json_is_a_document_too(run):
    document = run("list", "--json", "--no-such", status=2).document
    assert document["schema_version"] == 1
    assert document["error"]["exit_status"] == 2
    assert "--no-such" in document["error"]["message"]


def test_python_m_qsdk_is_the_same_command():
    result = subprocess.run(
        [sys.executable, "-m", "qsdk", "list", "nonsense"], capture_output=True, text=True
    )
    assert result.returncode == 2
    assert result.stderr.startswith("error: no kind 'nonsense'; known: adapter")
    assert result.stdout == ""


def test_help_answers_within_a_fifth_of_a_second():
    """Processor seconds, which a busy machine does not change."""

    def seconds():
        start = sum(os.times()[2:4])
        subprocess.run([sys.executable, "-m", "qsdk", "--help"], check=True, capture_output=True)
        return sum(os.times()[2:4]) - start

    assert min(seconds() for _ in range(5)) < 0.2
