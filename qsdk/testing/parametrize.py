"""The doors to pytest: a decorator for an author's test file, and the tests behind it.

pytest is imported only when one of these is called.
"""

from __future__ import annotations

import functools
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import attrs

from qsdk.testing.check import Check, ContractBroken
from qsdk.testing.kinds import iter_checks
from qsdk.testing.result import FAILED, SKIPPED, WARNED
from qsdk.testing.run import COVERAGE, coverage, expectations, reason_to_fail, run_one
from qsdk.testing.subject import Subject, subject_of


@attrs.frozen(eq=False)
class ContractTest:
    """One test of pytest; ``reason`` is why it is known to fail."""

    id: str
    call: Callable[[], None]
    reason: str | None = None

    def __call__(self) -> None:
        self.call()


def contract_tests(
    subject: Any,
    expected_failures: Mapping[str, str] | None = None,
    save_failures: Path | None = None,
) -> Iterator[ContractTest]:
    """Every check of ``subject`` as a test, and one that counts what was exercised."""
    found = subject_of(subject)
    checks = list(iter_checks(found))
    expected = expectations(expected_failures or {}, checks)
    for check in checks:
        reason = reason_to_fail(check, expected)
        yield ContractTest(check.test_id, functools.partial(_run, check, save_failures), reason)
    last = functools.partial(_run_coverage, found, checks)
    yield ContractTest(f"{found.name}-{COVERAGE}", last)


def _run(check: Check, save: Path | None) -> None:
    import pytest

    outcome = run_one(check, save=save)
    if outcome.status == SKIPPED:
        pytest.skip(outcome.message)
    if outcome.status == WARNED:
        warnings.warn(str(outcome), stacklevel=2)
    if outcome.status == FAILED:
        raise ContractBroken(str(outcome))


def _run_coverage(subject: Subject, checks: Sequence[Check]) -> None:
    outcome = coverage(subject, checks, functools.partial(run_one, max_examples=1))
    if outcome.status == FAILED:
        raise ContractBroken(str(outcome))


def parametrize_with_contract(
    subjects: Iterable[Any], *, expected_failures: Mapping[str, str] | None = None
) -> Any:
    """Decorate ``def test_contract(check): check()``: a test for each check of each subject.

    subjects : names, registry entries, classes or instances of plugins
    expected_failures : ``check_x``, or ``check_x[case]``, to the reason; one that passes fails
    """
    import pytest

    cases = [
        pytest.param(
            test,
            id=test.id,
            marks=[pytest.mark.xfail(reason=test.reason, strict=True)] if test.reason else [],
        )
        for subject in subjects
        for test in contract_tests(subject, expected_failures)
    ]
    return pytest.mark.parametrize("check", cases)
