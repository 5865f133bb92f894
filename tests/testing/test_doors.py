"""The doors: pytest with and without a file, the command line, and what they import."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner

import qsdk
from qsdk import registry
from qsdk.cli.main import qsdk as group
from qsdk.plugins import Entry
from qsdk.testing import page

from .mutants.quantizers import Good, NoZero

ZEROS = "check_zeros_decode_to_exact_zeros"
DOCS = Path(qsdk.__file__).parent.parent / "docs"


def python(*words, cwd) -> subprocess.CompletedProcess:
    # What was added to this run of pytest is not meant for those inside it.
    own = {word: value for word, value in os.environ.items() if word != "PYTEST_ADDOPTS"}
    command = [sys.executable, *map(str, words)]
    return subprocess.run(command, cwd=cwd, env=own, capture_output=True, text=True, timeout=120)


def run_pytest(*words, cwd) -> subprocess.CompletedProcess:
    return python("-m", "pytest", "-p", "no:cacheprovider", "-p", "no:xdist", *words, cwd=cwd)


# -- pytest without a file


def test_a_name_is_enough_for_pytest(tmp_path):
    done = run_pytest("-v", "--qsdk-contract=minmax", cwd=tmp_path)
    assert done.returncode == 0, done.stdout
    assert "minmax-by-axis-check_merging_is_associative PASSED" in done.stdout
    assert "check_every_declared_capability_is_exercised PASSED" in done.stdout
    assert not list(tmp_path.iterdir())


def test_tests_of_the_folder_run_only_when_they_are_named(tmp_path):
    (tmp_path / "test_mine.py").write_text("def test_mine(): pass\n")
    alone = run_pytest("-v", "--qsdk-contract=minmax", cwd=tmp_path).stdout
    assert "test_mine" not in alone
    both = run_pytest("-v", "--qsdk-contract=minmax", "test_mine.py", cwd=tmp_path).stdout
    assert "test_mine" in both and "minmax-whole-check_memory_is_bounded PASSED" in both


def test_contracts_are_selected_as_other_tests_are(tmp_path):
    words = ("-v", "--qsdk-contract=minmax", "--qsdk-contract=rtn", "-k", "associative or zeros")
    done = run_pytest(*words, cwd=tmp_path)
    assert done.returncode == 0
    assert "minmax-whole-check_merging_is_associative" in done.stdout
    assert f"rtn-1bit-per_group-{ZEROS} PASSED" in done.stdout
    assert "check_threads" not in done.stdout


def test_an_unknown_name_is_wrong_use(tmp_path):
    done = run_pytest("--qsdk-contract=minmaxx", cwd=tmp_path)
    assert done.returncode == 4 and "did you mean 'minmax'?" in done.stdout + done.stderr


def test_it_works_where_plugins_are_named_one_by_one(tmp_path, monkeypatch):
    monkeypatch.setenv("PYTEST_DISABLE_PLUGIN_AUTOLOAD", "1")
    words = ("-q", "-p", "qsdk.testing.pytest_plugin", "--qsdk-contract=minmax")
    done = python("-m", "pytest", *words, cwd=tmp_path)
    assert done.returncode == 0 and "passed" in done.stdout


def test_the_plugin_costs_nothing_until_it_is_asked_for(tmp_path):
    script = """
import sys, pytest
pytest.main(["-q", "-p", "no:cacheprovider", "-p", "no:hypothesispytest", "."])
assert "qsdk.testing.pytest_plugin" in sys.modules
ours = sorted(name for name in sys.modules if name.split(".")[0] in ("qsdk", "qsdk_plugins"))
assert ours == ["qsdk", "qsdk.testing", "qsdk.testing.pytest_plugin"], ours
assert "numpy" not in sys.modules
"""
    done = python("-c", script, cwd=tmp_path)
    assert done.returncode == 0, done.stderr


# -- A test file


AUTHORS = f"""
from qsdk.testing import parametrize_with_contract
from tests.testing.mutants.quantizers import Good, NoZero

@parametrize_with_contract([Good(), NoZero], expected_failures={{}})
def test_contract(check):
    check()

@parametrize_with_contract([NoZero], expected_failures={{"{ZEROS}": "issue 12"}})
def test_known(check):
    check()

@parametrize_with_contract([Good], expected_failures={{"{ZEROS}": "issue 12"}})
def test_gone(check):
    check()
"""


def test_an_authors_file_has_a_readable_test_for_each_check(tmp_path):
    (tmp_path / "test_it.py").write_text(AUTHORS)
    root = Path(__file__).parent.parent.parent
    words = ("-rA", "--rootdir", tmp_path, "-k", "zeros_decode", tmp_path / "test_it.py")
    done = run_pytest("-c", "/dev/null", "--import-mode=importlib", *words, cwd=root)
    lines = done.stdout.splitlines()
    named = f"[good-4bit-per_channel-{ZEROS}]"
    assert any(
        x.startswith("XFAIL") and f"test_known{named}" in x and "issue 12" in x for x in lines
    )
    assert any(x.startswith("FAILED") and f"test_gone{named}" in x for x in lines), done.stdout
    assert "zeros decode to" in done.stdout and "float32 (1, 1): [[0.0]]" in done.stdout


# -- The command line


def invoke(*words):
    return CliRunner().invoke(group, words)


def test_the_command_line_counts():
    result = invoke("check", "minmax")
    assert result.exit_code == 0, result.stderr
    head, row = result.stdout.splitlines()
    assert head.split() == ["kind", "name", "checks", "run", "failed", "skipped", "verdict"]
    assert row.split()[:2] == ["observer", "minmax"] and row.split()[-1] == "ok"


def test_the_command_line_gives_one_document():
    document = json.loads(invoke("check", "observer:minmax", "--json").stdout)
    assert document["ok"] is True and document["schema_version"] == 1
    (result,) = document["results"]
    assert result["full_name"] == "qsdk:observer:minmax" and result["counts"]["failed"] == 0


def test_an_unknown_name_ends_with_status_2():
    result = invoke("check", "minmaxx")
    assert result.exit_code == 2 and "did you mean 'minmax'?" in result.stderr


@pytest.fixture
def two_plugins(monkeypatch):
    """A registry of one good and one bad quantizer."""
    made = [Entry("quantizer", name, "mine", "1", "mine", target)
            for name, target in (("good", Good), ("nozero", NoZero))]  # fmt: skip
    monkeypatch.setattr(registry.registry, "entries", lambda kind=None: made)


def test_without_a_name_everything_is_checked_and_failures_are_told(two_plugins, tmp_path):
    result = invoke("check", "--save", str(tmp_path / "failures"))
    assert result.exit_code == 1
    assert f"failed {ZEROS}[2bit-per_channel]: zeros decode to" in result.stdout
    assert [line.split()[-1] for line in result.stdout.splitlines()[-2:]] == ["ok", "broken"]
    saved = sorted(path.name for path in (tmp_path / "failures").iterdir())
    assert f"good-4bit-per_group-{ZEROS}.npz" in saved


# -- What is imported, and what is written


def test_the_kit_needs_neither_pytest_nor_hypothesis(tmp_path):
    script = """
import sys, qsdk.testing
for name in qsdk.testing.__all__:
    assert getattr(qsdk.testing, name)
assert qsdk.testing.check_plugin("minmax", max_examples=1).ok
assert not {"pytest", "hypothesis"} & set(sys.modules)
"""
    done = python("-c", script, cwd=tmp_path)
    assert done.returncode == 0, done.stderr


def test_the_page_of_the_contract_says_what_is_checked():
    text = (DOCS / "contract.md").read_text(encoding="utf-8")
    assert text == page.updated(text), "run: python -m qsdk.testing.page docs/contract.md"
