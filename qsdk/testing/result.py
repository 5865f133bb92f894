"""What a run found, counted."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import attrs

from qsdk.errors import some

PASSED, FAILED, SKIPPED, EXPECTED, WARNED = "passed", "failed", "skipped", "expected", "warned"


@attrs.frozen
class Outcome:
    """What became of one check.

    status : passed, failed, skipped, expected (a known failure) or warned (a provisional check)
    message : what was found, or the reason of a skip or an expectation
    array : the smallest array that shows it, in words
    reproducer : the file that replays it
    """

    check: str
    case: str
    status: str
    message: str = ""
    array: str = ""
    reproducer: str = ""

    @property
    def id(self) -> str:
        return f"{self.check}[{self.case}]" if self.case else self.check

    def __str__(self) -> str:
        parts = [f"{self.status} {self.id}"]
        if self.message:
            parts.append(f": {self.message}")
        if self.array:
            parts.append(f"\n    on {self.array}")
        if self.reproducer:
            parts.append(f'\n    qsdk.testing.replay("{self.reproducer}")')
        return "".join(parts)


@attrs.frozen
class Result:
    """All outcomes of one subject. ``ok`` when nothing failed and something ran."""

    subject: str
    kind: str
    kit_version: str
    outcomes: Sequence[Outcome]

    def of(self, status: str) -> list[Outcome]:
        return [outcome for outcome in self.outcomes if outcome.status == status]

    @property
    def passed(self) -> list[Outcome]:
        return self.of(PASSED)

    @property
    def failed(self) -> list[Outcome]:
        return self.of(FAILED)

    @property
    def skipped(self) -> list[Outcome]:
        return self.of(SKIPPED)

    @property
    def expected(self) -> list[Outcome]:
        return self.of(EXPECTED)

    @property
    def warned(self) -> list[Outcome]:
        return self.of(WARNED)

    @property
    def ok(self) -> bool:
        return not self.failed and bool(self.passed)

    @property
    def counts(self) -> dict[str, int]:
        return {word: len(self.of(word)) for word in (PASSED, FAILED, SKIPPED, EXPECTED, WARNED)}

    def to_dict(self) -> dict[str, Any]:
        return {
            "subject": self.subject,
            "kind": self.kind,
            "kit_version": self.kit_version,
            "ok": self.ok,
            "counts": self.counts,
            "outcomes": [
                {"id": outcome.id, **attrs.asdict(outcome)}
                for outcome in self.outcomes
                if outcome.status != PASSED
            ],
            "passed": [outcome.id for outcome in self.passed],
        }

    def summary(self) -> str:
        """The counts in one line."""
        checks = len({outcome.check for outcome in self.outcomes})
        counts = ", ".join(f"{number} {word}" for word, number in self.counts.items() if number)
        return f"{self.kind} {self.subject}: {checks} checks, {counts or 'nothing ran'}"

    def __str__(self) -> str:
        lines = [
            line for found in (self.failed, self.warned, self.expected) for line in _told(found)
        ]
        return "\n".join([*lines, *_reasons(self.skipped), self.summary()])


def _told(outcomes: Sequence[Outcome]) -> list[str]:
    """The first outcome of each check in full, then the other cases that it met."""
    others: dict[str, list[Outcome]] = {}
    for outcome in outcomes:
        others.setdefault(outcome.check, []).append(outcome)
    lines = []
    for first, *rest in others.values():
        lines.append(str(first))
        if rest:
            lines.append(f"    also with {some(outcome.case for outcome in rest)}")
    return lines


def _reasons(skipped: Sequence[Outcome]) -> list[str]:
    """One line per reason, with the checks that it kept from running."""
    names: dict[str, dict[str, None]] = {}
    for outcome in skipped:
        names.setdefault(outcome.message, {})[outcome.check] = None
    return [f"skipped {some(which)}: {reason}" for reason, which in names.items()]
