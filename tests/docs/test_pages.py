"""README, docs and .ci/run belong together: no block is left out, no command is copied."""

from __future__ import annotations

import re
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent.parent
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
BLOCK = re.compile(r"^(<!-- [^\n]+ -->\n)?```([^\s`]+)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
SET_UP = "<!-- run by .ci/run: "


def blocks(page: Path) -> list[tuple[str, str, str]]:
    """(comment above, language, code) of each code block; directives are not code."""
    found = BLOCK.findall(page.read_text(encoding="utf-8"))
    return [block for block in found if not block[1].startswith("{") and block[1] != "text"]


def set_up_commands(page: Path) -> dict[str, str]:
    return {
        note.removeprefix(SET_UP).removesuffix(" -->\n"): code
        for note, _, code in blocks(page)
        if note.startswith(SET_UP)
    }


def printed_command(folder: Path, name: str) -> str:
    script = ["bash", str(folder / ".ci" / "run"), "command", name]
    return subprocess.run(script, check=True, capture_output=True, text=True).stdout


def test_every_block_is_collected():
    arguments = ["--collect-only", "-q", "-p", "no:cacheprovider", "README.md", "docs"]
    listed = subprocess.run(
        [sys.executable, "-m", "pytest", *arguments], cwd=ROOT, capture_output=True, text=True
    ).stdout
    collected = Counter(re.findall(r"^(\S+)::sybil:page", listed, re.MULTILINE))
    written = {
        page.relative_to(ROOT).as_posix(): len(blocks(page)) - len(set_up_commands(page))
        for page in PAGES
    }
    assert collected == {page: count for page, count in written.items() if count}
    assert collected["README.md"] >= 5


def test_the_readme_has_two_set_up_commands_of_one_line_each():
    commands = set_up_commands(ROOT / "README.md")
    assert list(commands) == ["try", "test"]
    assert all(code.count("\n") == 1 for code in commands.values())
    assert commands["try"].endswith("&& qsdk demo\n")
    assert commands["test"].endswith("&& python -m pytest\n")


@pytest.mark.parametrize("name", ["try", "test"])
def test_ci_takes_its_commands_from_the_readme(name, tmp_path):
    assert printed_command(ROOT, name) == set_up_commands(ROOT / "README.md")[name]
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    (tmp_path / ".ci").mkdir()
    (tmp_path / ".ci" / "run").write_bytes((ROOT / ".ci" / "run").read_bytes())
    (tmp_path / "README.md").write_text(readme.replace("python3 -m venv", "echo"))
    assert printed_command(tmp_path, name).startswith("echo .venv")


def test_ci_refuses_a_command_that_the_readme_lacks():
    result = subprocess.run(
        ["bash", str(ROOT / ".ci" / "run"), "command", "other"], capture_output=True, text=True
    )
    assert result.returncode != 0
    assert "other" in result.stderr


def test_docs_repeat_set_up_commands_word_by_word():
    readme = set_up_commands(ROOT / "README.md")
    for page in PAGES:
        for name, code in set_up_commands(page).items():
            assert code == readme[name], page


def test_figures_of_the_readme_are_those_that_were_measured():
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    table = readme.split("<!-- figures: from ")[1]
    source, rest = table.split(" -->\n", 1)
    measured = (ROOT / source).read_text(encoding="utf-8").split("###")[1]
    columns = _column(measured)
    for row in rest.split("\n\n")[0].splitlines()[2:]:
        network, _, *figures = [cell.strip() for cell in row.strip("|").split("|")]
        settings = ("float", "4 bits, rtn", "4 bits, squant")
        assert figures == [columns[setting, network] for setting in settings]


def _column(table: str) -> dict[tuple[str, str], str]:
    """(setting, network) -> figure of a Markdown table."""
    rows = [
        [cell.strip() for cell in line.strip("|").split("|")]
        for line in table.splitlines()
        if line.startswith("|") and "---" not in line
    ]
    heads = rows[0]
    return {
        (row[0], network): figure
        for row in rows[1:]
        for network, figure in zip(heads[1:], row[1:], strict=True)
    }


def test_links_of_the_readme_lead_somewhere():
    for name in ("README.md", "CONTRIBUTING.md"):
        for link in re.findall(r"\]\(([^)#]+)", (ROOT / name).read_text(encoding="utf-8")):
            assert "://" in link or (ROOT / link).exists(), (name, link)
