"""What a check is: one promise, one way of building the subject, and the arrays to try."""

from __future__ import annotations

import contextlib
import inspect
import itertools
import re
import warnings
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import attrs
from numpy.typing import NDArray

from qsdk.errors import QsdkError
from qsdk.testing.subject import Subject

KIT_VERSION = "1.0"
FIRST = "1.0"  # the kit whose checks were all new
MAX_EXAMPLES = 32  # arrays that each check tries, unless told otherwise

Array = NDArray[Any]
Inputs = Iterator[tuple[str, Array]]  # what each array is, in a word, and the array


class ContractBroken(QsdkError, AssertionError):
    """A plugin does not keep a promise of its interface."""


class NotApplicable(Exception):
    """This check has nothing to say of this subject; the text is the reason."""


def require(condition: object, message: str) -> None:
    """An ``assert`` that ``python -O`` leaves in."""
    if not condition:
        raise ContractBroken(message)


def refused_with(
    error: type[Exception], what: str, call: Callable[..., object], *given: Any
) -> str:
    """The message with which ``call(*given)`` raised ``error``; else the contract is broken."""
    try:
        call(*given)
    except error as refusal:
        return str(refusal)
    except Exception as other:
        raise ContractBroken(
            f"{what} raised {type(other).__name__} ({other}), not {error.__name__}"
        ) from other
    raise ContractBroken(f"{what} was accepted; it must raise {error.__name__}")


def tells(message: str, index: list[int]) -> bool:
    """Whether the numbers of ``index`` stand in the message, in their order."""
    numbers = [int(number) for number in re.findall(r"\d+", message)]
    return any(numbers[i : i + len(index)] == index for i in range(len(numbers) - len(index) + 1))


@attrs.frozen(eq=False)
class Case:
    """One way in which the subject is used.

    label : short, for the names of tests: ``4bit-per_channel``
    title : for messages: ``int4 per_channel``
    build : gives what the checks are handed, a new one at each call; a context is entered
    exercises : the declared capabilities that running this shows
    facts : what the choice of arrays and the checks' conditions depend on
    """

    label: str
    title: str
    build: Callable[[], Any]
    exercises: frozenset[str] = frozenset()
    facts: Mapping[str, Any] = attrs.field(factory=dict)


@attrs.frozen(eq=False)
class Promise:
    """A function that raises where the contract is broken; its docstring says the promise.

    inputs : the arrays that it is tried on; None for a function of the subject alone
    when : the cases that it speaks of
    once : one case is enough
    since : the version of the kit that brought it
    """

    function: Callable[..., None]
    inputs: Callable[[Case], Inputs] | None
    when: Callable[[Case], bool]
    once: bool
    since: str

    @property
    def name(self) -> str:
        return self.function.__name__

    @property
    def provisional(self) -> bool:
        """Whether it only warns, as it does in the minor version that brings it."""
        return self.since != FIRST and _numbers(self.since) >= _numbers(KIT_VERSION)

    @property
    def text(self) -> str:
        return inspect.getdoc(self.function) or ""


def _numbers(version: str) -> tuple[int, ...]:
    """``"1.10"`` after ``"1.9"``."""
    return tuple(int(number) for number in version.split("."))


class Contract:
    """All promises of one kind of plugin.

    cases : the ways in which a subject is to be used, from what it declares
    declared : its capabilities; each must be exercised by some check
    """

    def __init__(
        self,
        kind: str,
        cases: Callable[[Subject], Iterator[Case]],
        declared: Callable[[Subject], frozenset[str]],
    ):
        self.kind, self.cases, self.declared = kind, cases, declared
        self.promises: list[Promise] = []

    def promise(
        self,
        inputs: Callable[[Case], Inputs] | None = None,
        *,
        when: Callable[[Case], bool] = lambda case: True,
        once: bool = False,
        since: str = FIRST,
    ) -> Callable[[Callable[..., None]], Callable[..., None]]:
        """Register the decorated function as a check."""

        def register(function: Callable[..., None]) -> Callable[..., None]:
            self.promises.append(Promise(function, inputs, when, once, since))
            return function

        return register

    def checks(self, subject: Subject) -> Iterator[Check]:
        """Every promise with every case that it speaks of."""
        cases = list(self.cases(subject))
        for promise in self.promises:
            fitting = [case for case in cases if promise.when(case)]
            for case in fitting[:1] if promise.once else fitting:
                yield Check(subject, promise, case)


@attrs.frozen(eq=False)
class Check:
    """A promise about one subject in one case; calling it raises where the promise is broken."""

    subject: Subject
    promise: Promise
    case: Case

    @property
    def name(self) -> str:
        return self.promise.name

    @property
    def provisional(self) -> bool:
        return self.promise.provisional

    @property
    def id(self) -> str:
        """Readable and unique: ``check_x[4bit-per_channel]``."""
        label = "" if self.promise.once else self.case.label
        return f"{self.name}[{label}]" if label else self.name

    @property
    def test_id(self) -> str:
        """As pytest shows it: ``squant-4bit-per_channel-check_x``."""
        label = "" if self.promise.once else self.case.label
        return "-".join(part for part in (self.subject.name, label, self.name) if part)

    def inputs(self, max_examples: int = MAX_EXAMPLES) -> Iterator[tuple[str, Array | None]]:
        """The arrays to try; one None for a check of the subject alone."""
        if self.promise.inputs is None:
            return iter([("", None)])
        return itertools.islice(self.promise.inputs(self.case), max_examples)

    def try_on(self, array: Array | None) -> None:
        """Run on one array. Its message gets the subject's name and case."""
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            try:
                given = [] if array is None else [array.copy()]  # it may be damaged
                built = self.case.build()
                held = isinstance(built, contextlib.AbstractContextManager)
                with built if held else contextlib.nullcontext(built) as thing:
                    self.promise.function(thing, *given)
            except NotApplicable:
                raise
            except ContractBroken as error:
                raise ContractBroken(f"{error} [{self.where}]") from error.__cause__
            except (Exception, SystemExit) as error:
                raise ContractBroken(f"{type(error).__name__}: {error} [{self.where}]") from error

    def __call__(self, max_examples: int = MAX_EXAMPLES) -> None:
        for _, array in self.inputs(max_examples):
            self.try_on(array)

    @property
    def where(self) -> str:
        return ", ".join(part for part in (self.subject.name, self.case.title) if part)
