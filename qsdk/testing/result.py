"""What a run found, counted."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

import attrs

from qsdk.errors import some

PASSED, FAILED, SKIPPED, EXPECTED, WARNED = "passed", "failed", "skipped", "expected", "warned"

WHERE = re.compile(r" \[[^\[\]]*\]\)?$")  # the subject and its case, as checks add them
NUMBERS = re.compile(r"([-+]?(\d[\d.]*(e[-+]?\d+)?|inf|nan)\b[.,\s]*)+")  # one, or an array of them


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
    """The first outcome of each kind in full, then where else it was met."""
    kinds: dict[str, list[Outcome]] = {}
    for outcome in outcomes:
        kinds.setdefault(_kind(outcome.message), []).append(outcome)
    return [
        line
        for first, *rest in kinds.values()
        for line in (str(first), *([_elsewhere(first, rest)] if rest else []))
    ]


def _kind(message: str) -> str:
    """The message without what differs from case to case: where it was, and any numbers.

    What a plugin raises is the same in whichever check it is met; other messages are a check's own.
    """
    return NUMBERS.sub("#", WHERE.sub("", message))


def _elsewhere(first: Outcome, rest: Sequence[Outcome]) -> str:
    """How often an outcome came again, and in which cases, or in which checks if in others too."""
    checks = dict.fromkeys(outcome.check for outcome in rest)
    others = [check for check in checks if check != first.check]
    listed = some(others) if others else some(outcome.case for outcome in rest)
    spread = f", {len(others) + 1} checks in all" if others else ""
    return f"    and in {len(rest)} more case{'s' * (len(rest) > 1)}{spread}: {listed}"


def _reasons(skipped: Sequence[Outcome]) -> list[str]:
    """One line per reason, with the checks that it kept from running."""
    names: dict[str, dict[str, None]] = {}
    for outcome in skipped:
        names.setdefault(outcome.message, {})[outcome.check] = None
    return [f"skipped {some(which)}: {reason}" for reason, which in names.items()]
