"""What a kernel declares, refuses and prepares."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from qsdk.encodings import Affine
from qsdk.errors import QsdkError
from qsdk.interfaces import (
    Activations,
    Conv,
    InputForm,
    Kernel,
    Linear,
    Operation,
    Output,
    Prepared,
    misdeclared,
)
from qsdk.interfaces.kernel import ANY
from qsdk.scheme import Granularity, Scheme, Slices
from qsdk.testing.check import Array, NotApplicable, require
from qsdk.testing.kernels import inputs
from qsdk.testing.kernels.bench import Bench
from qsdk.testing.kernels.cases import CONTRACT, of_the_class, promise
from qsdk.testing.kernels.weights import EXTREMES, RANDOM

GROUP = 16
MOST = 2  # of one shape; others have their turn at other shapes


@CONTRACT.promise(when=of_the_class, once=True)
def check_its_declaration_is_sound(target: type[Kernel]) -> None:
    """Operation, encoding, forms, limits, features and priority are words and numbers there are;
    it is built without arguments, and says in text whether the machine can run it."""
    fault = misdeclared(target)
    require(not fault, fault)
    kernel = target()
    reason = kernel.unavailable()
    require(isinstance(reason, str), f"unavailable() gives {reason!r}, no text")


@CONTRACT.promise(when=of_the_class, once=True)
def check_what_it_does_not_declare_is_refused(target: type[Kernel]) -> None:
    """Another operation, encoding, form, width, granularity or axis is refused with a reason."""
    if misdeclared(target):
        raise NotApplicable("its declaration is not sound")
    kernel = target()
    tried = 0
    for what, operation in _undeclared(kernel):
        tried += 1
        reason = kernel.refusal(operation)
        require(isinstance(reason, str), f"{what}: refusal() gives {reason!r}, no text")
        require(reason and reason.isprintable(), f"it does not refuse {what}: {operation}")
    require(tried, "there is nothing that it does not declare")


def _undeclared(kernel: Kernel) -> Iterator[tuple[str, Operation]]:
    """Operations that differ from what is declared in one thing."""
    linear = kernel.operation == "linear"
    given, gives = sorted(kernel.activations)[0], sorted(kernel.outputs)[0]
    yield "another operation", _operation(not linear, _affine(not linear), given, "float32")
    if kernel.encoding == "affine":
        yield "another encoding", _operation(linear, _affine(linear, _Other), given, gives)
    for form in set(map(str, InputForm)) - kernel.activations:
        yield f"{form} activations", _operation(linear, _affine(linear), form, "float32")
    for form in {"int32", "int8", "uint8"} - kernel.outputs:
        yield f"{form} output", _operation(linear, _affine(linear), "fixed_int8", form)
    if kernel.encoding not in ("affine", ANY):
        return
    for bits in set(range(1, 9)) - kernel.bits:
        yield f"{bits} bits", _operation(linear, _affine(linear, bits=bits), given, gives)
    for granularity in set(map(str, Granularity)) - set(map(str, kernel.granularity)):
        group = GROUP if granularity == "per_group" else None
        weight = _affine(linear, granularity=granularity, group_size=group)
        yield str(granularity), _operation(linear, weight, given, gives)


class _Other(Affine):
    """An encoding that nobody registers."""

    name = "of-nobody"


def _affine(linear: bool, of: type[Affine] = Affine, **words: Any) -> Affine:
    scheme = Scheme(**{"bits": 4, **words})
    shape = (8, 64) if linear else (8, 64, 1, 1)
    params = Slices(scheme, shape).params_shape
    codes = np.zeros(shape, np.int64)
    return of.from_codes(codes, np.ones(params, np.float32), np.zeros(params, np.int64), scheme)


def _operation(linear: bool, weight: Affine, given: str, gives: str) -> Operation:
    if gives != "float32" and not given.startswith("fixed"):
        given = "fixed_int8"
    words: dict[str, Any] = {"activations": Activations(form=given), "output": Output(form=gives)}
    if linear:
        return Linear(weight=weight, **words)
    return Conv(weight=weight, stride=(1, 1), padding=(0,) * 4, dilation=(1, 1), **words)


# -- Preparing


@promise(inputs.lengths)
def check_what_it_does_not_refuse_is_prepared(bench: Bench, x: Array) -> None:
    """Every operation that ``refusal`` has nothing against is prepared, without an error, into a
    layer that knows its kernel and its operation; a reason against one is text."""
    fills = (RANDOM, *EXTREMES)
    taken = _taken(bench, x, fills[sum(x.shape) % len(fills)])
    if not taken:
        raise NotApplicable(f"it refuses every weight for inputs {x.shape}")
    for operation in taken:
        layer = _prepared(bench.kernel, operation)
        require(isinstance(layer, Prepared), f"it prepares {type(layer).__name__}, no Prepared")
        sound = layer.operation is operation and layer.kernel is bench.kernel
        require(sound, "the layer has another kernel or operation than it was prepared from")


@promise(inputs.lengths)
def check_what_it_does_not_refuse_cannot_overflow(bench: Bench, x: Array) -> None:
    """Every accumulator that it tells of an operation which it takes holds its worst sum."""
    told = False
    for operation in _taken(bench, x, EXTREMES[x.size % len(EXTREMES)]):
        for accumulator in bench.kernel.accumulators(operation):
            require(accumulator.fits, f"it takes {operation}, whose sums overflow: {accumulator}")
            told = True
    if not told:
        raise NotApplicable("it tells no accumulators, or refuses the weights")


def _taken(bench: Bench, x: Array, fill: str) -> list[Operation]:
    """The first few that ``refusal`` has nothing against; others come first for other shapes."""
    taken: list[Operation] = []
    for operation in bench.operations(x.shape, fill):
        reason = bench.kernel.refusal(operation)
        require(isinstance(reason, str), f"refusal() gives {reason!r}, no text")
        if not reason:
            taken.append(operation)
        if len(taken) == MOST:
            break
    return taken


def _prepared(kernel: Kernel, operation: Operation) -> Any:
    try:
        return kernel.prepare(operation, threads=2)
    except QsdkError as error:
        require(False, f"refusal() accepts {operation}, and prepare() raises {error}")
