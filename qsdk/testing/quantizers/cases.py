"""The ways in which a quantizer is used: every width and granularity that it declares."""

from __future__ import annotations

import functools
import math
import types
from collections.abc import Iterator
from typing import Any

import attrs
import numpy as np
from numpy.typing import ArrayLike

from qsdk.encodings import Encoding
from qsdk.errors import SchemeError
from qsdk.interfaces import Layer, Quantizer
from qsdk.scheme import Granularity, Scheme
from qsdk.testing.check import Array, Case, Contract, NotApplicable
from qsdk.testing.subject import Subject

GROUP = 4  # values that share a scale where groups are declared: few, so that tails are met
PROVIDED = frozenset({"hessian"})  # what of a layer this kit can give a quantizer


def schemes_of(subject: Subject) -> Iterator[Scheme]:
    """The lowest and the usual width in every granularity; the others take turns with it."""
    can, usual = subject.target.capabilities, subject.scheme.bits
    granularities = sorted(can.granularity)
    for turn, bits in enumerate(sorted(can.bits)):
        whole = bits in (min(can.bits), usual)
        for granularity in granularities if whole else [granularities[turn % len(granularities)]]:
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
    target: Any = _on_layers(subject.target) if needs else subject.target
    quantizer: Quantizer = attrs.evolve(subject, target=target).build(scheme=scheme)
    return quantizer


def _on_layers(target: type[Quantizer]) -> type[Quantizer]:
    """The class, each of whose weights comes with a layer if none is given."""

    @functools.wraps(target.quantize)
    def quantize(self: Quantizer, weight: ArrayLike, *, layer: Layer | None = None) -> Encoding:
        return target.quantize(self, weight, layer=layer or layer_for(np.shape(weight)))

    name, words = target.__name__, {"__slots__": (), "quantize": quantize}
    return types.new_class(name, (target,), exec_body=lambda body: body.update(words))


@functools.cache
def layer_for(shape: tuple[int, ...]) -> Layer:
    """A layer whose inputs are correlated, as those of networks are, the last one always zero."""
    length = math.prod(shape[1:])
    own = np.random.default_rng(length).standard_normal((2 * length + 3, length + 1))
    inputs = own[:, :length] + own[:, length:]
    inputs[:, length - 1 :] = 0
    return Layer.of_inputs(np.broadcast_to(np.float32(0), shape), inputs)


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
