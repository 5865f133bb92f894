"""Dispatch: the best kernel that can, none that cannot, and the reason of every other."""

from __future__ import annotations

from typing import ClassVar

import numpy as np
import pytest

import qsdk
from qsdk import Affine, Scheme, cpu, dispatch, quarantine
from qsdk.errors import KernelError, UnknownNameError
from qsdk.interfaces import Activations, Kernel, Linear, Output
from qsdk.plugins import Entry
from qsdk.registry import Registry


class Base(Kernel):
    operation = "linear"
    encoding = "affine"
    activations: ClassVar = frozenset({"int8", "float32"})
    priority = 5

    def prepare(self, operation, *, threads=0):
        raise NotImplementedError


def kernel(name, **words):
    return type(name, (Base,), {"name": name, **words})


class Of(Registry):
    """A registry of these kernels and nothing else."""

    def __init__(self, *kernels):
        super().__init__(find=list)
        self.held = [Entry("kernel", k.name, "mine", "1.0", "mine", k) for k in kernels]

    def entries(self, kind=None):
        return self.held

    def find(self, name):
        found = [e for e in self.held if name in (f"kernel:{e.name}", e.full_name)]
        if not found:
            raise UnknownNameError(f"no kernel named {name!r}")
        return found[0]


def weight(**words):
    scheme = Scheme(**{"bits": 4, "symmetric": True, **words})
    shape = qsdk.Slices(scheme, (3, 8)).params_shape
    zeros, ones = np.zeros(shape, np.int64), np.ones(shape, np.float32)
    return Affine.from_codes(np.ones((3, 8), np.int8), ones, zeros, scheme)


def operation(form="int8", output="float32", **words):
    return Linear(
        weight=weight(**words), activations=Activations(form=form), output=Output(form=output)
    )


SLOW, FAST = kernel("slow", priority=1), kernel("fast", priority=9)


@pytest.mark.parametrize("order", [(SLOW, FAST), (FAST, SLOW)])
def test_the_highest_priority_runs_whatever_the_order(order):
    assert dispatch.choose(operation(), of=Of(*order)).name == "fast"


def test_of_one_priority_the_name_decides():
    one, two = kernel("one"), kernel("two")
    assert dispatch.choose(operation(), of=Of(two, one)).name == "one"


@pytest.mark.parametrize(
    ("words", "reason"),
    [
        ({"operation": "conv"}, None),
        ({"encoding": "codebook"}, "takes codebook weights, not affine"),
        ({"activations": frozenset({"float32", "uint8"})}, "takes float32, uint8 activations, not"),
        ({"outputs": frozenset({"int32"})}, "gives int32, not float32"),
        ({"bits": frozenset({2, 8})}, "takes 2, 8 bits, not 4"),
        ({"granularity": frozenset({"per_tensor"})}, "takes per_tensor, not per_channel"),
        ({"features": frozenset({"i8mm", "amx_int8"})}, "this CPU has no amx_int8, i8mm"),
    ],
)
def test_a_kernel_that_does_not_fit_is_passed_over_with_its_reason(words, reason, native):
    registry = Of(SLOW, kernel("other", priority=99, **words))
    assert dispatch.choose(operation(), of=registry).name == "slow"
    reasons = {c.kernel.name: c.reason for c in dispatch.candidates(operation(), registry)}
    assert reasons["slow"] == ""
    assert reason is None or reason in reasons["other"]


def test_groups_and_axes_that_a_kernel_does_not_take_are_refused():
    grouped = operation(granularity="per_group", group_size=4)
    assert kernel("k", group_multiple=3)().refusal(grouped) == (
        "takes groups of a multiple of 3, not 4"
    )
    assert kernel("k", group_multiple=2)().refusal(grouped) == ""
    assert kernel("k")().refusal(operation(axis=1)) == "takes channels on axis 0, not 1"
    assert kernel("k")().refusal(operation(axis=-2)) == ""


def test_a_feature_that_is_taken_away_is_as_good_as_missing(native, monkeypatch):
    fast = kernel("fast", priority=9, features=frozenset({"extension"}))
    registry = Of(SLOW, fast)
    assert dispatch.choose(operation(), of=registry).name == "fast"
    monkeypatch.setenv("QSDK_DISABLE_CPU_FEATURES", "extension")
    assert dispatch.choose(operation(), of=registry).name == "slow"
    with pytest.raises(KernelError, match=r"fast cannot run .*takes away extension"):
        dispatch.choose(operation(), "fast", registry)


def test_a_kernel_in_quarantine_is_passed_over_and_refused_by_name(tmp_path, monkeypatch):
    monkeypatch.setenv("QSDK_CACHE_DIR", str(tmp_path))
    registry = Of(SLOW, FAST)
    quarantine.note({("mine:kernel:fast", "1.0"): "it crashed"})
    assert dispatch.choose(operation(), of=registry).name == "slow"
    with pytest.raises(KernelError, match=r"in quarantine.*it crashed"):
        dispatch.choose(operation(), "fast", registry)
    quarantine.note({("mine:kernel:fast", "1.0"): ""})
    assert dispatch.choose(operation(), of=registry).name == "fast"


def test_a_kernel_is_asked_for_by_its_short_or_its_full_name():
    registry = Of(SLOW, FAST)
    assert dispatch.choose(operation(), "slow", registry).name == "slow"
    assert dispatch.choose(operation(), "mine:kernel:slow", registry).name == "slow"
    with pytest.raises(UnknownNameError):
        dispatch.choose(operation(), "sloow", registry)


def test_where_none_can_every_reason_is_told():
    registry = Of(kernel("one", bits=frozenset({8})), kernel("two", encoding="codebook"))
    told = "no kernel can run linear of affine int4.*one: takes 8 bits.*two: takes codebook weights"
    with pytest.raises(KernelError, match=told):
        dispatch.choose(operation(), of=registry)
    with pytest.raises(KernelError, match="none is registered"):
        dispatch.choose(operation(), of=Of())


def test_without_the_extension_something_always_runs(without_native):
    for form in ("float32", "int8", "uint8", "fixed_int8", "fixed_uint8"):
        assert not dispatch.choose(operation(form)).features
    assert cpu.features() == frozenset()
