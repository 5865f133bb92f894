"""MANIFEST.in: a source distribution holds everything that its tests are made of."""

from __future__ import annotations

from fnmatch import fnmatch
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
GENERATED = ("__pycache__", ".egg-info")


@pytest.mark.parametrize("folder", ["native", "tests"])
def test_every_file_of_the_folder_is_in_the_source_distribution(folder):
    lines = (ROOT / "MANIFEST.in").read_text(encoding="utf-8").splitlines()
    (patterns,) = (line.split()[2:] for line in lines if line.split()[1] == folder)
    files = [path for path in (ROOT / folder).rglob("*") if path.is_file()]
    sources = [path for path in files if not any(word in str(path) for word in GENERATED)]
    lost = [path.name for path in sources if not any(fnmatch(path.name, p) for p in patterns)]
    assert sources and not lost
