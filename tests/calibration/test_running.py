"""One pass over the data: what it finds, whatever way it is gone through."""

from __future__ import annotations

import signal
import subprocess
import sys
import textwrap
import tracemalloc
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from small_net import images, saved, small_net

import qsdk
from qsdk.calibration.feeds import Batch
from qsdk.errors import DataError, FileRefusedError
from qsdk.interfaces import Model
from qsdk_plugins.onnx.model import OnnxModel

MERGEABLE = ["minmax", "histogram", "percentile", "kl", "mse"]


def test_ranges_are_those_of_the_tensors(model, watched, batches):
    found = qsdk.calibrate(model, watched(), batches)
    values = model.run({"x": np.concatenate(batches)}, ["stem_relu6", "sum_relu"])
    for name, array in values.items():
        low, high = found.observers[name].range()
        assert (low, high) == pytest.approx((array.min(), array.max()), rel=1e-5)
    assert (found.batches, found.rows) == (8, 40)
    assert found.codes["cut"] == found.codes["stem_relu6"]  # it only moves values


@pytest.mark.parametrize("observer", [*MERGEABLE, "ema"])
@pytest.mark.parametrize("workers", [1, 3])
def test_any_number_of_workers_gives_the_same(observer, workers, model, watched, batches, same):
    with ThreadPoolExecutor(workers) as pool:
        several = qsdk.calibrate(model, watched(observer), batches, executor=pool)
    same(several, qsdk.calibrate(model, watched(observer), batches))


@pytest.mark.parametrize("observer", MERGEABLE)
def test_merged_shards_equal_one_pass(observer, model, watched, batches, same):
    shards = [qsdk.calibrate(model, watched(observer), batches[i::4]) for i in range(4)]
    merged = shards[2].merge(shards[0]).merge(shards[3].merge(shards[1]))
    same(merged, qsdk.calibrate(model, watched(observer), batches))


def test_shards_of_observers_that_depend_on_order_do_not_merge(model, watched, batches):
    shards = [qsdk.calibrate(model, watched("ema"), part) for part in (batches[:4], batches[4:])]
    with pytest.raises(DataError, match="order"):
        shards[0].merge(shards[1])


def test_shards_of_other_models_or_observers_do_not_merge(model, watched, batches, tmp_path):
    found = qsdk.calibrate(model, watched(), batches)
    with pytest.raises(DataError, match="other statistics observe"):
        found.merge(qsdk.calibrate(model, watched("kl"), batches))
    other = qsdk.load(saved(tmp_path, bare=True))
    theirs = qsdk.calibrate(other, watched(), batches)
    with pytest.raises(DataError, match="another model"):
        found.merge(theirs)


def test_memory_is_bounded_by_what_was_asked(model, watched):
    big = [images(400, seed) for seed in range(2)]
    qsdk.calibrate(model, watched(), [images(1)])  # opens the session
    tracemalloc.start()
    found = qsdk.calibrate(model, watched(), big, max_memory=200_000)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 1_000_000 < 2 * sum(batch.nbytes for batch in big)
    whole = qsdk.calibrate(model, watched(), big)
    assert found.codes == pytest.approx(whole.codes)


def test_memory_that_is_too_little_is_said_with_what_it_takes(model, watched, batches):
    with pytest.raises(DataError, match="takes at least"):
        qsdk.calibrate(model, watched("kl"), batches, max_memory=1000)


def test_the_predicted_peak_comes_before_the_first_batch(model, watched, batches):
    said = []
    qsdk.calibrate(model, watched(), batches, progress=lambda *words: said.append(words))
    assert said[0][:2] == (0, 8) and said[0][2].startswith("at most")
    assert [words[:2] for words in said[1:]] == [(i, 8) for i in range(1, 9)]


def test_any_iterable_and_any_form_of_batches(model, watched, batches, same):
    as_dicts = ({"x": batch} for batch in batches)
    same(
        qsdk.calibrate(model, watched(), as_dicts),
        qsdk.calibrate(model, watched(), iter(batches)),
    )


def test_an_array_or_a_dict_of_arrays_is_one_batch(model, watched, batches, same):
    whole = np.concatenate(batches)
    found = qsdk.calibrate(model, watched(), whole)
    same(found, qsdk.calibrate(model, watched(), [whole]))
    same(found, qsdk.calibrate(model, watched(), {"x": whole}))


def test_batches_of_other_lengths_and_a_last_short_one(model, watched):
    data = [images(5), images(1, 1), images(3, 2)]
    assert qsdk.calibrate(model, watched(), data).rows == 9


def test_batches_of_a_fixed_length_are_not_cut_and_give_the_same(model, watched, batches, tmp_path):
    fixed = qsdk.load(saved(tmp_path, batch=5)).folded()
    found = qsdk.calibrate(fixed, watched(), batches)
    assert found.codes == pytest.approx(qsdk.calibrate(model, watched(), batches).codes)


@pytest.mark.parametrize("threads", [1, 3])
def test_any_number_of_cores_gives_the_same(threads, model, watched, batches, same, monkeypatch):
    whole = qsdk.calibrate(model, watched("mse"), batches)
    monkeypatch.setenv("QSDK_NUM_THREADS", str(threads))
    same(qsdk.calibrate(model, watched("mse"), batches), whole)


def test_inputs_of_many_shapes_share_few_runners(watched, monkeypatch):
    proto = small_net()
    for side in proto.graph.input[0].type.tensor_type.shape.dim[2:]:
        side.dim_param = "side"
    model = OnnxModel(proto).folded()
    made = []
    monkeypatch.setattr(
        OnnxModel,
        "runner",
        lambda self, *given: made.append(given[1]) or Model.runner(self, *given),
    )
    monkeypatch.setenv("QSDK_NUM_THREADS", "4")
    wide = [np.tile(images(6, n), (1, 1, n, n)) for n in (1, 5, 1, 5, 3, 5, 1)]
    found = qsdk.calibrate(model, watched(), wide, max_memory=500_000)
    assert found.batches == len(wide) and made == [4, 1]


def test_a_batch_is_cut_into_parts_of_about_one_length():
    batch = Batch(0, {"x": np.arange(32)})
    parts = [(start, len(part["x"])) for start, part in batch.parts(10)]
    assert parts == [(0, 8), (8, 8), (16, 8), (24, 8)]
    assert [len(part["x"]) for _, part in batch.parts(5)] == [4, 5, 4, 5, 4, 5, 5]
    assert [start for start, _ in batch.parts(0)] == [0]


@pytest.mark.parametrize("own", [True, False], ids=["onnx", "any model"])
def test_a_runner_gives_several_threads_what_run_gives(own, model, batches):
    fetch = ["stem_relu6", "y"]
    runner = model.runner(fetch, 3, 3) if own else Model.runner(model, fetch, 3, 3)
    with ThreadPoolExecutor(3) as pool:
        found = list(pool.map(runner, [{"x": batch} for batch in batches]))
    for batch, tensors in zip(batches, found, strict=True):
        expected = model.run({"x": batch}, fetch)
        for name in fetch:
            np.testing.assert_allclose(tensors[name], expected[name], rtol=1e-5, atol=1e-6)


# -- Bad data


def bad(place: tuple[int, ...], value: float) -> np.ndarray:
    array = images(4)
    array[place] = value
    return array


@pytest.mark.parametrize(
    ("data", "said"),
    [
        ([], "empty"),
        ("images.npz", "is a str; give batches, or open the file"),
        ([images(4).astype(np.float64)], r"'x' expects float32 \(any, 4, 8, 8\).*float64"),
        ([images(4)[:, :3]], r"'x' expects float32 \(any, 4, 8, 8\).*\(4, 3, 8, 8\)"),
        ([images(0)], "'x' of batch 0 is empty"),
        ([{"y": images(4)}], "inputs are x"),
        ([images(4), bad((2, 1, 0, 3), np.nan)], r"'x' of batch 1 holds nan at \[2, 1, 0, 3\]"),
        ([bad((0, 0, 0, 0), np.inf)], r"'x' of batch 0 holds inf at \[0, 0, 0, 0\]"),
    ],
)
def test_bad_data_is_refused_with_what_and_where(data, said, model, watched):
    with pytest.raises(DataError, match=said):
        qsdk.calibrate(model, watched(), data)


def test_a_tensor_that_overflows_is_named_with_batch_and_position(model, watched):
    huge = images(30)
    huge[17] = np.finfo(np.float32).max
    with pytest.raises(DataError, match=r"tensor '\w+' is (inf|-inf|nan) at \[17, .*batch 1"):
        qsdk.calibrate(model, watched(), [images(4), huge], max_memory=100_000)


def test_constant_tensors_get_codes_too(model, watched):
    found = qsdk.calibrate(model, watched("mse"), [np.zeros((2, 4, 8, 8), np.float32)] * 2)
    assert "every value is the same" in found.lines["x"]
    assert found.codes["x"].scale == 1
    assert found.codes["x"].zero_point == 0


def test_one_single_batch_works_and_says_what_it_lacks(model, watched):
    found = qsdk.calibrate(model, watched(), [images(4)])
    assert "one batch" in found.lines["x"] and "x" in found.thin


# -- Going on


def test_an_interrupted_run_goes_on_to_the_same_bytes(model, watched, batches, same, tmp_path):
    state = tmp_path / "state.safetensors"

    def stops() -> object:
        yield from batches[:5]
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        qsdk.calibrate(model, watched("kl"), stops(), state=state, save_seconds=0)
    ran: list[int] = []
    found = qsdk.calibrate(
        model,
        watched("kl"),
        batches,
        state=state,
        progress=lambda done, total, name: ran.append(done),
    )
    assert min(ran) == 5, "the first five were observed again"
    same(found, qsdk.calibrate(model, watched("kl"), batches))


def test_saved_statistics_of_other_data_are_refused(model, watched, batches, tmp_path):
    state = tmp_path / "state.safetensors"
    qsdk.calibrate(model, watched(), batches[:3], state=state)
    with pytest.raises(DataError, match="does not begin with"):
        qsdk.calibrate(model, watched(), batches[1:], state=state)
    with pytest.raises(DataError, match="does not begin with"):
        qsdk.calibrate(model, watched(), batches[:2], state=state)


def test_saved_statistics_of_another_model_or_observer_are_refused(
    model, watched, batches, tmp_path
):
    state = tmp_path / "state.safetensors"
    qsdk.calibrate(model, watched(), batches, state=state)
    with pytest.raises(DataError, match="other observers"):
        qsdk.calibrate(model, watched("percentile"), batches, state=state)
    proto = type(model.proto)()
    proto.CopyFrom(model.proto)
    weight = next(t for t in proto.graph.initializer if t.name == "fc.weight")
    weight.raw_data = weight.raw_data[::-1]
    changed = type(model)(proto)
    with pytest.raises(DataError, match="another model"):
        qsdk.calibrate(changed, watched(), batches, state=state)


def test_a_state_that_is_none_is_refused(model, watched, batches, tmp_path):
    state = tmp_path / "state.safetensors"
    found = qsdk.calibrate(model, watched("kl"), batches)
    found.save(state)
    whole = state.read_bytes()
    for damaged in (b"", whole[: len(whole) // 2], whole.replace(b'"rows', b'"rowz')):
        state.write_bytes(damaged)
        with pytest.raises(FileRefusedError):
            qsdk.calibrate(model, watched("kl"), batches, state=state)


KILLED = """
    import sys
    import numpy as np, qsdk
    from qsdk.calibration import Watch
    model, state, kill_at = qsdk.load(sys.argv[1]), sys.argv[2], int(sys.argv[3])
    scheme = qsdk.Scheme(bits=8, signed=False, granularity="per_tensor")
    sites = model.sites([layer.name for layer in model.layers])
    watches = [Watch(site=s, observer="histogram", scheme=scheme) for s in sites]
    def data():
        for i in range(6):
            if i == kill_at:
                import os, signal
                os.kill(os.getpid(), signal.SIGKILL)
            yield np.random.default_rng(i).standard_normal((3, 4, 8, 8)).astype(np.float32)
    qsdk.calibrate(model, watches, data(), state=state, save_seconds=0)
"""


def test_a_killed_run_goes_on_to_the_same_bytes(tmp_path):
    model = saved(tmp_path, bare=True)

    def run(state: Path, kill_at: int) -> int:
        script = textwrap.dedent(KILLED)
        words = [sys.executable, "-c", script, str(model), str(state), str(kill_at)]
        return subprocess.run(words, check=False).returncode

    whole, resumed = tmp_path / "whole.safetensors", tmp_path / "resumed.safetensors"
    assert run(whole, -1) == 0
    for kill_at in (2, 5):
        assert run(resumed, kill_at) == -signal.SIGKILL
    assert run(resumed, -1) == 0
    assert resumed.read_bytes() == whole.read_bytes()
