"""``pytest --qsdk-contract=NAME``: the contract as tests, without a test file.

pytest imports this module in every run where qsdk is installed: until the option is given it
adds two options and imports nothing.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import pytest


def pytest_addoption(parser: pytest.Parser) -> None:
    group = parser.getgroup("qsdk", "contracts of qsdk's plugins")
    group.addoption(
        "--qsdk-contract",
        action="append",
        default=[],
        metavar="NAME",
        help="run the contract kit on what is registered under NAME; may be given several times",
    )
    group.addoption(
        "--qsdk-save",
        default=None,
        metavar="DIR",
        help="write an .npz for each failure of a contract, which replays it",
    )


def pytest_configure(config: pytest.Config) -> None:
    if config.getoption("--qsdk-contract"):
        from qsdk.testing import pytest_items

        config.pluginmanager.register(pytest_items, "qsdk-contract-items")
