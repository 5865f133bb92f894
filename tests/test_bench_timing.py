"""Interleaved timing on a clock of its own, and what is made of the times. No time is asserted."""

from __future__ import annotations

import gc
import sys

import numpy as np
import pytest

from qsdk.bench.cases import OPERATIONS, Case, Form, cases
from qsdk.bench.ours import ours
from qsdk.bench.peers import FLOAT, SAME, Candidate, Numpy, Onnxruntime, Peer, installed
from qsdk.bench.run import run_case
from qsdk.bench.timing import Timing, interleave
from qsdk.bench.works import Convolution, Product, Values, Weights, parse_shape
from qsdk.errors import OptionError

INT8 = Form(operation="linear-int8", name="float", plugin="rtn",
            options={"bits": 8, "symmetric": True}, activations="int8")  # fmt: skip


class Clock:
    """Time passes only where a call says so."""

    def __init__(self):
        self.now = 0
        self.log = []

    def __call__(self):
        return self.now

    def call(self, name, *durations):
        """A call that takes these nanoseconds in turn, then always the last."""
        left = list(durations)

        def run():
            self.log.append(name)
            self.now += left.pop(0) if len(left) > 1 else left[0]

        return run


def timed(clock, calls, rounds, **words):
    return interleave(calls, rounds, clock=clock, **words)


def test_calls_take_turns_within_each_round():
    clock = Clock()
    second = 10**9
    timed(clock, {"a": clock.call("a", second), "b": clock.call("b", second)}, 3, limit_s=100)
    assert clock.log == [*"aabb", *"ab" * 3]  # two calls each beforehand


def test_best_and_median_are_of_the_rounds():
    clock = Clock()
    calls = {"a": clock.call("a", 99, 40e6, 50e6, 70e6, 30e6)}
    timing = timed(clock, calls, 3)["a"]
    assert timing.rounds_ns == (50e6, 70e6, 30e6)
    assert timing.best_ns == 30e6 and timing.median_ns == 50e6 and timing.is_noisy
    assert not Timing((10.0, 11.0)).is_noisy


def test_short_calls_are_timed_many_at_a_time():
    clock = Clock()
    timing = timed(clock, {"a": clock.call("a", 2_000)}, 1)["a"]
    assert timing.rounds_ns == (2_000,)
    assert len(clock.log) == 2 + 1 + 50 * 20  # first and estimate, warm, 20 samples of 100 us


def test_a_round_keeps_the_best_of_its_samples():
    clock = Clock()
    calls = {"a": clock.call("a", 1_000_000, 1_000_000, 9, 3_000_000, 1_500_000, 7)}
    assert timed(clock, calls, 1)["a"].rounds_ns == (1_500_000,)


def test_slow_calls_sit_out_the_later_rounds():
    clock = Clock()
    calls = {"slow": clock.call("slow", 4 * 10**9), "fast": clock.call("fast", 10**9)}
    timings = timed(clock, calls, 5, limit_s=8)
    assert [len(timings[name].rounds_ns) for name in calls] == [2, 5]


def test_a_clock_that_does_not_move_is_no_division_by_zero():
    clock = Clock()
    assert timed(clock, {"a": clock.call("a", 0)}, 1, limit_s=1e-9)["a"].best_ns == 0


def test_garbage_collection_is_off_while_timing_and_on_afterwards():
    seen = []

    def fails():
        seen.append(gc.isenabled())
        raise RuntimeError("stop")

    with pytest.raises(RuntimeError):
        interleave({"a": fails}, 1)
    assert seen == [False] and gc.isenabled()


class Fake(Peer):
    """A peer with one way that works, one that does not build, and one that does not run."""

    name = "fake"

    def version(self):
        return "1"

    def product(self, work):
        yield Candidate("works", FLOAT, lambda: lambda: None)
        yield Candidate("does not build", SAME, lambda: 1 / 0)
        yield Candidate("does not run", SAME, lambda: lambda: [][0])
        raise AttributeError("it no longer has this")


class Missing(Fake):
    name = "missing"

    def version(self):
        raise ImportError("no such\nlibrary")


def test_a_peer_that_is_not_there_is_left_out_with_its_reason():
    found, left_out = installed(1, (Fake, Missing))
    assert [peer.name for peer in found] == ["fake"]
    assert left_out == {"missing": "no such library"}


def test_a_way_that_fails_is_reported_and_hinders_no_other():
    result = run_case(Case(INT8, Product(2, 3, 4)), [Fake(1)], rounds=1, threads=1)
    assert [subject.name for subject in result.peers] == ["works"]
    assert result.failed == {
        "fake does not build": "division by zero",
        "fake does not run": "list index out of range",
        "fake": "it no longer has this",
    }
    assert result.ratio(FLOAT) > 0 and result.ratio(SAME) is None


def test_a_case_without_a_plugin_or_kernel_is_skipped_with_the_reason():
    form = Form(operation="linear-int8", name="none", plugin="no-such", activations="int8")
    result = run_case(Case(form, Product(2, 3, 4)), [Fake(1)], rounds=1, threads=1)
    assert result.ours is None and not result.peers
    assert "no-such" in result.reason and result.to_dict()["skipped"] == result.reason


def test_a_ratio_above_one_says_that_qsdk_is_faster():
    result = run_case(Case(INT8, Product(2, 3, 4)), [Fake(1)], rounds=1, threads=1)
    peer, own = result.best(FLOAT).timing.best_ns, result.ours.timing.best_ns
    assert result.ratio(FLOAT) == peer / own
    assert result.to_dict()["ratios"] == {"float": peer / own}


def test_every_operation_has_cases_and_a_quick_one():
    for operation in OPERATIONS:
        assert {case.form.operation for case in cases(operation)} == {operation}
        assert 0 < len(cases(operation, quick=True)) < len(cases(operation))


def test_given_shapes_take_the_place_of_those_of_their_kind():
    found = cases(None, [Product(1, 2, 3)])
    assert {str(case.work) for case in found} == {"1x2x3"}
    assert {case.form.operation for case in found} == {
        "linear-binary",
        "linear-int8",
        "linear-int4",
    }
    with pytest.raises(OptionError, match="no case of quantize has shapes like 1x2x3"):
        cases("quantize", [Product(1, 2, 3)])
    with pytest.raises(OptionError, match="did you mean 'linear-int8'"):
        cases("linear-in8")


@pytest.mark.parametrize(
    "text", ["", "1x2", "0x1x1", "1x2x3x4", "axbxc", "1x2x-3", "1x1x1x1x1x1x1x1"]
)
def test_a_shape_that_is_none_is_refused_with_what_to_write(text):
    with pytest.raises(OptionError, match="write MxNxK"):
        parse_shape(text)


def test_the_weights_of_resnet_50_are_those_of_the_paper():
    (work,) = {case.work for case in cases("quantize") if len(case.work.shapes) == 54}
    assert sum(int(np.prod(shape)) for shape in work.shapes) == 25_502_912


CONVOLUTIONS = [
    Convolution.square(2, 3, 9, 4, 3, stride=2),
    Convolution.square(1, 6, 8, 6, 3, groups=6),
    Convolution(1, 4, (11, 6), 8, (5, 2), (2, 1), (1, 0, 2, 1), (2, 1), 2),
    Convolution(3, 2, (10,), 5, (3,), (2,), (0, 1), (1,)),
]


@pytest.mark.parametrize("work", CONVOLUTIONS, ids=str)
def test_the_shape_of_a_convolution_is_that_of_onnxruntime(work):
    pytest.importorskip("onnxruntime", reason="the extra onnx is not installed")
    (candidate,) = Onnxruntime(1).convolution(work)
    candidate.build()()  # into memory of out_shape: any other is refused
    assert work.macs == np.prod(work.out_shape) * np.prod(work.w.shape[1:])


def test_numpy_does_the_work_itself():
    work = Product(3, 5, 4)
    (matmul,) = Numpy(1).product(work)
    np.testing.assert_allclose(matmul.build()(), np.einsum("mk,nk->mn", work.x, work.w), 1e-5)
    values = Values(1000)
    ways = {c.name: c.build() for c in Numpy(1).observe(values, "minmax")}
    assert ways["min and max"]() == (min(values.array), max(values.array))
    weights = Weights("one", ((4, 6),))
    codes = next(iter(Numpy(1).quantize(weights, SAME))).build()()
    assert codes[0].dtype == np.int8 and (np.abs(codes[0]).max(axis=1) == 127).all()


def test_layers_in_turn_are_packed_apart():
    form = Form(operation="linear-int8", name="turn", plugin="rtn",
                options={"bits": 8, "symmetric": True}, activations="int8", copies=3)  # fmt: skip
    mine = ours(form, Product(1, 2, 3), 1)
    results = [mine.call() for _ in range(4)]
    assert all(np.array_equal(results[0], result) for result in results)


@pytest.fixture
def results_of(monkeypatch):
    """What onnxruntime wrote into the memory that a call was bound to."""
    onnxruntime = pytest.importorskip("onnxruntime", reason="the extra onnx is not installed")
    made = []

    class Recorded(onnxruntime.OrtValue):
        @staticmethod
        def ortvalue_from_shape_and_type(*words):
            made.append(onnxruntime.OrtValue.ortvalue_from_shape_and_type(*words))
            return made[-1]

    recorder = type("recorder", (), {"__getattr__": lambda self, name: getattr(onnxruntime, name)})
    module = recorder()
    module.OrtValue = Recorded
    monkeypatch.setitem(sys.modules, "onnxruntime", module)

    def results(candidates):
        for candidate in candidates:
            candidate.build()()
            yield candidate.name, made[-1].numpy()

    return results


def test_onnxruntime_does_the_work_itself(results_of):
    work = Product(5, 33, 64)
    exact = work.x.astype(np.float64) @ work.w.T
    ((_, product),) = results_of(Onnxruntime(1).product(work))
    np.testing.assert_allclose(product, exact, atol=1e-4)
    sums = dict(results_of(Onnxruntime(1).int8(work, "int32")))["MatMulInteger"]
    assert np.array_equal(sums, (work.codes_x.astype(np.int64) - 64) @ work.codes_w)
    image = Convolution.square(2, 8, 9, 6, 3, stride=2)
    ((_, conv),) = results_of(Onnxruntime(1).convolution(image))
    for is_static in (True, False):
        ((_, coded),) = results_of(Onnxruntime(1).int8_convolution(image, is_static))
        assert np.abs(coded - conv).max() < 0.05 * np.abs(conv).max()
