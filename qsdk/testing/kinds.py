"""The table of contracts: a new kind of plugin is one file and one row."""

from __future__ import annotations

import importlib
from collections.abc import Iterator
from typing import Any

from qsdk.testing.check import Check, Contract
from qsdk.testing.subject import subject_of

# kind -> module with its CONTRACT
CONTRACTS = {
    "quantizer": "qsdk.testing.quantizers",
    "observer": "qsdk.testing.observers",
    "encoding": "qsdk.testing.encodings",
    "adapter": "qsdk.testing.adapters",
    "kernel": "qsdk.testing.kernels",
    "pass": "qsdk.testing.passes",
}


def contract_of(kind: str) -> Contract:
    contract = importlib.import_module(CONTRACTS[kind]).CONTRACT
    assert isinstance(contract, Contract)
    return contract


def iter_checks(subject: Any) -> Iterator[Check]:
    """Every check that speaks of ``subject``: a name, a registry entry, a class, an instance.

    Which they are follows from what the subject declares, never from its name.
    """
    found = subject_of(subject)
    yield from contract_of(found.kind).checks(found)
