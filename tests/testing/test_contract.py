"""Everything that comes with qsdk keeps the contract of its kind."""

from __future__ import annotations

from typing import Any

from qsdk import registry
from qsdk.testing import parametrize_with_contract
from qsdk.testing.subject import subject_of

# What is searched or learned, in few steps: the promises hold after any number of them.
IN_FEW_STEPS: dict[str, dict[str, Any]] = {
    "adaround": {"steps": 20},
    "admm": {"rounds": 5},
    "cosine": {"bins": 256},
    "easyquant": {"candidates": 3},
    "hqq": {"rounds": 5},
    "kl": {"bins": 256},
    "lp": {"bins": 64},
    "mse": {"bins": 256},
}
BUILT_IN = [
    subject_of(entry, IN_FEW_STEPS.get(entry.name))
    for entry in registry.entries()
    if entry.distribution == "qsdk"
]


@parametrize_with_contract(BUILT_IN)
def test_contract(check):
    check()
