"""check_plugin: what is counted, what is expected, what is red, and how a failure comes back."""

from __future__ import annotations

import json
import re
from typing import ClassVar

import attrs
import numpy as np
import pytest

from qsdk import registry
from qsdk.errors import FileRefusedError, OptionError, UnknownNameError
from qsdk.testing import KIT_VERSION, ContractBroken, check_plugin, iter_checks, replay, reproducer
from qsdk.testing.check import Case, Contract, require
from qsdk.testing.kinds import contract_of
from qsdk.testing.run import COVERAGE, run_one
from qsdk.testing.subject import subject_of

from .mutants import adapters, encodings, quantizers
from .mutants.quantizers import Epsilon, Good, NineBits, NoZero, WantsLabels

ZEROS = "check_zeros_decode_to_exact_zeros"
KNOWN = "check_an_all_zero_channel_decodes_to_exact_zeros"  # all that Epsilon breaks


def ids(outcomes) -> set[str]:
    return {outcome.id for outcome in outcomes}


def test_checks_are_chosen_by_what_is_declared():
    labels = {check.case.label for check in iter_checks(Good)}
    kinds = ("per_channel", "per_group", "per_tensor")
    assert labels == {f"{bits}bit-{kind}" for bits in (2, 4) for kind in kinds}
    found = {check.id for check in iter_checks(Good)}
    tail = "check_an_odd_group_tail_has_a_scale_of_its_own"
    assert {f"{tail}[2bit-per_group]", f"{tail}[4bit-per_group]"} == {x for x in found if tail in x}
    assert len(found) == len(list(iter_checks(Good)))


def test_a_subject_is_a_name_an_entry_a_class_or_an_instance():
    entry = registry.find("observer:minmax")
    for subject in ("minmax", "qsdk:observer:minmax", entry, entry.target, entry.target()):
        result = check_plugin(subject, max_examples=1)
        assert result.ok and (result.subject, result.kind) == ("minmax", "observer")
    with pytest.raises(UnknownNameError, match="did you mean 'minmax'"):
        check_plugin("minmay")
    with pytest.raises(OptionError, match="no plugin; give a name, or a class"):
        check_plugin(42)


def test_an_instance_is_checked_with_its_options():
    class Rules(Good):
        seen: ClassVar = set()

        def quantize(self, weight, *, layer=None):
            self.seen.add(self.range_rule)
            return super().quantize(weight)

    assert check_plugin(Rules(range_rule="mse"), max_examples=2).ok
    assert Rules.seen == {"mse"}


def test_the_message_carries_values_check_name_and_scheme():
    failed = check_plugin(quantizers.CodesBeyondTheGrid).failed
    first = next(o for o in failed if o.id == "check_codes_fit_in_their_bits[4bit-per_channel]")
    assert "-9" in first.message and "4 bits hold [-8, 7]" in first.message
    assert first.message.endswith("[good, int4 per_channel]")


class TwoFaults(Good):
    """One in each case of 2 bits, another in each with groups."""

    def quantize(self, weight, *, layer=None):
        if self.scheme.bits == 2:
            raise KeyError("bits")
        if self.scheme.group_size:
            raise OSError(f"no groups in {weight.size} values")
        return super().quantize(weight)


def test_a_fault_that_many_checks_meet_is_one_block_of_text_and_two_faults_are_two():
    result = check_plugin(TwoFaults, max_examples=2)
    told = [line for line in str(result).splitlines() if line.startswith("failed")]
    assert ["KeyError: 'bits'" in line for line in told] == [True, False]
    assert "OSError: no groups in" in told[1]
    assert re.search(r"and in \d\d more cases, \d\d checks in all: check_\w+, check_", str(result))
    assert len(result.failed) > 50 and len(result.to_dict()["outcomes"]) > 50


def test_a_result_as_text_names_each_check_once_and_as_json_everything():
    result = check_plugin(NoZero)
    text = str(result)
    assert text.count(f"failed {ZEROS}") == 1
    assert "    and in 5 more cases: 2bit-per_group, 2bit-per_tensor, " in text
    document = json.loads(json.dumps(result.to_dict()))
    assert document["kit_version"] == KIT_VERSION and document["ok"] is False
    assert document["counts"] == result.counts
    assert {o["id"] for o in document["outcomes"] if o["status"] == "failed"} == ids(result.failed)
    assert sum(result.counts.values()) == len(result.outcomes)


# -- Known failures


def test_an_expected_failure_is_counted_and_does_not_fail():
    result = check_plugin(Epsilon, expected_failures={KNOWN: "issue 12"})
    assert result.ok and {o.check for o in result.expected} == {KNOWN}
    assert all(outcome.message.startswith("issue 12 (") for outcome in result.expected)


def test_an_expected_failure_of_one_case_is_of_no_other():
    one = f"{KNOWN}[4bit-per_channel]"
    result = check_plugin(Epsilon, expected_failures={one: "issue 12"})
    assert ids(result.expected) == {one} and not result.ok


def test_an_expected_failure_that_passes_is_a_failure():
    result = check_plugin(Good, expected_failures={KNOWN: "issue 12"})
    assert not result.ok and {o.check for o in result.failed} == {KNOWN}
    assert all("issue 12" in outcome.message for outcome in result.failed)


@pytest.mark.parametrize("reason", ["", "  ", None])
def test_an_expected_failure_needs_a_reason(reason):
    with pytest.raises(OptionError, match=f"say why {ZEROS}"):
        check_plugin(Good, expected_failures={ZEROS: reason})


def test_an_expected_failure_of_an_unknown_check_is_refused():
    with pytest.raises(OptionError, match=f"did you mean '{ZEROS}"):
        check_plugin(Good, expected_failures={ZEROS[:-1]: "issue 12"})


# -- Counting


def test_a_declared_width_that_nothing_exercised_is_red():
    result = check_plugin(NineBits)
    assert ids(result.failed) == {COVERAGE} and "9 bits" in result.failed[0].message


def test_a_run_that_skipped_everything_is_red():
    result = check_plugin(WantsLabels)
    assert not result.passed and not result.ok
    assert ids(result.failed) == {COVERAGE}
    assert {outcome.message for outcome in result.skipped} == {
        "this kit has no labels of a layer to give"
    }


def test_an_encoding_of_which_there_is_no_sample_is_red():
    assert ids(check_plugin(encodings.NoSample).failed) == {COVERAGE}


def test_an_example_that_raises_fails_the_checks_and_not_the_run():
    class Raises(adapters.Good):
        @classmethod
        def example(cls, folder):
            raise RuntimeError("no disk")

    result = check_plugin(Raises)
    assert ids(result.passed) == {COVERAGE}
    assert len(result.failed) > 10 and all("no disk" in o.message for o in result.failed)


def test_a_check_that_tried_no_array_has_not_passed(monkeypatch):
    contract = contract_of("observer")
    promises = [attrs.evolve(p, inputs=lambda case: iter(())) for p in contract.promises]
    monkeypatch.setattr(contract, "promises", promises)
    result = check_plugin("minmax")
    assert not result.ok and not result.passed
    assert {outcome.message for outcome in result.skipped} == {"it had no array to try"}


STATUS = {  # (since, version of the kit) -> what becomes of a check that fails
    ("1.0", "1.0"): "failed",
    ("1.1", "1.1"): "warned",
    ("1.1", "1.2"): "failed",
    ("1.10", "1.10"): "warned",
    ("1.9", "1.10"): "failed",
    ("2.0", "2.0"): "warned",
    ("1.9", "2.0"): "failed",
}


@pytest.mark.parametrize(("since", "version"), STATUS)
def test_a_check_is_provisional_in_the_version_that_brings_it(since, version, monkeypatch):
    monkeypatch.setattr("qsdk.testing.check.KIT_VERSION", version)
    case = Case(label="", title="", build=object)
    contract = Contract("quantizer", lambda subject: iter([case]), lambda subject: frozenset())

    @contract.promise(once=True, since=since)
    def check_that_fails(thing):
        require(False, "it fails")

    (check,) = contract.checks(subject_of("rtn"))
    assert run_one(check).status == STATUS[since, version]


def test_a_provisional_check_warns_and_does_not_fail(monkeypatch):
    monkeypatch.setattr("qsdk.testing.check.KIT_VERSION", "1.1")
    contract = contract_of("quantizer")
    promises = [
        attrs.evolve(promise, since="1.1") if promise.name == KNOWN else promise
        for promise in contract.promises
    ]
    monkeypatch.setattr(contract, "promises", promises)
    result = check_plugin(Epsilon)
    assert result.ok and {outcome.check for outcome in result.warned} == {KNOWN}
    assert f"warned {KNOWN}" in str(result)


def test_max_examples_bounds_the_arrays_of_each_check():
    seen = []

    class Counts(Good):
        def quantize(self, weight, *, layer=None):
            seen.append(weight.shape)
            return super().quantize(weight)

    check_plugin(Counts, max_examples=1)
    few = len(seen)
    check_plugin(Counts, max_examples=50)
    assert len(seen) - few > 5 * few


# -- Reproducers


def test_a_failure_is_shrunk_saved_and_replayed(tmp_path):
    result = check_plugin(Epsilon, save_failures=tmp_path)
    outcome = next(o for o in result.failed if o.check == KNOWN)
    with np.load(outcome.reproducer, allow_pickle=False) as file:
        assert file["array"].size <= 4
        document = json.loads(str(file["qsdk"]))
    assert document["check"] == KNOWN and "replay(" in document["replay"]
    with pytest.raises(ContractBroken, match="a channel of zeros decodes to"):
        replay(outcome.reproducer, subject=Epsilon)
    replay(outcome.reproducer, subject=Good)
    with pytest.raises(OptionError, match="is not registered; give it"):
        replay(outcome.reproducer)


def test_a_reproducer_of_a_registered_name_replays_with_its_options(tmp_path):
    quantizer = registry.get("rtn", bits=3, range_rule="mse", symmetric=True)
    check = next(
        check for check in iter_checks(quantizer) if check.id == f"{ZEROS}[3bit-per_channel]"
    )
    assert check.subject.plain_options()["range_rule"] == "mse"
    named = attrs.evolve(check, subject=attrs.evolve(check.subject, full_name="qsdk:quantizer:rtn"))
    path = reproducer.save(tmp_path, named, np.zeros((2, 2), np.float32), "it broke")
    replay(path)
    assert [found.name for found in tmp_path.iterdir()] == [path.name]


def test_a_check_without_an_array_can_be_replayed(tmp_path):
    result = check_plugin(quantizers.Changeable, save_failures=tmp_path)
    with pytest.raises(ContractBroken, match=r"setting \w+ was accepted"):
        replay(result.failed[0].reproducer, subject=quantizers.Changeable)


@pytest.mark.parametrize("content", [b"", b"PK", b"\x93NUMPY"])
def test_a_file_that_is_no_reproducer_is_refused(content, tmp_path):
    path = tmp_path / "other.npz"
    path.write_bytes(content)
    with pytest.raises(FileRefusedError, match=r"other.npz is no reproducer"):
        replay(path)


def test_objects_in_a_reproducer_are_not_unpickled(tmp_path):
    path = tmp_path / "other.npz"
    np.savez(path, qsdk=np.array([object()], dtype=object))
    with pytest.raises(FileRefusedError, match="no reproducer"):
        replay(path)
