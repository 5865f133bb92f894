"""Counts the mutants that their checks caught, and says so at the end of the run."""

from __future__ import annotations

import pytest

TESTS = "test_the_check_catches_the_mutant"


@pytest.fixture
def caught(record_property):
    """Call with (check, mutant) when the mutant was caught."""
    return lambda check, mutant: record_property("caught", f"{check} {mutant}")


def pytest_terminal_summary(terminalreporter):
    reports = [
        report
        for status in ("passed", "failed", "error")
        for report in terminalreporter.stats.get(status, [])
        if TESTS in report.nodeid and report.when == "call"
    ]
    if reports:
        found = [value for r in reports for name, value in r.user_properties if name == "caught"]
        checks = len({value.split()[0] for value in found})
        terminalreporter.write_line(
            f"mutants: caught {len(found)} of {len(reports)}, by {checks} checks"
        )
