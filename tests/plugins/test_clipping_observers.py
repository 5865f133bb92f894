"""kl, mse, cosine and ema: the range that each finds, against slow forms of the same definition."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from qsdk import Scheme, registry, scale_and_zero_point
from qsdk.affine import dequantize, quantize
from qsdk.errors import DataError, OptionError
from qsdk_plugins.observers.kl import STRATEGIES, best, divergences

INT8 = Scheme(bits=8, symmetric=True, granularity="per_tensor")
UINT8 = Scheme(bits=8, signed=False, granularity="per_tensor")
INT4 = Scheme(bits=4, granularity="per_tensor")
SCHEMES = (INT8, UINT8, INT4)
CLIPPING = ("kl", "mse", "lp", "cosine", "aciq")
rng = np.random.default_rng(0)
MANY = rng.standard_normal(1_000_000).astype(np.float32)
NORMAL = MANY[:50_000]
DATA = {
    "normal": NORMAL,
    "relu": np.maximum(NORMAL, 0),
    "outlier": np.append(NORMAL, np.float32(50)),
    "uniform": rng.uniform(-1, 1, 50_000).astype(np.float32),
    "negative": -np.abs(NORMAL),
}
on_all_data = pytest.mark.parametrize("data", DATA.values(), ids=DATA)
on_each_scheme = pytest.mark.parametrize("scheme", SCHEMES, ids=str)


def seen(name, *batches, **options):
    observer = registry.get(f"observer:{name}", **options)
    for batch in batches:
        observer.observe(np.asarray(batch, np.float32))
    return observer


def error(x, low, high, scheme):
    """Mean squared error of the codes whose grid covers the range, value by value."""
    scale, zero_point = scale_and_zero_point(low, high, scheme)
    codes = quantize(x, scale, zero_point, scheme)
    return float(np.square(x.astype(np.float64) - dequantize(codes, scale, zero_point)).mean())


# -- Search


@on_all_data
@on_each_scheme
def test_mse_makes_no_larger_error_than_any_other_observer(data, scheme):
    ours = error(data, *seen("mse", data).range_for(scheme), scheme)
    for name in ("minmax", "percentile", "kl", "cosine"):
        other = error(data, *seen(name, data).range_for(scheme), scheme)
        assert ours <= other * 1.002, name  # a bin's values are not quite evenly spread


@pytest.mark.parametrize("name", ["mse", "cosine"])
@pytest.mark.parametrize("scheme", [INT8, INT4.replace(symmetric=True)], ids=str)
def test_a_symmetric_search_finds_the_best_of_all_edges(name, scheme):
    data = (rng.standard_normal(4000) * 0.9).astype(np.float32)
    observer = seen(name, data, bins=64)
    low, high = observer.range_for(scheme)
    width = 2.0 ** int(observer.seen.exponent[0]) / 64
    # Every bin as a hundred values spread over it.
    spread = ((np.arange(12_800) + 0.5) / 100 - 64) * width
    centres = np.repeat(spread, np.repeat(observer.seen.counts[0], 100)).astype(np.float64)

    def loss(threshold):
        scale, zero_point = scale_and_zero_point(-threshold, threshold, scheme)
        y = dequantize(
            quantize(centres.astype(np.float32), scale, zero_point, scheme), scale, zero_point
        )
        if name == "mse":
            return np.square(centres - y).sum()
        return -(centres @ y) / np.sqrt((centres @ centres) * (y @ y.astype(np.float64)))

    edges = [*np.arange(1, 64) * width, float(np.abs(data).max())]
    least = min(loss(edge) for edge in edges if edge <= np.abs(data).max())
    assert loss(max(-low, high)) <= least + 1e-4 * abs(least)


@on_all_data
@on_each_scheme
def test_lp_of_2_is_mse_up_to_the_width_of_a_bin(data, scheme):
    ours = error(data, *seen("lp", data, p=2).range_for(scheme), scheme)
    assert ours <= error(data, *seen("mse", data).range_for(scheme), scheme) * 1.01


def test_a_larger_p_cuts_less_off():
    reach = [float(seen("lp", NORMAL, p=p).range_for(INT4)[1]) for p in (0.5, 1, 2, 2.4, 4, 8)]
    assert reach == sorted(reach) and reach[0] < 0.8 * reach[-1]


def test_gaussian_data_of_8_bits_is_cut_near_3_9_sigma():
    """ACIQ's optimum is 3.92; at 4 bits it is 2.56."""
    assert abs(float(seen("mse", MANY).range_for(INT8)[1]) - 3.92) < 0.1
    symmetric = INT4.replace(symmetric=True)
    reach = float(seen("mse", MANY).range_for(symmetric)[1]) * 7.5 / 7  # of 16 levels
    assert abs(reach - 2.56) < 0.1


@pytest.mark.parametrize("factor", [0.25, 8.0])
def test_the_search_scales_with_the_data(factor):
    for name, scheme in itertools.product(CLIPPING, (INT8, INT4)):
        ends = np.array(seen(name, NORMAL).range_for(scheme))
        scaled = np.array(seen(name, NORMAL * np.float32(factor)).range_for(scheme))
        assert np.array_equal(scaled, ends * np.float32(factor)), (name, scheme)


@on_all_data
@on_each_scheme
@pytest.mark.parametrize("name", CLIPPING)
def test_the_range_lies_inside_the_data(name, data, scheme):
    low, high = seen(name, data).range_for(scheme)
    assert data.min() <= low <= high <= data.max()
    assert np.isfinite([*seen(name, data).params(scheme)]).all()


@pytest.mark.parametrize("name", CLIPPING)
@pytest.mark.parametrize("values", [[0.0], [1.0], [-2.0], [3.0, 3.0], [0.0, 1e-40], [-1.0, 1.0]])
def test_few_values_come_back(name, values):
    observer = seen(name, values)
    for scheme in SCHEMES:
        assert error(np.float32(values), *observer.range_for(scheme), scheme) < 0.01


@pytest.mark.parametrize("name", CLIPPING)
def test_every_channel_is_searched_by_itself(name):
    data = np.stack([NORMAL[:5000], 100 * NORMAL[5000:10_000], np.zeros(5000, np.float32)])
    low, high = seen(name, data, axis=0).range_for(INT8)
    for channel in range(3):
        alone = seen(name, data[channel]).range_for(INT8)
        assert (low[channel], high[channel]) == alone


@pytest.mark.parametrize("name", CLIPPING)
def test_four_shards_merge_to_the_range_of_one_pass(name):
    whole = seen(name, NORMAL)
    shards = [seen(name, part) for part in np.array_split(NORMAL[::-1], 4)]
    merged = shards[3].merge(shards[1]).merge(shards[2].merge(shards[0]))
    for scheme in (UINT8, INT4):
        assert merged.range_for(scheme) == whole.range_for(scheme)


# -- KL


def slow_divergence(counts, kept, levels):
    """Group by group and bin by bin."""
    p = counts[:kept].astype(float)
    p[-1] += counts[kept:].sum()
    q = np.zeros(kept)
    for j in range(levels):
        left, right = j * kept / levels, (j + 1) * kept / levels
        place = np.arange(kept)
        share = np.clip(np.minimum(right, place + 1) - np.maximum(left, place), 0, 1)
        filled = share * (counts[:kept] > 0)
        if filled.sum():
            q += filled * (share @ counts[:kept]) / filled.sum()
    p, q = p / p.sum(), q / q.sum()
    return sum(a * np.log(a / max(b, 1e-12)) for a, b in zip(p, q, strict=True) if a)


def test_divergences_equal_those_of_the_definition():
    counts = rng.poisson(np.exp(-np.arange(60) / 8) * 200)
    counts[rng.random(60) < 0.2] = 0
    counts[:8] += 1
    kept = np.arange(8, 61)
    found = divergences(counts.astype(float), kept, 8, fold_tail=True)
    expected = [slow_divergence(counts, int(i), 8) for i in kept]
    assert np.allclose(found, expected, rtol=1e-9, atol=1e-12)


def test_uniform_data_is_not_cut():
    low, high = seen("kl", DATA["uniform"], strategy="kl").range_for(INT8)
    assert (low, high) == (DATA["uniform"].min(), DATA["uniform"].max())


def test_as_many_bins_as_levels_are_all_kept():
    assert best(np.array([5, 3, 9, 1]), 4) == 4


def test_an_outlier_is_cut():
    assert seen("kl", DATA["outlier"], strategy="kl").range_for(INT8)[1] < 8


def test_zeros_do_not_move_the_threshold():
    """With the zeros in the lowest bin it would be 1.97."""
    sparse = np.append(DATA["relu"], np.zeros(10**6, np.float32))
    for strategy in ("auto", "kl"):
        ends = seen("kl", DATA["relu"], strategy=strategy).range_for(INT8)
        assert seen("kl", sparse, strategy=strategy).range_for(INT8) == ends
    assert 4 < ends[1] < 5


@on_all_data
@on_each_scheme
def test_the_choice_is_the_strategy_of_the_least_error(data, scheme):
    observer = seen("kl", data)
    (choice,) = observer.choices(scheme)
    assert choice.errors.keys() == STRATEGIES.keys()
    assert choice.errors[choice.name] == min(choice.errors.values())
    high = max(abs(end) for end in observer.range_for(scheme))
    assert float(high) == pytest.approx(choice.thresholds[choice.name], rel=1e-6)
    for name, threshold in choice.thresholds.items():
        ends = max(-threshold, data.min()), min(threshold, data.max())
        actual = error(data, *ends, scheme)
        expected = choice.errors[name] / len(data)
        assert actual == pytest.approx(expected, rel=0.5), name


def test_one_far_outlier_is_not_kept_by_choice_and_scarce_data_is():
    (choice,) = seen("kl", MANY, [50]).choices(INT8)
    assert choice.name != "max"
    few = np.append(NORMAL[:90], np.float32(50))
    assert seen("kl", few).choices(INT8)[0].name == "max"
    assert seen("kl", np.zeros(5)).choices(INT8) == [None]


def test_an_unknown_strategy_is_refused():
    with pytest.raises(OptionError, match="strategy"):
        registry.get("observer:kl", strategy="best")


# -- EMA


def test_ema_follows_its_closed_form():
    batches = [np.float32([-k, 2 * k]) for k in (1, 5, 3)]
    observer = seen("ema", *batches, momentum=0.5)
    low, high = observer.range()
    assert (low, high) == (-(0.25 * 1 + 0.25 * 5 + 0.5 * 3), 0.25 * 2 + 0.25 * 10 + 0.5 * 6)
    assert seen("ema", batches[0]).range() == (-1, 2)


def test_ema_does_not_merge():
    with pytest.raises(DataError, match="order"):
        seen("ema", [1.0]).merge(seen("ema", [2.0]))


def test_ema_goes_on_from_its_state():
    observer = seen("ema", [1.0], [3.0])
    other = seen("ema")
    other.load_state(observer.state())
    for each in (observer, other):
        each.observe(np.float32([7.0]))
    assert other.range() == observer.range()


# -- aciq


@pytest.mark.parametrize(("kind", "factor"), [("laplace", 5.029), ("normal", 2.559)])
def test_aciq_clips_at_the_published_factor(kind, factor):
    data = getattr(np.random.default_rng(3), kind)(size=200_000).astype(np.float32)
    low, high = seen("aciq", data).range_for(INT4)
    assert (-float(low), float(high)) == pytest.approx((factor, factor), abs=0.05)


def test_aciq_behind_a_relu_takes_the_factor_of_one_bit_more_and_forgets_zeros():
    data = np.maximum(np.random.default_rng(4).laplace(size=200_000), 0).astype(np.float32)
    low, high = seen("aciq", data).range_for(UINT8)
    assert low == 0
    assert float(high) == pytest.approx(min(data.max(), 11.163), abs=0.1)


@pytest.mark.parametrize("scheme", [INT4, Scheme(bits=3, granularity="per_tensor")], ids=str)
def test_aciq_has_less_error_than_the_whole_range(scheme):
    data = np.random.default_rng(5).laplace(size=100_000).astype(np.float32)
    observer = seen("aciq", data)
    assert error(data, *observer.range_for(scheme), scheme) < error(data, *observer.range(), scheme)
