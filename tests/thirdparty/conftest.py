"""qsdk and strangers' packages, installed by pip from wheels into fresh environments.

numpy, onnx and the rest are those of the environment that runs the tests, so nothing is downloaded;
qsdk itself comes from its wheel, and ``test_package.py`` proves that it does.
"""

from __future__ import annotations

import fcntl
import json
import os
import shutil
import subprocess
import sys
import textwrap
import venv
from pathlib import Path

import attrs
import pytest

HERE = Path(__file__).parent
ROOT = HERE.parent.parent
sys.path.insert(0, str(HERE))  # for zoo.py, under --import-mode=importlib

PROJECTS = {
    "qsdk": (ROOT, "qsdk plugins native pyproject.toml setup.py README.md LICENSE"),
    "qsdk-codebook": (HERE / "qsdk-codebook", "qsdk_codebook pyproject.toml"),
}
BUILT = shutil.ignore_patterns("*.so", "__pycache__", "build", "dist", "*.egg-info", ".*")
PIP = [sys.executable, "-m", "pip", "--disable-pip-version-check", "--no-input", "--quiet"]
TIME_LIMIT = 120  # seconds for one command


def clean() -> dict[str, str]:
    """The environment without what would lead a process to the checkout or change qsdk."""
    leading = ("PYTHON", "PYTEST_", "PIP_", "QSDK_", "VIRTUAL_ENV")
    kept = {name: text for name, text in os.environ.items() if not name.startswith(leading)}
    return {**kept, "NO_COLOR": "1", "COLUMNS": "200", "PIP_ROOT_USER_ACTION": "ignore"}


def build(source: Path, target: Path, *files: str) -> Path:
    """The wheel of a project, built from a copy that holds its sources alone."""
    copy = target / "source"
    copy.mkdir(parents=True)
    for item in source.iterdir():
        if item.is_dir() and item.name in files:
            shutil.copytree(item, copy / item.name, ignore=BUILT)
        elif item.name in files:
            shutil.copy(item, copy)
    words = ["wheel", "--no-build-isolation", "--no-deps", "--no-index", "-w", target, copy]
    subprocess.run([*PIP, *words], env=clean(), cwd=target, check=True)
    (wheel,) = target.glob("*.whl")
    return wheel


@attrs.frozen
class Installed:
    """A fresh environment; commands run in a folder of its own, far from the checkout."""

    folder: Path

    @property
    def python(self) -> Path:
        return self.folder / "bin" / "python"

    @property
    def work(self) -> Path:
        return self.folder / "work"

    def pip(self, *words: object) -> None:
        subprocess.run(
            [*PIP, "--python", self.python, *map(str, words)],
            env=clean(), cwd=self.work, check=True, timeout=TIME_LIMIT,
        )  # fmt: skip

    def call(
        self, *words: object, status: int | None = 0, **variables: object
    ) -> subprocess.CompletedProcess[str]:
        """Run a command, and expect this exit status."""
        result = subprocess.run(
            [str(word) for word in words],
            env={
                **clean(),
                "QSDK_CACHE_DIR": str(self.work / "cache"),
                **{name: str(value) for name, value in variables.items()},
            },
            cwd=self.work,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=TIME_LIMIT,
        )
        shown = f"{result.args}\nstdout: {result.stdout}\nstderr: {result.stderr}"
        assert status in (None, result.returncode), f"exit status {result.returncode} of {shown}"
        return result

    def qsdk(self, *words: object, status: int | None = 0, **variables: object):
        """Run the command that pip has installed; ``document`` is what --json printed."""
        result = self.call(self.folder / "bin" / "qsdk", *words, status=status, **variables)
        assert "Traceback" not in result.stderr or "print" in words, result.stderr
        result.document = json.loads(result.stdout) if "--json" in words else None
        return result

    def run(self, code: str, *words: object, **variables: object) -> str:
        """What a program prints."""
        return self.call(self.python, "-c", textwrap.dedent(code), *words, **variables).stdout


@pytest.fixture(scope="session")
def wheels(tmp_path_factory) -> dict[str, Path]:
    """The wheel of qsdk, and that of a stranger's package."""
    pytest.importorskip("pip", reason="there is no pip to build and install with")
    base = tmp_path_factory.getbasetemp()
    if "PYTEST_XDIST_WORKER" in os.environ:
        base = base.parent  # that of the run, of which each worker has a part
    folder = base / "wheels"
    folder.mkdir(exist_ok=True)
    with open(folder / "lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        return {
            name: next((folder / name).glob("*.whl"), None)
            or build(source, folder / name, *files.split())
            for name, (source, files) in PROJECTS.items()
        }


@pytest.fixture(scope="session")
def environment_of(tmp_path_factory):
    """Make a fresh environment with these wheels in it."""

    def make(name: str, *files: Path) -> Installed:
        installed = Installed(tmp_path_factory.mktemp(name))
        venv.create(installed.folder, symlinks=True)
        installed.work.mkdir()
        (site,) = installed.folder.glob("lib/python*/site-packages")
        others = [path for path in sys.path if path.endswith(("site-packages", "dist-packages"))]
        (site / "environment_of_the_tests.pth").write_text("\n".join(others))
        installed.pip("install", "--no-deps", "--no-index", *files)
        return installed

    return make


@pytest.fixture(scope="session")
def with_codebook(environment_of, wheels) -> Installed:
    """qsdk and the stranger's package."""
    return environment_of("with-codebook", *wheels.values())
