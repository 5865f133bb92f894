"""Prints the lowest versions that pyproject.toml allows, as pip requirements.

    python floors.py PYPROJECT [EXTRA...]

``name>=1.2`` becomes ``name==1.2``: what the floor says, or pip refuses.
"""

from __future__ import annotations

import re
import sys
import tomllib
from pathlib import Path

FLOOR = re.compile(r"([\w.-]+)>=([\d.]+)")


def floors(pyproject: Path, extras: list[str]) -> list[str]:
    project = tomllib.loads(pyproject.read_text(encoding="utf-8"))["project"]
    groups = [project["dependencies"], *(project["optional-dependencies"][e] for e in extras)]
    pinned = []
    for requirement in (r for group in groups for r in group):
        if not (found := FLOOR.fullmatch(requirement.replace(" ", ""))):
            raise SystemExit(f"{requirement!r} has no lowest version; write name>=version")
        pinned.append(f"{found[1]}=={found[2]}")
    return pinned


if __name__ == "__main__":
    print("\n".join(floors(Path(sys.argv[1]), sys.argv[2:])))
