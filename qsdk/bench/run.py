"""A case, measured: qsdk and every peer that can do it, in the same rounds."""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Iterator
from typing import Any

import attrs

from qsdk.bench.cases import Case
from qsdk.bench.ours import ours
from qsdk.bench.peers import SAME, Candidate, Peer
from qsdk.bench.timing import Call, Timing, interleave
from qsdk.errors import QsdkError

OURS = "qsdk"
Calls = dict[tuple[str, str, str], Call]  # (library, name, kind)
REST_S = 0.02  # with several threads: those of the call before spin for some of it


@attrs.frozen
class Subject:
    """One way of doing a case, timed.

    library : "qsdk", or the peer's name; name : of the kernel or function
    kind : see :class:`qsdk.bench.peers.Candidate`
    """

    library: str
    name: str
    kind: str
    timing: Timing

    def to_dict(self) -> dict[str, Any]:
        timing = self.timing
        return {
            "library": self.library,
            "name": self.name,
            "kind": self.kind,
            "best_ns": timing.best_ns,
            "median_ns": timing.median_ns,
            "rounds_ns": timing.rounds_ns,
        }


@attrs.frozen(kw_only=True)
class Result:
    """What a case gave.

    ours : None where qsdk has nothing for it, for the ``reason``
    failed : peers' ways that raised, with what they said
    nbytes : of the encoded weights, 0 where there are none
    """

    case: Case
    ours: Subject | None
    reason: str = ""
    peers: tuple[Subject, ...] = ()
    failed: dict[str, str] = attrs.field(factory=dict)
    nbytes: int = 0

    def best(self, kind: str, library: str | None = None) -> Subject | None:
        """The fastest peer of a kind, or that library's fastest way."""
        fitting = [
            subject
            for subject in self.peers
            if subject.kind == kind and library in (None, subject.library)
        ]
        return min(fitting, key=lambda subject: subject.timing.best_ns, default=None)

    def ratio(self, kind: str) -> float | None:
        """How many times our time the best peer of the kind takes: above 1 we are faster."""
        peer = self.best(kind)
        if peer is None or self.ours is None:
            return None
        return peer.timing.best_ns / self.ours.timing.best_ns

    @property
    def kinds(self) -> list[str]:
        return list(dict.fromkeys(subject.kind for subject in self.peers))

    @property
    def is_noisy(self) -> bool:
        subjects = (*self.peers, *([self.ours] if self.ours else []))
        return any(subject.timing.is_noisy for subject in subjects)

    def to_dict(self) -> dict[str, Any]:
        form, work = self.case.form, self.case.work
        return {
            "operation": form.operation,
            "form": form.name,
            "shape": str(work),
            "work": attrs.asdict(work),
            "macs": getattr(work, "macs", None),
            "kernel": self.ours.name if self.ours else None,
            "skipped": self.reason or None,
            "nbytes": self.nbytes,
            "ours": self.ours.to_dict() if self.ours else None,
            "peers": [subject.to_dict() for subject in self.peers],
            "failed": self.failed,
            "ratios": {kind: self.ratio(kind) for kind in self.kinds},
            "noisy": self.is_noisy,
        }


def run_case(
    case: Case, peers: Iterable[Peer], rounds: int, threads: int, limit_s: float = 10.0
) -> Result:
    """Measure ``case``; without a kernel for it nothing is timed, and the reason is said."""
    form, work = case.form, attrs.evolve(case.work)  # a copy's arrays go with it
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # those of the peers
        try:
            mine = ours(form, work, threads)
            mine.call()
        except QsdkError as error:
            return Result(case=case, ours=None, reason=str(error))
        calls: Calls = {(OURS, mine.name, SAME): mine.call}
        others, failed = build((peer.name, peer.candidates(form, work)) for peer in peers)
        subjects = timed({**calls, **others}, rounds, threads, limit_s)
    return Result(
        case=case, ours=subjects[0], peers=tuple(subjects[1:]), failed=failed, nbytes=mine.nbytes
    )


def timed(calls: Calls, rounds: int, threads: int, limit_s: float = 10.0) -> list[Subject]:
    """All calls in the same rounds."""
    rest_s = REST_S if threads > 1 else 0
    timings = interleave(calls, rounds, limit_s=limit_s, rest_s=rest_s)
    return [Subject(*key, timing) for key, timing in timings.items()]


def build(offers: Iterable[tuple[str, Iterable[Candidate]]]) -> tuple[Calls, dict[str, str]]:
    """What the libraries can do, tried once each; and what failed: each has faults of its own."""
    calls: Calls = {}
    failed: dict[str, str] = {}
    for library, candidates in offers:
        for candidate in _unharmed(library, candidates, failed):
            try:
                call = candidate.build()
                call()
            except Exception as error:
                failed[f"{library} {candidate.name}"] = _one_line(error)
            else:
                calls[library, candidate.name, candidate.kind] = call
    return calls, failed


def _unharmed(
    library: str, candidates: Iterable[Candidate], failed: dict[str, str]
) -> Iterator[Candidate]:
    """The candidates up to where a library no longer has what it had."""
    try:
        yield from candidates
    except Exception as error:
        failed[library] = _one_line(error)


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split())[:200] or type(error).__name__
