"""Everything that comes with qsdk keeps the contract of its kind."""

from __future__ import annotations

from qsdk import registry
from qsdk.testing import parametrize_with_contract

BUILT_IN = [entry for entry in registry.entries() if entry.distribution == "qsdk"]


@parametrize_with_contract(BUILT_IN)
def test_contract(check):
    check()
