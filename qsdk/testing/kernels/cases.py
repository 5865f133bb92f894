"""The ways in which a kernel is used: every word that it declares, with weights it takes."""

from __future__ import annotations

import functools
import itertools
from collections.abc import Callable, Iterator, Sequence

import numpy as np

from qsdk.errors import QsdkError
from qsdk.interfaces import InputForm, Kernel, misdeclared
from qsdk.interfaces.kernel import ANY
from qsdk.registry import entries
from qsdk.testing.check import Case, Contract, Inputs, NotApplicable
from qsdk.testing.kernels.bench import Bench
from qsdk.testing.kernels.weights import Make, affine_weights, encoded_weights
from qsdk.testing.subject import Subject

Check = Callable[..., None]
AFFINE = "affine"
SAMPLES = 6  # of the weights that quantizers give, for each form of input and output
FIXED = (InputForm.FIXED_INT8, InputForm.FIXED_UINT8)
PROBES = {"linear": ((2, 256), (1, 64), (3, 33)), "conv": ((1, 32, 6, 6), (2, 3, 7, 5), (1, 4, 9))}


def cases(subject: Subject) -> Iterator[Case]:
    """The declaration alone, and each form of input and output with each kind of weight."""
    yield Case("", "", lambda: subject.target, facts={"declaration": True})
    if misdeclared(subject.target):
        return
    kernel: Kernel = subject.build()
    if reason := kernel.unavailable():
        nothing = Bench(kernel, (), sorted(kernel.activations)[0], "float32")
        yield Case("", "", functools.partial(_not_here, reason), facts={"bench": nothing})
        return
    for bench, label, words in _benches(kernel):
        title = label.replace("-", " ")
        yield Case(label, title, functools.partial(_itself, bench), words, {"bench": bench})


def declared(subject: Subject) -> frozenset[str]:
    """Nothing where the machine cannot run it: all that runs then is said to be skipped."""
    target = subject.target
    if misdeclared(target) or subject.build().unavailable():
        return frozenset()
    words = {f"{form} activations" for form in target.activations}
    words |= {f"{form} output" for form in target.outputs}
    if target.encoding in (ANY, AFFINE):
        words |= {f"{bits} bits" for bits in target.bits} | set(map(str, target.granularity))
    return frozenset(words)


def _itself(bench: Bench) -> Bench:
    return bench


def _not_here(reason: str) -> Bench:
    raise NotApplicable(f"cannot run on this machine: {reason}")


def _forms(kernel: Kernel) -> Iterator[tuple[str, str]]:
    """(activations, output) that there can be: codes come out only where the input's are fixed."""
    for given, gives in itertools.product(sorted(kernel.activations), sorted(kernel.outputs)):
        if gives == "float32" or given in FIXED:
            yield given, gives


def _benches(kernel: Kernel) -> Iterator[tuple[Bench, str, frozenset[str]]]:
    if kernel.encoding in (ANY, AFFINE):
        yield from _affine_benches(kernel)
    others = {entry.name for entry in entries("encoding")} - {AFFINE}
    for name in sorted(others if kernel.encoding == ANY else others & {kernel.encoding}):
        yield from _encoded_benches(kernel, encoded_weights(name))


def _encoded_benches(
    kernel: Kernel, makes: Sequence[tuple[str, Make]]
) -> Iterator[tuple[Bench, str, frozenset[str]]]:
    """Each form with some of the weights, others for the next form."""
    samples = 1 if kernel.encoding == ANY else SAMPLES
    step = max(len(makes) // samples, 1)
    for turn, (given, gives) in enumerate(_forms(kernel)):
        words = frozenset({f"{given} activations", f"{gives} output"})
        order = [make for i in range(step) for make in makes[(turn + i) % step :: step]]
        found = ((label, _bench(kernel, [make], given, gives)) for label, make in order)
        taken = ((label, bench) for label, bench in found if bench)
        for label, bench in itertools.islice(taken, samples):
            yield bench, f"{label}-{given}-{gives}", words


def _affine_benches(kernel: Kernel) -> Iterator[tuple[Bench, str, frozenset[str]]]:
    """Widths take turns, so that every one is met; those left over come at the end."""
    forms, widths = list(_forms(kernel)), sorted(kernel.bits)
    ways = list(itertools.product(sorted(kernel.granularity), forms))
    turn, left = 0, dict.fromkeys(widths)
    for granularity, form in ways:
        for bits in [*left, *(widths[(turn + i) % len(widths)] for i in range(len(widths)))]:
            found = _affine_bench(kernel, bits, granularity, form)
            if found:
                left.pop(bits, None)
                turn += 1
                yield found
                break
    for bits in left:
        found = next(filter(None, (_affine_bench(kernel, bits, *way) for way in ways)), None)
        if found:
            yield found


def _affine_bench(
    kernel: Kernel, bits: int, granularity: str, form: tuple[str, str]
) -> tuple[Bench, str, frozenset[str]] | None:
    given, gives = form
    bench = _bench(kernel, list(affine_weights(kernel, bits, granularity)), given, gives)
    if bench is None:
        return None
    words = {f"{bits} bits", str(granularity), f"{given} activations", f"{gives} output"}
    return bench, f"{bits}bit-{granularity}-{given}-{gives}", frozenset(words)


def _bench(kernel: Kernel, makes: Sequence[Make], given: str, gives: str) -> Bench | None:
    """With those of the weights that the kernel takes; None where it takes none."""
    taken = [make for make in makes if _takes(Bench(kernel, (make,), given, gives))]
    return Bench(kernel, tuple(taken), given, gives) if taken else None


def _takes(bench: Bench) -> bool:
    for shape in PROBES[bench.kernel.operation]:
        try:
            bench.operation(np.zeros(shape, np.float32))
        except (NotApplicable, QsdkError):
            continue
        return True
    return False


CONTRACT = Contract("kernel", cases, declared)


def promise(inputs: Callable[[Case], Inputs]) -> Callable[[Check], Check]:
    """Register a check of layers, tried on these inputs."""
    return CONTRACT.promise(inputs, when=lambda case: "bench" in case.facts)


def of_the_class(case: Case) -> bool:
    """Whether the case is the class alone, which every machine can look at."""
    return "declaration" in case.facts
