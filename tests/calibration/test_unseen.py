"""Without data: noise that the network's own batch norms hold in shape."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from small_net import fitted, images, saved, small_net

import qsdk
from qsdk.calibration import held_to_norms, notes_on_noise
from qsdk.errors import DataError
from qsdk.interfaces import Expected, as_expected, noise
from qsdk_plugins.onnx.model import OnnxModel

NORMS = {"stem", "a", "b", "c"}


def norm_of(model, name):
    """beta, and the deviation that a batch norm gives to what has its variance."""
    held = {t.name: onnx.numpy_helper.to_array(t) for t in model.proto.graph.initializer}
    gamma, variance = held[f"{name}.gamma"], held[f"{name}.var"]
    return held[f"{name}.beta"], np.abs(gamma) * np.sqrt(variance / (variance + 1e-3))


def test_noise_is_normal_cut_at_three_and_the_same_each_time(model):
    (x,) = noise(model).values()
    assert x.shape == (256, 4, 8, 8) and x.dtype == np.float32
    assert abs(x.mean()) < 0.01 and abs(x.std() - 1) < 0.02
    assert x.min() == -3 and x.max() == 3
    assert np.array_equal(x, noise(model)["x"])
    assert noise(model, rows=2)["x"].shape == (2, 4, 8, 8)


def test_noise_lies_in_the_range_that_is_given(model):
    (x,) = noise(model, ranges={"x": (0, 255)}).values()
    assert (x.min(), x.max()) == (0, 255)
    assert abs(x.mean() - 127.5) < 1 and abs(x.std() - 42.5) < 1


def test_noise_needs_to_know_the_lengths():
    proto = small_net()
    proto.graph.input[0].type.tensor_type.shape.dim[3].dim_param = "width"
    with pytest.raises(DataError, match=r"'x' is float32 \(any, 4, 8, any\).*give calibration"):
        noise(OnnxModel(proto))


def test_moments_become_those_expected_channel_by_channel():
    rng = np.random.default_rng(0)
    y = rng.normal(5, [[1], [3], [0]], (2, 3, 50)).astype(np.float32)
    wanted = Expected(mean=np.array([0.0, -2, 7]), deviation=np.array([2.0, 0, 1]))
    scale, shift = as_expected(wanted, [y[:1], y[1:]], axis=1)
    held = y * scale[:, None] + shift[:, None]
    assert np.allclose(held.mean(axis=(0, 2)), [0, -2, 7], atol=1e-5)
    assert np.allclose(held.std(axis=(0, 2)), [2, 0, 0], atol=1e-5)  # the third does not vary
    assert scale[2] == 1


def test_a_folded_model_knows_what_its_batch_norms_told(tmp_path):
    model = qsdk.load(saved(tmp_path))
    folded = model.folded()
    assert set(folded.expected) == NORMS and not model.expected
    for name, told in folded.expected.items():
        beta, deviation = norm_of(model, name)
        assert np.allclose(told.mean, beta) and np.allclose(told.deviation, deviation)


def test_layers_that_change_are_no_longer_known_and_equalized_ones_are(model):
    stem = model.layers[0]
    changed = model.changed(qsdk.interfaces.Changes(biases={"stem": np.zeros(4)}))
    assert set(changed.expected) == NORMS - {"stem"}
    equalized = qsdk.registry.get("equalize").apply(model)
    ratio = np.abs(equalized.layers[1].weight / model.layers[1].weight).max(axis=(1, 2, 3))
    assert stem.name == "stem" and not np.allclose(ratio, 1)
    factor = model.expected["a"].deviation / equalized.expected["a"].deviation
    assert set(equalized.expected) == NORMS
    assert np.allclose(1 / ratio, factor, rtol=1e-5)
    assert np.allclose(equalized.expected["a"].mean * factor, model.expected["a"].mean)


def test_held_layers_make_of_noise_what_batch_norms_told(model):
    feeds = noise(model)
    held = held_to_norms(model, feeds)
    (far,) = model.run(feeds, ["b"]).values()
    for name, told in model.expected.items():
        (y,) = held.run(feeds, [name]).values()
        assert np.allclose(y.mean(axis=(0, 2, 3)), told.mean, atol=1e-3), name
        assert np.allclose(y.std(axis=(0, 2, 3)), told.deviation, rtol=1e-3), name
    assert not np.allclose(far.std(axis=(0, 2, 3)), model.expected["b"].deviation, rtol=0.05)


def test_a_network_without_norms_stays_as_it_is(tmp_path):
    model = qsdk.load(saved(tmp_path, bare=True))
    assert held_to_norms(model, noise(model)) is model


@pytest.mark.parametrize("size", [1, 60])
def test_inputs_that_are_not_standardized_come_with_a_warning(size):
    model = OnnxModel(fitted(small_net(), images(256) * size)).folded()
    notes = notes_on_noise(model, noise(model))
    assert "held to 4 batch norms" in notes[0]
    assert len(notes) == (1 if size == 1 else 2)
    if size == 60:
        assert 55 < float(notes[1].split("inputs ")[1].split()[0]) < 65
        assert "passive" in notes[1]
