"""The contract kit: proves that a plugin keeps the promises of its interface.

    result = qsdk.testing.check_plugin("squant")
    assert result.ok, result

Other doors: :func:`parametrize_with_contract` in a test file, ``pytest --qsdk-contract=NAME``
and ``qsdk check NAME`` without one. Names are resolved on first use, so that pytest may look
into this package without importing numpy.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from qsdk.testing.check import KIT_VERSION as KIT_VERSION
    from qsdk.testing.check import Check as Check
    from qsdk.testing.check import ContractBroken as ContractBroken
    from qsdk.testing.kinds import iter_checks as iter_checks
    from qsdk.testing.parametrize import parametrize_with_contract as parametrize_with_contract
    from qsdk.testing.result import Outcome as Outcome
    from qsdk.testing.result import Result as Result
    from qsdk.testing.run import check_plugin as check_plugin
    from qsdk.testing.run import replay as replay

_HOME = {
    "KIT_VERSION": "check",
    "Check": "check",
    "ContractBroken": "check",
    "iter_checks": "kinds",
    "parametrize_with_contract": "parametrize",
    "Outcome": "result",
    "Result": "result",
    "check_plugin": "run",
    "replay": "run",
}

__all__ = list(_HOME)


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module 'qsdk.testing' has no attribute {name!r}")
    value = getattr(importlib.import_module(f"qsdk.testing.{_HOME[name]}"), name)
    globals()[name] = value
    return value
