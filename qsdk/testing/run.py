"""Running a contract and counting: what ran, what was skipped, what nobody looked at."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import attrs

from qsdk.errors import OptionError, did_you_mean
from qsdk.testing import reproducer
from qsdk.testing.check import (
    KIT_VERSION,
    MAX_EXAMPLES,
    Array,
    Check,
    ContractBroken,
    NotApplicable,
)
from qsdk.testing.kinds import contract_of
from qsdk.testing.result import EXPECTED, FAILED, PASSED, SKIPPED, WARNED, Outcome, Result
from qsdk.testing.shrink import shrink
from qsdk.testing.subject import Subject, subject_of

COVERAGE = "check_every_declared_capability_is_exercised"


def check_plugin(
    subject: Any,
    *,
    expected_failures: Mapping[str, str] | None = None,
    max_examples: int = MAX_EXAMPLES,
    save_failures: Path | None = None,
) -> Result:
    """Run every check that speaks of ``subject``.

    subject : a registered name, a registry entry, a class or an instance of a plugin
    expected_failures : ``check_x``, or ``check_x[case]`` for one case, to the reason. One that
        passes is a failure.
    max_examples : arrays that each check is tried on
    save_failures : a folder that gets an ``.npz`` for each failure, to replay it

    >>> result = check_plugin("rtn", max_examples=1)
    >>> result.ok
    True
    """
    found = subject_of(subject)
    checks = list(contract_of(found.kind).checks(found))
    expected = expectations(expected_failures or {}, checks)
    outcomes: list[Outcome] = []
    for check in checks:
        failed_before = any(o.check == check.name and o.array for o in outcomes)
        outcome = run_one(check, max_examples, save_failures, smallest=not failed_before)
        outcomes.append(_as_expected(check, outcome, expected))
    made = dict(zip(map(id, checks), outcomes, strict=True))
    outcomes.append(coverage(found, checks, lambda check: made[id(check)]))
    return Result(found.name, found.kind, KIT_VERSION, outcomes)


def expectations(expected: Mapping[str, str], checks: Sequence[Check]) -> Mapping[str, str]:
    """``expected`` itself, when every check in it is known and has a reason to fail."""
    known = {name for check in checks for name in (check.name, check.id)}
    for name, reason in expected.items():
        if name not in known:
            raise OptionError(f"no check {name!r} to fail{did_you_mean(name, known)}")
        if not isinstance(reason, str) or not reason.strip():
            raise OptionError(f"say why {name} is expected to fail: its reason is {reason!r}")
    return expected


def reason_to_fail(check: Check, expected: Mapping[str, str]) -> str | None:
    """Why this check is known to fail; None when it is not."""
    return expected.get(check.id, expected.get(check.name))


def _as_expected(check: Check, outcome: Outcome, expected: Mapping[str, str]) -> Outcome:
    """A known failure is no failure, and one that has gone is."""
    reason = reason_to_fail(check, expected)
    if reason is None or outcome.status == SKIPPED:
        return outcome
    if outcome.status in (FAILED, WARNED):
        return attrs.evolve(outcome, status=EXPECTED, message=f"{reason} ({outcome.message})")
    return attrs.evolve(
        outcome, status=FAILED, message=f"it passes, and was expected to fail: {reason}"
    )


def run_one(
    check: Check,
    max_examples: int = MAX_EXAMPLES,
    save: Path | None = None,
    *,
    smallest: bool = True,
) -> Outcome:
    """What becomes of one check, expectations aside; ``smallest`` shrinks what fails."""
    case = "" if check.promise.once else check.case.label
    ran, reason = False, "it had no array to try"
    for what, array in check.inputs(max_examples):
        try:
            check.try_on(array)
            ran = True
        except NotApplicable as not_this:
            reason = str(not_this)
        except ContractBroken as error:
            if smallest and array is not None:
                array, error = _smallest(check, array, error)
            return _failure(check, case, array, what, error, save)
    return Outcome(check.name, case, PASSED) if ran else Outcome(check.name, case, SKIPPED, reason)


def _smallest(check: Check, array: Array, error: ContractBroken) -> tuple[Array, ContractBroken]:
    array = shrink(array, lambda smaller: _breaks(check, smaller, error) is not None)
    return array, _breaks(check, array, error) or error


def _failure(
    check: Check,
    case: str,
    array: Array | None,
    what: str,
    error: ContractBroken,
    save: Path | None,
) -> Outcome:
    path = reproducer.save(save, check, array, str(error)) if save else ""
    status = WARNED if check.provisional else FAILED
    words = "" if array is None else f"{reproducer.in_words(array)} (from {what})"
    return Outcome(check.name, case, status, str(error), words, str(path))


def _breaks(check: Check, array: Array, like: ContractBroken) -> ContractBroken | None:
    """The error on ``array``, if it comes from the same kind of cause."""
    try:
        check.try_on(array)
    except ContractBroken as error:
        return error if type(error.__cause__) is type(like.__cause__) else None
    except NotApplicable:
        pass
    return None


def coverage(
    subject: Subject, checks: Sequence[Check], outcome_of: Callable[[Check], Outcome]
) -> Outcome:
    """Red where a declared capability was not exercised, or where nothing ran at all.

    outcome_of : what became of a check; asked only of those that may still add something
    """
    missing = set(contract_of(subject.kind).declared(subject))
    ran, skipped = False, Counter[str]()
    for check in checks:
        if ran and not missing & check.case.exercises:
            continue
        outcome = outcome_of(check)
        if outcome.status == SKIPPED:
            skipped[outcome.message] += 1
        else:
            ran, missing = True, missing - check.case.exercises
    if missing:
        reason = f"declared, and exercised by no check: {', '.join(sorted(missing))}"
        return Outcome(COVERAGE, "", FAILED, f"{reason} [{subject.name}]")
    if not ran:
        why = skipped.most_common(1)
        reason = f"nothing ran: {why[0][0] if why else 'there is nothing to check'}"
        return Outcome(COVERAGE, "", FAILED, f"{reason} [{subject.name}]")
    return Outcome(COVERAGE, "", PASSED)


def replay(path: str | Path, *, subject: Any = None) -> None:
    """Run the one check that a reproducer holds, on its array; raises as it did then.

    ``subject`` is needed where the file comes from a class that is not registered.
    """
    document, array = reproducer.read(Path(path))
    if subject is None and not document["registered"]:
        raise OptionError(
            f"{document['subject']} is not registered; give it: replay({str(path)!r}, subject=...)"
        )
    given = document["subject"] if subject is None else subject
    found = subject_of(given, document["options"] if subject is None else None)
    for check in contract_of(found.kind).checks(found):
        if (check.name, check.case.label) == (document["check"], document["case"]):
            if array is None:
                return check()
            return check.try_on(array)
    raise OptionError(f"{found.name} has no {document['check']}[{document['case']}]")
