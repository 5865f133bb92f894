"""bn_range: ends at so many deviations, worked out with numpy; and biases corrected on noise."""

from __future__ import annotations

import numpy as np
import pytest
from small_net import fitted, images, small_net

import qsdk
from qsdk import Scheme, registry
from qsdk.errors import OptionError
from qsdk_plugins.onnx.model import OnnxModel

rng = np.random.default_rng(0)
RELU = np.maximum(rng.normal(0.2, 1, 200_000), 0).astype(np.float32)
BOTH = rng.normal(0.5, 2, 200_000).astype(np.float32)


def ends(x, bits=8, **options):
    observer = registry.get("observer:bn_range", **options)
    observer.observe(x)
    low, high = observer.range_for(Scheme(bits=bits, signed=False, granularity="per_tensor"))
    return float(low), float(high)


def test_values_of_one_sign_reach_from_zero_by_deviations_of_those_that_are_not_zero():
    deviation = RELU[RELU > 0].std()
    assert ends(RELU) == (0, pytest.approx(12 * deviation, rel=1e-3))
    assert ends(-RELU) == (pytest.approx(-12 * deviation, rel=1e-3), 0)
    assert ends(RELU, deviations=25) == (0, pytest.approx(25 * deviation, rel=1e-3))


def test_values_of_both_signs_reach_to_both_sides_of_their_mean():
    reach = 12 / 1.25 * BOTH.std()
    low, high = ends(BOTH)
    assert low == pytest.approx(BOTH.mean() - reach, rel=1e-3)
    assert high == pytest.approx(BOTH.mean() + reach, rel=1e-3)


@pytest.mark.parametrize("bits", [4, 8])
def test_values_far_from_zero_are_covered(bits):
    far = 50 + BOTH
    low, high = ends(far, bits)
    assert low == far.min() and high >= far.mean() + 1.9 * far.std()
    assert ends(-far, bits) == (pytest.approx(-high, rel=1e-4), -low)
    assert ends(np.full(9, 3.0), bits) == (3, pytest.approx(3, rel=1e-3))


@pytest.mark.parametrize("bits", [6, 7, 8])
def test_with_many_bits_nothing_that_was_seen_is_cut_off(bits):
    assert ends(BOTH, bits, deviations=0.1) == (BOTH.min(), BOTH.max())


@pytest.mark.parametrize("bits", [2, 4, 5])
def test_with_few_bits_the_range_is_no_wider_than_what_was_seen(bits):
    assert ends(BOTH, bits, deviations=100) == (BOTH.min(), BOTH.max())
    low, high = ends(BOTH, bits, deviations=1)
    assert BOTH.min() < low < high < BOTH.max()


def test_an_end_that_many_values_share_is_where_the_range_ends():
    assert ends(np.minimum(RELU, 1.5)) == (0, 1.5)
    low, high = ends(np.clip(BOTH, -3, None))
    assert low == -3 and high > 2 * BOTH.max()


def test_the_range_of_what_was_seen_stays_what_it_is():
    observer = registry.get("observer:bn_range")
    observer.observe(RELU)
    assert observer.range() == (0, RELU.max())


def test_a_number_of_deviations_below_zero_is_refused():
    with pytest.raises(OptionError, match="deviations"):
        registry.get("observer:bn_range", deviations=-1)


@pytest.mark.parametrize(
    ("name", "options", "free"),
    [("bn_range", {}, True), ("mse", {}, False), ("passive", {}, False),
     ("passive", {"low": 0, "high": 6}, True)],
)  # fmt: skip
def test_an_observer_says_whether_it_needs_data(name, options, free):
    assert registry.get(f"observer:{name}", **options).is_data_free is free


# -- bias_correction_free


def test_biases_are_corrected_on_noise_as_well_as_on_the_data():
    data = images(256, 5) * 0.5  # noise is twice as large: only batch norms tell
    model = OnnxModel(fitted(small_net(), data)).folded()
    quantized = qsdk.quantize_model(model, "rtn", bits=4).model
    free = registry.get("bias_correction_free").apply(quantized, reference=model)
    seen = registry.get("bias_correction").apply(
        quantized, reference=model, calibration=[{"x": data}]
    )
    loud = registry.get("bias_correction").apply(
        quantized, reference=model, calibration=[qsdk.interfaces.noise(model)]
    )
    expected = model.run({"x": data})["y"]
    before, after, best, without = (
        qsdk.metrics.sqnr_db(expected, each.run({"x": data})["y"])
        for each in (quantized, free, seen, loud)
    )
    assert after > max(before, without) + 3
    assert after > best - 0.5


def test_without_norms_it_is_the_correction_on_plain_noise():
    model = OnnxModel(small_net(bare=True))
    quantized = qsdk.quantize_model(model, "rtn", bits=3).model
    free = registry.get("bias_correction_free", samples=64).apply(quantized, reference=model)
    feeds = qsdk.interfaces.noise(model, 64)
    plain = registry.get("bias_correction").apply(quantized, reference=model, calibration=[feeds])
    for ours, theirs in zip(free.layers, plain.layers, strict=True):
        assert np.array_equal(ours.bias, theirs.bias), ours.name
