"""The contract of kernels: what is chosen, what cannot run here, and what a failure looks like."""

from __future__ import annotations

import json

import numpy as np
import pytest

from qsdk import cpu, registry
from qsdk.testing import check_plugin, iter_checks, replay
from qsdk.testing.kernels import expected
from qsdk.testing.kernels.inputs import lengths
from qsdk.testing.run import COVERAGE

from .mutants.kernels import DropsTheTail, Good

RIGHT = "check_results_equal_the_reference"


class OfAnotherCpu(Good):
    name = "of-another-cpu"
    features = frozenset({"i8mm"} if "i8mm" not in cpu.found() else {"avx2"})


def test_a_kernel_of_another_cpu_is_skipped_with_the_reason_and_not_red():
    result = check_plugin(OfAnotherCpu)
    assert result.ok and {o.check for o in result.passed} == {
        "check_its_declaration_is_sound",
        "check_what_it_does_not_declare_is_refused",
        COVERAGE,
    }
    assert len(result.skipped) == len({o.check for o in result.skipped}) > 15
    reason = f"cannot run on this machine: this CPU has no {next(iter(OfAnotherCpu.features))}"
    assert {o.message for o in result.skipped} == {reason}
    assert reason in str(result) and f"{len(result.skipped)} skipped" in result.summary()


def test_every_declared_form_of_input_and_output_has_a_case():
    labels = {check.case.label for check in iter_checks(Good)} - {""}
    forms = {label.partition("per_")[2].partition("-")[2] for label in labels}
    assert forms == {
        "int8-float32", "fixed_uint8-float32", "fixed_uint8-int32", "fixed_uint8-uint8",
    }  # fmt: skip
    assert {label.split("-")[1] for label in labels} == {"per_channel", "per_tensor"}


def test_every_declared_width_has_a_case():
    (entry,) = [e for e in registry.entries("kernel") if e.name == "linear-int8-reference"]
    labels = {check.case.label for check in iter_checks(entry)} - {""}
    assert {label[0] for label in labels} == set("12345678")


def test_binary_convolutions_have_all_numbers_of_planes_and_a_scale_map():
    (entry,) = [e for e in registry.entries("kernel") if e.name == "conv-binary-reference"]
    case = next(c.case for c in iter_checks(entry) if "bench" in c.case.facts)
    operations = [case.facts["bench"].operation(array) for _, array in lengths(case)]
    forms = [operation.activations for operation in operations]
    assert {form.bits for form in forms} == {1, 2, 3, 4}
    assert {form.scale_map for form in forms if form.bits == 1} == {False, True}


def test_lengths_lie_beside_those_of_blocks():
    case = next(c.case for c in iter_checks(Good) if "bench" in c.case.facts)
    found = {array.shape[-1] for _, array in lengths(case)}
    assert {0, 1, 15, 16, 17, 31, 32, 33, 63, 64, 65, 127, 128, 129, 255, 256, 257, 511} <= found


def mutant(layer):
    return type("Mutant", (Good,), {"name": "mutant", "layer": layer, "__module__": __name__})


def test_a_failure_is_shrunk_saved_and_replayed(tmp_path):
    wrong = mutant(DropsTheTail)
    result = check_plugin(wrong, save_failures=tmp_path)
    outcome = next(o for o in result.failed if o.check == RIGHT)
    with np.load(outcome.reproducer) as file:
        assert file["array"].size <= 2
        assert json.loads(str(file["qsdk"]))["check"] == RIGHT
    with pytest.raises(AssertionError, match="results are wrong"):
        replay(outcome.reproducer, subject=wrong)
    replay(outcome.reproducer, subject=Good)


def test_the_command_line_reaches_a_kernel():
    from click.testing import CliRunner

    from qsdk.cli.main import qsdk as group

    result = CliRunner().invoke(group, ["check", "linear-simulated"])
    assert result.exit_code == 0
    assert result.stdout.split()[-7:-5] == ["kernel", "linear-simulated"]


# -- The arithmetic that stands in for a reference


def slow_conv(x, w, stride, padding, dilation, groups):
    """Index by index, in Python's integers."""
    batch, _, height, width = x.shape
    outs, ins, kh, kw = w.shape
    top, left, bottom, right = padding
    rows = (height + top + bottom - dilation[0] * (kh - 1) - 1) // stride[0] + 1
    cols = (width + left + right - dilation[1] * (kw - 1) - 1) // stride[1] + 1
    y = np.zeros((batch, outs, rows, cols), np.int64)
    for b, o, r, c in np.ndindex(y.shape):
        for i, p, q in np.ndindex(ins, kh, kw):
            row, col = r * stride[0] + p * dilation[0] - top, c * stride[1] + q * dilation[1] - left
            if 0 <= row < height and 0 <= col < width:
                channel = o // (outs // groups) * ins + i
                y[b, o, r, c] += int(x[b, channel, row, col]) * int(w[o, i, p, q])
    return y


@pytest.mark.parametrize("groups", [1, 2])
@pytest.mark.parametrize(
    "words",
    [
        {"stride": (1, 1), "padding": (0, 0, 0, 0), "dilation": (1, 1)},
        {"stride": (2, 1), "padding": (1, 0, 2, 1), "dilation": (1, 2)},
    ],
)
def test_sums_of_a_convolution_are_those_of_its_definition(words, groups):
    from qsdk import Affine, Scheme
    from qsdk.interfaces import Conv

    rng = np.random.default_rng(0)
    codes = rng.integers(-8, 8, (6, 4 // groups, 2, 3))
    weight = Affine.from_codes(codes, np.ones(6, np.float32), np.zeros(6, np.int8), Scheme(bits=4))
    operation = Conv(weight=weight, groups=groups, **words)
    x = rng.integers(-9, 9, (2, 4, 6, 7))
    assert np.array_equal(
        expected.sums(operation, x, codes), slow_conv(x, codes, groups=groups, **words)
    )
