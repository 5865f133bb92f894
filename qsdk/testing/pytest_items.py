"""The tests that ``pytest --qsdk-contract=NAME`` adds; loaded only when it is given."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from qsdk.errors import QsdkError
from qsdk.testing.check import ContractBroken
from qsdk.testing.parametrize import ContractTest, contract_tests


class ContractItem(pytest.Item):
    """One check of one plugin."""

    def __init__(self, *, test: ContractTest, **words: Any):
        super().__init__(**words)
        self.test = test

    def runtest(self) -> None:
        self.test()

    def repr_failure(self, excinfo: pytest.ExceptionInfo[BaseException], style: Any = None) -> Any:
        """What the check says; the way to it is of no interest."""
        if isinstance(excinfo.value, ContractBroken):
            return str(excinfo.value)
        return super().repr_failure(excinfo, style)

    def reportinfo(self) -> tuple[Path, None, str]:
        return self.path, None, self.name


def _only_contracts(config: pytest.Config) -> bool:
    """Whether no path was given, so that contracts are all that is asked for."""
    return config.args_source is not pytest.Config.ArgsSource.ARGS


def pytest_ignore_collect(collection_path: Path, config: pytest.Config) -> bool | None:
    return True if _only_contracts(config) and collection_path.is_file() else None


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(
    session: pytest.Session, config: pytest.Config, items: list[pytest.Item]
) -> None:
    folder = config.getoption("--qsdk-save")
    for name in config.getoption("--qsdk-contract"):
        try:
            tests = list(contract_tests(name, save_failures=Path(folder) if folder else None))
        except QsdkError as error:
            raise pytest.UsageError(str(error)) from None
        for test in tests:
            item = ContractItem.from_parent(session, name=test.id, test=test, nodeid=test.id)
            items.append(item)
