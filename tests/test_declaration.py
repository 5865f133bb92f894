"""What a kernel's class must declare: each fault is told with what was given and what there is."""

from __future__ import annotations

from typing import ClassVar

import pytest

from qsdk.interfaces import InputForm, Kernel, misdeclared


class Sound(Kernel):
    name = "sound"
    operation = "linear"
    encoding = "affine"
    activations: ClassVar = frozenset({"int8", InputForm.FLOAT32})
    priority = 0


FAULTS = [
    ({"operation": "gemm"}, "Wrong.operation is 'gemm'; give linear or conv"),
    ({"operation": None}, "Wrong.operation is None"),
    ({"encoding": ""}, "Wrong.encoding is ''; give a name"),
    ({"encoding": Kernel}, "Wrong.encoding is <class"),
    ({"backend": None}, "Wrong.backend is None; give a name"),
    ({"reference": None}, "Wrong.reference is None; give a name"),
    ({"priority": True}, "Wrong.priority is True; give a whole number from 0"),
    ({"priority": 1.5}, "Wrong.priority is 1.5"),
    ({"priority": -1}, "Wrong.priority is -1"),
    ({"group_multiple": 0}, "Wrong.group_multiple is 0; give a whole number from 1"),
    ({"activations": frozenset()}, "Wrong.activations is frozenset(); give a frozenset of float32"),
    ({"activations": ["int8"]}, "Wrong.activations is ['int8']; give a frozenset of"),
    ({"activations": "int8"}, "Wrong.activations is 'int8'; give a frozenset of"),
    ({"activations": frozenset({"int9"})}, "names int9, which there is not; did you mean 'int8'"),
    ({"outputs": frozenset({"float16"})}, "Wrong.outputs names float16, which there is not"),
    ({"bits": frozenset({4, 9})}, "Wrong.bits names 9, which there is not"),
    ({"bits": range(1, 9)}, "Wrong.bits is range(1, 9); give a frozenset of 1, 2"),
    ({"granularity": frozenset({"per_row"})}, "Wrong.granularity names per_row"),
    ({"features": frozenset({"avx"})}, "Wrong.features names avx, which there is not; did you"),
    ({"features": None}, "Wrong.features is None; give a frozenset of extension, avx2"),
]


@pytest.mark.parametrize(("words", "said"), FAULTS, ids=lambda value: str(value)[:40])
def test_a_fault_is_told(words, said):
    assert said in misdeclared(type("Wrong", (Sound,), words))


def test_what_is_missing_is_told():
    lacking = type("Lacking", (Kernel,), {"name": "lacking"})
    assert "Lacking.operation is None" in misdeclared(lacking)


def test_a_sound_declaration_has_no_fault():
    assert misdeclared(Sound) == ""
    assert misdeclared(type("None_", (Sound,), {"features": frozenset()})) == ""
