"""The list of all checks as Markdown, from their docstrings.

``python -m qsdk.testing.page docs/contract.md`` writes it below the mark in that page.
"""

from __future__ import annotations

import sys
from pathlib import Path

from qsdk.plugins import HOOKS
from qsdk.testing.check import Promise
from qsdk.testing.kinds import CONTRACTS, contract_of

MARK = "<!-- checks: written by python -m qsdk.testing.page -->\n"


def checks() -> str:
    """One table for each kind of plugin."""
    return "\n".join(_table(kind) for kind in CONTRACTS)


def _table(kind: str) -> str:
    promises = contract_of(kind).promises
    rows = "\n".join(f"| `{promise.name}` | {_in_a_row(promise)} |" for promise in promises)
    plural = HOOKS[kind].removeprefix("qsdk_").capitalize()
    head = f"\n## {plural}: {len(promises)} checks\n\n"
    return f"{head}| check | promise |\n| --- | --- |\n{rows}\n"


def _in_a_row(promise: Promise) -> str:
    text = " ".join(promise.text.replace("``", "`").replace("|", "\\|").split())
    return f"{text} (provisional)" if promise.provisional else text


def updated(page: str) -> str:
    """The page with the checks as they are now."""
    return page.partition(MARK)[0] + MARK + checks()


def main(path: Path) -> None:
    path.write_text(updated(path.read_text(encoding="utf-8")), encoding="utf-8")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
