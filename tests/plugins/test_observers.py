"""Observers: the same state whatever the cut, the order or the merge."""

from __future__ import annotations

import tracemalloc
from fractions import Fraction

import ml_dtypes
import numpy as np
import oracles
import pytest
from hypothesis import given
from hypothesis import strategies as st

from qsdk import Scheme, registry, scale_and_zero_point
from qsdk.errors import DataError, OptionError

OBSERVERS = ["minmax", "histogram", "percentile"]
on_each = pytest.mark.parametrize("name", OBSERVERS)
with_bins = pytest.mark.parametrize("name", ["histogram", "percentile"])


def observer(name, *batches, **options):
    seen = registry.get(f"observer:{name}", **options)
    for batch in batches:
        seen.observe(np.asarray(batch, np.float32))
    return seen


def bits_of(seen):
    """The state to the bit."""
    return {
        name: (a.dtype.str, a.shape, np.ascontiguousarray(a).tobytes())
        for name, a in seen.state().items()
    }


# Zeros of both signs, powers of two, whole numbers, and any float from denormals to the largest.
values = st.one_of(
    st.sampled_from([0.0, -0.0]),
    st.integers(-149, 127).map(lambda k: 2.0**k),
    st.integers(-149, 127).map(lambda k: -(2.0**k)),
    st.integers(-9, 9).map(float),
    st.floats(-4, 4, width=32),
    st.floats(width=32, allow_nan=False, allow_infinity=False),
)
streams = st.lists(st.lists(values, max_size=8), max_size=6)


@on_each
@given(batches=streams, data=st.data())
def test_any_cut_order_and_merge_gives_the_state_of_one_pass(name, batches, data):
    everything = [value for batch in batches for value in batch]
    options = {} if name == "minmax" else {"bins": 8}
    one_pass = observer(name, everything, **options)
    shuffled = data.draw(st.permutations(everything))
    cut = data.draw(st.integers(0, len(shuffled)))
    first, second = (
        observer(name, part[::2], part[1::2], **options)
        for part in (shuffled[:cut], shuffled[cut:])
    )
    assert bits_of(observer(name, *batches, **options)) == bits_of(one_pass)
    assert bits_of(first.merge(second)) == bits_of(one_pass)
    assert bits_of(second.merge(first)) == bits_of(one_pass)


@on_each
@given(parts=st.tuples(*[st.lists(values, max_size=6)] * 3))
def test_merging_is_associative_and_nothing_is_its_neutral(name, parts):
    a, b, c = (observer(name, part) for part in parts)
    assert bits_of(a.merge(b).merge(c)) == bits_of(a.merge(b.merge(c)))
    assert bits_of(a.merge(observer(name))) == bits_of(observer(name).merge(a)) == bits_of(a)


@on_each
def test_zeros_of_both_signs_are_one_zero(name):
    a, b = observer(name, [0.0]), observer(name, [-0.0])
    states = [bits_of(seen) for seen in (a.merge(b), b.merge(a), observer(name, [0.0, -0.0]))]
    assert states[0] == states[1] == states[2]
    assert bits_of(a) == bits_of(b)


@on_each
def test_merging_leaves_both_as_they_were(name):
    a, b = observer(name, [1.0, -2.0]), observer(name, [0.0, 9.0])
    before = bits_of(a), bits_of(b)
    merged = a.merge(b)
    merged.observe(np.float32([100.0]))
    assert (bits_of(a), bits_of(b)) == before


@given(data=st.lists(values, max_size=30))
def test_the_histogram_equals_counting_in_exact_fractions(data):
    state = observer("histogram", *[[v] for v in data], bins=16).state()
    if not data:
        assert state == {}
        return
    exponent, counts, zeros = oracles.histogram(data, 16)
    assert state["zeros"].tolist() == [zeros]
    if exponent is not None:
        assert state["exponent"].tolist() == [exponent]
    given = {i: n for i, n in enumerate(state["counts"][0].tolist()) if n}
    assert given == counts
    assert state["low"][0] == min(map(np.float32, data))
    assert state["high"][0] == max(map(np.float32, data))


def test_a_power_of_two_lies_inside_the_next_range():
    state = observer("histogram", [1.0], bins=4).state()
    assert state["exponent"].tolist() == [1]  # 1 < 2**1, strictly
    assert state["counts"].tolist() == [[0, 0, 0, 0, 0, 0, 1, 0]]
    state = observer("histogram", [np.nextafter(np.float32(1), np.float32(0))], bins=4).state()
    assert state["exponent"].tolist() == [0]
    assert state["counts"].tolist() == [[0, 0, 0, 0, 0, 0, 0, 1]]


def test_growing_by_one_sums_neighbours_into_the_middle():
    seen = observer("histogram", [-0.9, -0.3, 0.1, 0.3, 0.6, 0.9], bins=4)
    assert seen.state()["counts"].tolist() == [[1, 0, 1, 0, 1, 1, 1, 1]]
    seen.observe(np.float32([1.5]))
    # bins of width 0.5 over [-2, 2): -0.9 | -0.3 | 0.1 0.3 | 0.6 0.9 | 1.5
    assert seen.state()["counts"].tolist() == [[0, 0, 1, 1, 2, 2, 0, 1]]


def test_zeros_are_counted_apart_and_fill_no_bin():
    state = observer("histogram", [0.0, -0.0, 0.0]).state()
    assert state["zeros"].tolist() == [3] and not state["counts"].any()
    assert observer("histogram", [0.0]).range() == (0, 0)


@with_bins
def test_only_zeros_then_something_is_as_something_then_zeros(name):
    a, b = observer(name, [0.0] * 5, [3.0]), observer(name, [3.0], [0.0] * 5)
    assert bits_of(a) == bits_of(b)


@on_each
@given(data=st.lists(values, min_size=1, max_size=30))
def test_the_range_of_everything_is_from_the_lowest_to_the_highest(name, data):
    options = {"keep_percent": 100} if name == "percentile" else {}
    low, high = observer(name, data, **options).range()
    assert low == min(map(np.float32, data)) and high == max(map(np.float32, data))
    assert low.dtype == high.dtype == np.float32 and low.shape == high.shape == ()


SAMPLES = {
    "normal": np.random.default_rng(0).standard_normal(20_000),
    "relu": np.maximum(np.random.default_rng(1).standard_normal(20_000), 0),
    "skewed": np.random.default_rng(2).lognormal(0, 1, 20_000) - 0.5,
    "few": np.random.default_rng(3).standard_normal(7),
    "tiny": np.random.default_rng(4).standard_normal(500) * 1e-41,
    "huge": np.random.default_rng(5).uniform(-1, 1, 500) * 3.4e38,
    "largest": np.repeat([-1.0, 1.0], 20) * float(np.finfo(np.float32).max),
}


@pytest.mark.parametrize("sample", SAMPLES)
@pytest.mark.parametrize("keep", [75.0, 93.75, 99.90234375])  # shares are exact in binary
def test_percentiles_are_within_one_bin_of_the_quantiles(sample, keep, recwarn):
    data = SAMPLES[sample].astype(np.float32)
    low, high = observer("percentile", data, keep_percent=keep).range()
    exponent = np.frexp(np.abs(data).max())[1]
    width = 2.0 ** (float(exponent) - 12)
    for end, share in ((low, 1 - keep / 100), (high, keep / 100)):
        exact = oracles.quantile(data, Fraction(share))
        assert abs(float(end) - exact) <= width
        assert exact == np.quantile(data, share, method="inverted_cdf")
    assert not recwarn.list


def test_a_percentile_never_leaves_out_more_than_it_says():
    data = SAMPLES["normal"].astype(np.float32)
    for keep in (60, 90, 99, 99.9):
        low, high = observer("percentile", data, keep_percent=keep).range()
        allowed = (1 - keep / 100) * data.size * (1 + 1e-9)
        assert (data < low).sum() <= allowed and (data > high).sum() <= allowed


def test_a_percentile_cuts_an_outlier_off():
    data = np.append(SAMPLES["normal"], 1000).astype(np.float32)
    assert observer("percentile", data, keep_percent=99.9).range()[1] < 4


@with_bins
def test_memory_is_bounded_however_long_the_stream(name):
    seen = observer(name, np.random.default_rng(0).standard_normal(1000))
    size = sum(a.nbytes for a in seen.state().values())
    tracemalloc.start()
    for i in range(120):
        seen.observe(np.random.default_rng(i).standard_normal(1000).astype(np.float32) * 2.0**i)
    held, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert sum(a.nbytes for a in seen.state().values()) == size < 70_000
    assert held < 1_000_000


@on_each
@pytest.mark.parametrize("axis", [0, 1, 2, -1])
def test_with_an_axis_each_channel_is_observed_by_itself(name, axis):
    batch = np.random.default_rng(0).standard_normal((3, 4, 5)).astype(np.float32)
    batch *= np.float32(2) ** np.arange(batch.shape[axis]).reshape(
        [-1 if i == axis % 3 else 1 for i in range(3)]
    )
    low, high = observer(name, batch, batch / 2, axis=axis).range()
    assert low.shape == high.shape == (batch.shape[axis],)
    for i in range(batch.shape[axis]):
        channel = np.take(batch, i, axis)
        alone = observer(name, channel, channel / 2).range()
        assert (low[i], high[i]) == alone


@on_each
def test_params_are_those_of_the_range(name):
    seen = observer(name, [[-1.0, 5.0], [2.0, 0.5]], axis=0)
    scheme = Scheme(bits=8, signed=False, granularity="per_tensor")
    expected = scale_and_zero_point(*seen.range(), scheme)
    assert all(np.array_equal(a, b) for a, b in zip(seen.params(scheme), expected, strict=True))


@on_each
@given(batches=streams)
def test_a_state_that_was_saved_goes_on_as_if_it_had_not_been(name, batches):
    went_on, saved = observer(name, *batches), observer(name, *batches)
    copy = registry.get(f"observer:{name}")
    copy.load_state(saved.state())
    for seen in (went_on, copy):
        seen.observe(np.float32([3.0, -0.5]))
    assert bits_of(copy) == bits_of(went_on)


def changed(name, change):
    """A state of two channels in which ``change`` replaced one array."""
    state = dict(observer(name, [[-1.0, 0.5], [0.0, 0.0]], axis=0).state())
    part, make = change
    state[part] = make(state[part])
    return state


# What no observer gives: (a part of the state, what it becomes, what the error says)
FOR_ALL = {
    "another type": (
        "low",
        lambda a: a.astype(np.float64),
        r"'low' of the state is float64 \(2,\)",
    ),
    "another length": ("high", lambda a: a[:1], r"must be float32 \(2,\)"),
    "more axes": ("low", lambda a: a[None], r"must be float32"),
    "no axis": ("high", lambda a: a[0], r"'high' of the state is float32 \(\)"),
    "NaN": ("low", lambda a: a * np.float32(np.nan), "'low' of the state holds NaN"),
    "infinity": ("high", lambda a: a + np.float32(np.inf), "between -1.0 and inf"),
    "ends not in order": ("low", lambda a: a + 3, "channel 0 .* between 2.0 and 0.5"),
    "no channels": ("low", lambda a: a[:0], r"must be float32 \(2,\)"),
}
FOR_COUNTS = {
    "other bins": ("counts", lambda a: a[:, ::2], r"must be int64 \(2, 8192\)"),
    "halves": ("counts", lambda a: a / 2, "'counts' of the state is float64"),
    "a count below 0": ("counts", lambda a: a - 1, "a count of the state is negative"),
    "zeros below 0": ("zeros", lambda a: a - 9, "a count of the state is negative"),
    "a range out of this world": ("exponent", lambda a: a - 5000, r"channel 0 .* 2\*\*-4999"),
    "a range too large": ("exponent", lambda a: np.int32([129, a[1]]), r"2\*\*129"),
    "a range without counts": ("exponent", lambda a: a * 0, "channel 1 .* its lack of counts"),
    "counts without a range": ("counts", lambda a: a * 0, "channel 0 .* its lack of counts"),
    "nothing seen": ("zeros", lambda a: a * 0, "channel 1 .* its lack of counts"),
}
CASES = [
    (n, c) for n in OBSERVERS for c in ({**FOR_ALL, **FOR_COUNTS} if n != "minmax" else FOR_ALL)
]


@pytest.mark.parametrize(("name", "case"), CASES)
def test_a_state_that_cannot_have_been_given_is_refused_and_changes_nothing(name, case):
    *change, message = {**FOR_ALL, **FOR_COUNTS}[case]
    seen = observer(name, [[9.0], [2.0]], axis=0)
    before = bits_of(seen)
    with pytest.raises(DataError, match=message):
        seen.load_state(changed(name, change))
    assert bits_of(seen) == before


@on_each
def test_a_state_of_other_parts_is_refused_with_their_names(name):
    seen, state = observer(name), observer(name, [1.0]).state()
    with pytest.raises(DataError, match=f"a state of {name} has low, high.*; this has .*more"):
        seen.load_state({**state, "more": state["low"]})
    with pytest.raises(DataError, match=f"a state of {name} has low, high"):
        seen.load_state({"low": state["low"]})


@on_each
def test_a_state_of_many_channels_is_refused_where_there_is_one_range_in_all(name):
    state = observer(name, [[1.0], [2.0]], axis=0).state()
    with pytest.raises(DataError, match=r"must be float32 \(1,\)"):
        observer(name).load_state(state)


@on_each
def test_what_an_observer_gives_does_not_change_when_it_goes_on(name):
    options = {"keep_percent": 100} if name == "percentile" else {}
    seen = observer(name, [1.0, 2.0], **options)
    (low, high), state = seen.range(), bits_of(seen)
    kept = seen.state()
    seen.observe(np.float32([-7.0, 9.0]))
    assert (low, high) == (1, 2)
    assert {n: (a.dtype.str, a.shape, a.tobytes()) for n, a in kept.items()} == state


@on_each
@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_values_that_are_not_finite_are_refused_and_change_nothing(name, value):
    seen = observer(name, [1.0])
    before = bits_of(seen)
    with pytest.raises(DataError, match=rf"the batch holds {value} at \[1, 0\]"):
        seen.observe(np.float32([[5, 6], [value, 7]]))
    assert bits_of(seen) == before


@on_each
def test_integers_are_refused(name):
    with pytest.raises(DataError, match="the batch is int64; give floats"):
        observer(name).observe(np.array([1, 2]))


@on_each
@pytest.mark.parametrize("dtype", [np.float16, np.float64, ml_dtypes.bfloat16, ">f4"])
def test_any_float_type_and_layout_is_observed_and_left_unchanged(name, dtype):
    batch = np.arange(-6, 6).astype(dtype).reshape(3, 4)[::-1, ::2]
    batch.flags.writeable = False
    seen, other = observer(name), observer(name, batch.astype(np.float32))
    seen.observe(batch)
    assert bits_of(seen) == bits_of(other)


@on_each
def test_before_any_batch_there_is_no_range(name):
    seen = observer(name)
    seen.observe(np.zeros((0, 3), np.float32))
    with pytest.raises(DataError, match="nothing was observed; give at least one batch"):
        seen.range()
    assert seen.state() == {}


@on_each
def test_a_batch_of_other_channels_is_refused_with_both_counts(name):
    seen = observer(name, np.ones((2, 3)), axis=0)
    before = bits_of(seen)
    with pytest.raises(DataError, match="this has 5 channels, and 2 were seen before"):
        seen.observe(np.ones((5, 3), np.float32))
    assert bits_of(seen) == before


@on_each
@pytest.mark.parametrize("axis", [2, -3])
def test_an_axis_that_a_batch_lacks_is_refused(name, axis):
    with pytest.raises(DataError, match=rf"axis {axis} does not exist .* shape \(2, 3\)"):
        observer(name, np.ones((2, 3)), axis=axis)


@on_each
def test_observers_of_two_axes_do_not_merge(name):
    with pytest.raises(DataError, match="axis 0 and 1 do not merge"):
        observer(name, np.eye(3), axis=0).merge(observer(name, np.eye(3), axis=1))


@with_bins
def test_histograms_of_two_sizes_do_not_merge(name):
    with pytest.raises(DataError, match="histograms of 8 and 16 bins"):
        observer(name, [1.0], bins=8).merge(observer(name, [1.0], bins=16))


@pytest.mark.parametrize("bins", [0, 1, 3, 100, 4096.0, "8"])
def test_bins_that_are_no_power_of_two_are_refused(bins):
    with pytest.raises(OptionError, match=f"bins is {bins!r}; give a power of two"):
        registry.get("histogram", bins=bins)


@pytest.mark.parametrize("keep", [50, 100.1, float("nan")])
def test_a_share_that_is_no_share_is_refused(keep):
    with pytest.raises(OptionError, match="keep_percent"):
        registry.get("observer:percentile", keep_percent=keep)


def test_a_batch_refused_at_its_end_leaves_the_histogram_as_it_was(either):
    seen = observer("histogram", [1, 2, -3], bins=64)
    before = bits_of(seen)
    batch = np.full(30_000, 100, np.float32)
    batch[-1] = np.nan
    with pytest.raises(DataError, match=r"nan at \[29999\]"):
        seen.observe(batch)
    assert bits_of(seen) == before


def test_c_and_numpy_give_a_histogram_the_same_state_across_blocks(native, monkeypatch):
    rng = np.random.default_rng(3)
    batches = [rng.standard_normal(n).astype(np.float32) * s for n, s in ((40_000, 1), (9, 50))]
    states = []
    for switch in ("0", "1"):
        monkeypatch.setenv("QSDK_DISABLE_NATIVE", switch)
        states.append(bits_of(observer("histogram", np.zeros(5), *batches)))
    assert states[0] == states[1]
