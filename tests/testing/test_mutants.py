"""Every check is itself checked: by a plugin with one fault, which it has to name."""

from __future__ import annotations

from collections import Counter

import pytest

from qsdk.testing import check_plugin
from qsdk.testing.kinds import CONTRACTS, contract_of, iter_checks
from qsdk.testing.result import FAILED
from qsdk.testing.run import COVERAGE, run_one

from .mutants import GOOD, MUTANTS


def name_of(mutant) -> str:
    target = mutant if isinstance(mutant, type) else type(mutant)
    return f"{target.__module__.rpartition('.')[2]}-{target.__name__}"


@pytest.mark.parametrize("good", GOOD, ids=name_of)
def test_what_mutants_are_made_from_is_sound(good):
    result = check_plugin(good)
    assert result.ok, str(result)


@pytest.mark.parametrize(
    ("check", "mutant"),
    MUTANTS,
    ids=[f"{check}-{name_of(mutant)}" for check, mutant in MUTANTS],
)
def test_the_check_catches_the_mutant(check, mutant, caught):
    assert catches(check, mutant)
    caught(check, name_of(mutant))


def catches(check, mutant) -> bool:
    """Whether this check alone fails; what was exercised takes a run of them all."""
    if check == COVERAGE:
        return check in {o.check for o in check_plugin(mutant, max_examples=1).failed}
    mine = (found for found in iter_checks(mutant) if found.name == check)
    return any(run_one(found).status == FAILED for found in mine)


def test_every_check_has_a_mutant_and_a_name_of_its_own():
    checks = [promise.name for kind in CONTRACTS for promise in contract_of(kind).promises]
    assert max(Counter(checks).values()) == 1
    assert {*checks, COVERAGE} == {check for check, _ in MUTANTS}
