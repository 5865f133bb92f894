"""The ways in which a quantizer is used: every width and granularity that it declares."""

from __future__ import annotations

import functools
import itertools
from collections.abc import Iterator

import numpy as np

from qsdk.errors import SchemeError
from qsdk.interfaces import Quantizer
from qsdk.scheme import Granularity, Scheme
from qsdk.testing.check import Array, Case, Contract, NotApplicable
from qsdk.testing.subject import Subject

GROUP = 4  # values that share a scale where groups are declared: few, so that tails are met
PROVIDED: frozenset[str] = frozenset()  # what of a layer this kit can give a quantizer


def schemes_of(subject: Subject) -> Iterator[Scheme]:
    """Every declared scheme that there is: width by width, granularity by granularity."""
    can = subject.target.capabilities
    for bits, granularity in itertools.product(sorted(can.bits), sorted(can.granularity)):
        group = GROUP if granularity is Granularity.PER_GROUP else None
        try:
            yield subject.scheme.replace(bits=bits, granularity=granularity, group_size=group)
        except SchemeError:
            continue  # what cannot exist is not exercised, and so is reported


def cases(subject: Subject) -> Iterator[Case]:
    needs = frozenset(subject.target.capabilities.needs)
    for scheme in schemes_of(subject):
        yield Case(
            label=f"{scheme.bits}bit-{scheme.granularity}",
            title=str(scheme),
            build=functools.partial(_built, subject, scheme, needs),
            exercises=frozenset({f"{scheme.bits} bits", str(scheme.granularity), *needs}),
            facts={"scheme": scheme, "subject": subject},
        )


def declared(subject: Subject) -> frozenset[str]:
    can = subject.target.capabilities
    bits = {f"{width} bits" for width in can.bits}
    return frozenset({*bits, *map(str, can.granularity), *can.needs})


def _built(subject: Subject, scheme: Scheme, needs: frozenset[str]) -> Quantizer:
    lacking = needs - PROVIDED
    if lacking:
        raise NotApplicable(f"this kit has no {', '.join(sorted(lacking))} of a layer to give")
    quantizer: Quantizer = subject.build(scheme=scheme)
    return quantizer


CONTRACT = Contract("quantizer", cases, declared)
promise = CONTRACT.promise


def per_group(case: Case) -> bool:
    """Whether the case is of groups."""
    return bool(case.facts["scheme"].granularity == Granularity.PER_GROUP)


def has_channels(case: Case) -> bool:
    """Whether a channel of the case has a scale of its own."""
    return bool(case.facts["scheme"].granularity != Granularity.PER_TENSOR)


def resolution(scheme: Scheme) -> float:
    """What one honest code may be off, as a share of the largest magnitude in its slice."""
    return 2.0 ** (1 - scheme.bits)


def largest(weight: Array) -> float:
    """The largest magnitude; 0 of nothing."""
    return float(np.abs(weight.astype(np.float64)).max(initial=0))
