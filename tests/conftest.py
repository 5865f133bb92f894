"""What all tests share: the data folder, the C extension, and hypothesis settings."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest
from hypothesis import settings

HERE = Path(__file__).parent
SHARED = HERE.parent.parent / "shared"

sys.path.insert(0, str(HERE))  # for oracles.py, under --import-mode=importlib

# An example may meet a busy machine: no deadline. More of them: HYPOTHESIS_PROFILE=thorough.
settings.register_profile("quick", deadline=None, max_examples=40)
settings.register_profile("thorough", deadline=None, max_examples=1000)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "quick"))


@pytest.fixture(scope="session", autouse=True)
def cache_of_the_tests(tmp_path_factory):
    """What qsdk notes of this machine goes into a folder of the tests, never into the user's."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("QSDK_CACHE_DIR", str(tmp_path_factory.mktemp("cache")))
        yield


def _absent(what: str, switch: str) -> None:
    if os.environ.get(switch) == "1":
        pytest.fail(f"{what}, and {switch}=1 asks for it")
    pytest.skip(what)


@pytest.fixture(scope="session")
def shared() -> Path:
    """The folder of data sets and networks; absent in a bare checkout."""
    if not (SHARED / "data").is_dir():
        _absent("the shared data folder is not beside the checkout", "QSDK_REQUIRE_SHARED")
    return SHARED


@pytest.fixture
def native():
    """The door to C, for tests that need it."""
    from qsdk import native

    if not native.available():
        _absent(f"no C extension: {native.reason()}", "QSDK_REQUIRE_NATIVE")
    return native


@pytest.fixture
def without_native(monkeypatch):
    """The numpy twins, as on a machine without the C extension."""
    monkeypatch.setenv("QSDK_DISABLE_NATIVE", "1")


@pytest.fixture(params=["C", "numpy"])
def either(request, monkeypatch):
    """Runs a test twice: with C, and with the numpy twins."""
    if request.param == "numpy":
        monkeypatch.setenv("QSDK_DISABLE_NATIVE", "1")
    else:
        request.getfixturevalue("native")
    return request.param
