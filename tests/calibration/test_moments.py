"""Second moments of layers' inputs: what a product with the weight says they must be."""

from __future__ import annotations

from typing import Any, ClassVar

import attrs
import numpy as np
import pytest
from small_net import images, saved

import qsdk
from qsdk.calibration import Moments, moments
from qsdk.errors import PreflightError
from qsdk.interfaces import Layer, input_columns


def layer_of(shape: tuple[int, ...], operation: str, **attributes: Any) -> Layer:
    return Layer(
        name="layer",
        operation=operation,
        weight_name="w",
        shape=shape,
        stored="float32",
        nbytes=0,
        attributes=attributes,
        read=lambda: np.zeros(shape, np.float32),
        input_name="x",
    )


@pytest.mark.parametrize(
    ("shape", "words"),
    [
        ((6, 4, 3, 3), {"pads": [1, 0, 2, 1], "strides": [2, 1]}),
        ((6, 2, 3, 2), {"group": 2, "dilations": [1, 2]}),
        ((4, 1, 3, 3), {"group": 4, "pads": [1, 1, 1, 1]}),
        ((5, 4, 3), {"strides": [3]}),
    ],
)
def test_columns_times_rows_are_the_convolution(shape, words):
    axes = len(shape) - 2
    weight = np.random.default_rng(0).normal(size=shape).astype(np.float32)
    x = np.random.default_rng(1).normal(size=(2, 4, *[9] * axes)).astype(np.float32)
    groups = words.get("group", 1)
    columns = input_columns(x, layer_of(shape, "Conv", **words))
    rows = weight.reshape(groups, shape[0] // groups, -1)
    scheme = qsdk.Scheme(bits=8, granularity="per_tensor")
    whole = np.rint(weight * 20)  # codes, so that the layer is exact
    encoding = qsdk.Affine.from_codes(
        whole.astype(np.int8), np.float32(0.05), np.zeros((), np.int8), scheme
    )
    rows = encoding.dequantize().reshape(rows.shape)
    y = qsdk.conv(
        encoding,
        stride=words.get("strides", [1] * axes),
        padding=words.get("pads", [0] * 2 * axes),
        dilation=words.get("dilations", [1] * axes),
        groups=groups,
    )(x)
    ours = (rows @ columns).reshape(shape[0], 2, *y.shape[2:]).swapaxes(0, 1)
    assert np.allclose(ours, y, atol=1e-3)


def test_moments_are_those_of_the_inputs(tmp_path):
    model = qsdk.load(saved(tmp_path, bare=True))
    data = [images(40), images(7, 1)]
    found = Moments(model, model.layers, data)
    x = model.run({"x": np.concatenate(data)}, ["flat"])["flat"].astype(np.float64)
    fc = found.of("fc")
    assert np.allclose(fc.hessian[0], x.T @ x / len(x), rtol=1e-5)
    assert np.allclose(fc.mean[0], x.mean(axis=0), rtol=1e-5)
    assert fc.count == 47
    assert found.of("stem").hessian.shape == (1, 36, 36)


def test_what_does_not_fit_takes_another_pass(tmp_path, monkeypatch):
    model = qsdk.load(saved(tmp_path, bare=True))
    whole = Moments(model, model.layers, [images(9)])
    monkeypatch.setattr(moments, "MOMENT_BYTES", 1)
    alone = Moments(model, model.layers, [images(9)])
    for layer in model.layers:
        expected = whole.of(layer.name)
        assert np.allclose(alone.of(layer.name).hessian, expected.hessian, rtol=1e-5)


@attrs.frozen(kw_only=True)
class Looking(qsdk.AffineQuantizer):
    """Rounds, and keeps what it was told of the inputs."""

    name: ClassVar[str] = "looking"
    capabilities: ClassVar[qsdk.Capabilities] = qsdk.Capabilities(
        bits=range(2, 9), needs={"hessian"}
    )
    told: ClassVar[dict[str, tuple[int, ...]]] = {}

    def quantize(self, weight, *, layer=None):
        self.told[layer.name] = layer.hessian().shape
        return qsdk.AffineQuantizer.quantize(self, weight, layer=layer)

    def round(self, rows, scale, zero_point, kernel_size):
        return qsdk.quantize_rows(rows, scale, zero_point, self.scheme)


@pytest.fixture
def looking(monkeypatch):
    """A registered quantizer that needs the inputs."""
    from qsdk.plugins import Entry
    from qsdk.registry import registry

    find = registry.find
    entry = Entry("quantizer", "looking", "test", "1", "test", Looking)
    monkeypatch.setattr(
        registry, "find", lambda name: entry if name.endswith("looking") else find(name)
    )
    Looking.told.clear()
    return Looking.told


def test_quantizers_that_need_the_inputs_are_told(looking, tmp_path):
    data = [images(4), images(4, 1)]
    qsdk.quantize_model(saved(tmp_path), "looking", calibration=data, bits=8)
    assert looking == {
        **dict.fromkeys(["stem", "a", "b", "c"], (1, 36, 36)),
        "fc": (1, 8, 8),
    }


def test_inputs_without_data_or_of_one_pass_are_refused(looking, tmp_path):
    with pytest.raises(PreflightError, match="looks at the inputs of layers: give calibration"):
        qsdk.quantize_model(saved(tmp_path), "looking", bits=8)
    with pytest.raises(PreflightError, match="give a list"):
        once = iter([images(4)])
        qsdk.quantize_model(saved(tmp_path), "looking", calibration=once, bits=8)


def test_gptq_is_closer_than_rounding_on_the_data_that_it_saw(tmp_path):
    path, data = saved(tmp_path), [images(32), images(32, 1)]
    before = qsdk.load(path)
    sqnr = {}
    for method in ("rtn", "gptq"):
        given = {"calibration": data} if method == "gptq" else {}
        after = qsdk.quantize_model(path, method, bits=3, **given).model
        pairs = [(before.run({"x": x})["y"], after.run({"x": x})["y"]) for x in data]
        sqnr[method] = qsdk.metrics.sqnr_db(*map(np.concatenate, zip(*pairs, strict=True)))
    assert sqnr["gptq"] > sqnr["rtn"] + 2, sqnr
