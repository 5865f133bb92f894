"""Results as tables, for a terminal and for a page."""

from __future__ import annotations

from collections.abc import Sequence

from qsdk.bench.peers import SAME
from qsdk.bench.run import Result, Subject

Table = tuple[list[str], list[list[str]]]

BESIDE = {"float": "float32", "rounding": "plain rounding", "read": "one read"}


def time_text(nanoseconds: float) -> str:
    """
    >>> time_text(17_630), time_text(1_217_000), time_text(2.5e9)
    ('17.6 us', '1.22 ms', '2.50 s')
    """
    value, units = nanoseconds / 1e3, ["us", "ms", "s"]
    while value >= 999.5 and len(units) > 1:
        value, units = value / 1e3, units[1:]
    digits = 0 if value >= 99.95 else 1 if value >= 9.995 else 2
    return f"{value:.{digits}f} {units[0]}"


def ratio_text(ratio: float | None) -> str:
    """
    >>> ratio_text(34.57), ratio_text(1.337), ratio_text(0.00123), ratio_text(None)
    ('34.6x', '1.34x', '0.0012x', '-')
    """
    if ratio is None:
        return "-"
    return f"{ratio:.1f}x" if ratio >= 10 else f"{ratio:.2f}x" if ratio >= 0.1 else f"{ratio:.2g}x"


def groups(results: Sequence[Result]) -> dict[str, list[Result]]:
    """Results by operation and form, in their order."""
    found: dict[str, list[Result]] = {}
    for result in results:
        form = result.case.form
        found.setdefault(f"{form.operation}, {form.name}", []).append(result)
    return found


def table(results: Sequence[Result]) -> Table:
    """Heads and rows for results of one form; those that were skipped are left out.

    A column per peer that does the same work, and the best of those that do something else.
    """
    measured = [result for result in results if result.ours is not None]
    subjects = [subject for result in measured for subject in result.peers]
    same = list(dict.fromkeys(s.library for s in subjects if s.kind == SAME))
    beside = list(dict.fromkeys(s.kind for s in subjects if s.kind != SAME))
    heads = ["shape", "kernel", ">qsdk", *(f">{name}" for name in same)]
    heads += [">x best"] if same else []
    for kind in beside:
        heads += [f">{BESIDE[kind]}", f">x {BESIDE[kind]}"]
    return heads, [_row(result, same, beside) for result in measured]


def _row(result: Result, same: Sequence[str], beside: Sequence[str]) -> list[str]:
    assert result.ours is not None
    row = [str(result.case.work), result.ours.name, time_text(result.ours.timing.best_ns)]
    row += [_time(result.best(SAME, library)) for library in same]
    row += [ratio_text(result.ratio(SAME))] if same else []
    for kind in beside:
        best = result.best(kind)
        row += [f"{_time(best)} {best.library}" if best else "-", ratio_text(result.ratio(kind))]
    return row


def _time(subject: Subject | None) -> str:
    return time_text(subject.timing.best_ns) if subject else "-"


def skipped(results: Sequence[Result]) -> list[str]:
    """One line per form and reason."""
    found: dict[tuple[str, str], list[str]] = {}
    for title, group in groups(results).items():
        for result in group:
            if result.ours is None:
                found.setdefault((title, result.reason), []).append(str(result.case.work))
    return [
        f"skipped: {title} ({len(works)}): {shortened(why)}"
        for (title, why), works in found.items()
    ]


def shortened(reason: str, most: int = 120) -> str:
    """What every kernel has to say against a case is long; --json has it whole.

    >>> shortened("no kernel takes this: many reasons", most=24)
    'no kernel takes this ...'
    """
    return reason if len(reason) <= most else reason[: most - 4].rsplit(":", 1)[0] + " ..."


def notes(results: Sequence[Result]) -> list[str]:
    """What a reader should know: noise, and peers' ways that failed."""
    measured = [result for result in results if result.ours is not None]
    noisy = sum(result.is_noisy for result in measured)
    lines = []
    if noisy:
        lines.append(
            f"note: others use this machine: in {noisy} of {len(measured)} rows a median is far "
            "above its best; ratios are of the best rounds, repeat those that matter"
        )
    failed = {name: text for result in results for name, text in result.failed.items()}
    return lines + [f"note: {name} failed: {text}" for name, text in failed.items()]


def markdown(heads: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """
    >>> print(markdown(["shape", ">qsdk"], [["1x2x3", "5.0 us"]]))
    | shape | qsdk |
    | --- | ---: |
    | 1x2x3 | 5.0 us |
    """
    lines = [
        [head.lstrip(">") for head in heads],
        ["---:" if head.startswith(">") else "---" for head in heads],
        *rows,
    ]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in lines)


def page(facts: Sequence[str], results: Sequence[Result], command: str) -> str:
    """All of it as one page in Markdown.

    facts : of the machine; command : what was typed
    """
    parts = ["# What was measured", f"This page is what `{command}` printed.", _items(facts)]
    for title, group in groups(results).items():
        heads, rows = table(group)
        if rows:
            parts += [f"## {title}", markdown(heads, rows)]
    remarks = [*skipped(results), *notes(results)]
    return "\n\n".join([*parts, *([_items(remarks)] if remarks else [])])


def _items(lines: Sequence[str]) -> str:
    return "\n".join(f"- {line}" for line in lines)
