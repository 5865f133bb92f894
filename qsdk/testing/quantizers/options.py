"""A quantizer as a value: frozen, refusing what it does not declare, worth its bits."""

from __future__ import annotations

import functools
import itertools
from typing import Any

import attrs
import numpy as np

from qsdk.errors import SchemeError
from qsdk.interfaces import Quantizer
from qsdk.metrics import sqnr_db
from qsdk.scheme import Granularity
from qsdk.testing import corpus
from qsdk.testing.check import Case, NotApplicable, refused_with, require
from qsdk.testing.quantizers.cases import (
    GROUP,
    promise,
)

SLACK_DB = 1.5  # by which one bit more may be worse on one weight


# -- A frozen value


@promise(once=True)
def check_the_quantizer_is_frozen(quantizer: Quantizer) -> None:
    """Setting a field raises AttributeError."""
    for field in attrs.fields(type(quantizer)):
        value = getattr(quantizer, field.name)
        what = f"setting {field.name}"
        refused_with(AttributeError, what, setattr, quantizer, field.name, value)


@promise(once=True)
def check_options_are_fields_with_defaults(quantizer: Quantizer) -> None:
    """The class takes no argument that is not a field, and none that must be given."""
    fields = [field for field in attrs.fields(type(quantizer)) if field.init]
    for field in fields:
        require(field.default is not attrs.NOTHING, f"option {field.name} has no default")
    type(quantizer)()


@promise(once=True)
def check_undeclared_schemes_are_refused(quantizer: Quantizer) -> None:
    """A width or a granularity outside ``capabilities`` raises SchemeError when built."""
    can = quantizer.capabilities
    others = [{"bits": bits} for bits in range(1, 9) if bits not in can.bits]
    words: list[dict[str, Any]] = [*others]
    for granularity in set(Granularity) - can.granularity:
        group = GROUP if granularity is Granularity.PER_GROUP else None
        words.append({"granularity": granularity, "group_size": group})
    if not words:
        raise NotApplicable("every scheme is declared")
    for word in words:
        try:
            scheme = quantizer.scheme.replace(**word)
        except SchemeError:
            continue
        changed = functools.partial(attrs.evolve, quantizer, scheme=scheme)
        refused_with(SchemeError, str(scheme), changed)


# -- Worth it


def _widths(quantizer: Quantizer) -> list[tuple[int, float]]:
    """(bits, SQNR in dB) on one Gaussian weight, for every width of this granularity."""
    weight = np.moveaxis(corpus.normal(8, 64), 0, quantizer.scheme.axis)
    found = []
    for bits in sorted(quantizer.capabilities.bits):
        try:
            scheme = quantizer.scheme.replace(bits=bits)
        except SchemeError:
            continue
        decoded = attrs.evolve(quantizer, scheme=scheme).quantize(weight).dequantize()
        found.append((bits, sqnr_db(weight, decoded)))
    return found


def _lowest_width(case: Case) -> bool:
    return bool(case.facts["scheme"].bits == min(case.facts["subject"].target.capabilities.bits))


@promise(when=_lowest_width)
def check_more_bits_are_not_worse(quantizer: Quantizer) -> None:
    """On Gaussian weights the SQNR does not fall as bits are added."""
    found = _widths(quantizer)
    if len(found) < 2:
        raise NotApplicable("only one width is declared")
    for (bits, before), (more, after) in itertools.pairwise(found):
        require(
            after >= before - SLACK_DB,
            f"{bits} bits give {before:.1f} dB, and {more} bits {after:.1f} dB",
        )


@promise(when=_lowest_width)
def check_the_highest_width_keeps_the_signal(quantizer: Quantizer) -> None:
    """On Gaussian weights the highest width gives 6 dB or more (2 bits 3 dB, 1 bit 0 dB)."""
    bits, found = _widths(quantizer)[-1]
    needed = min(3.0 * (bits - 1), 6.0)
    require(found >= needed, f"{bits} bits give {found:.1f} dB; {needed:.0f} are the least")
