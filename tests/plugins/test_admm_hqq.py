"""admm and hqq: what their iterations promise."""

from __future__ import annotations

import numpy as np
import pytest

import qsdk
from qsdk import registry
from qsdk.errors import EncodingError, OptionError, SchemeError
from qsdk.metrics import mse
from qsdk_plugins.admm import Search
from qsdk_plugins.hqq.affine_real_zero import AffineRealZero

GAUSS = np.random.default_rng(0).standard_normal((200, 500)).astype(np.float32)
SYMMETRIC = {"symmetric": True, "narrow_range": True}


def errors(name, weight=GAUSS, **options):
    decoded = registry.get(name, **options).quantize(weight).dequantize()
    return np.square(decoded.astype(float) - weight).sum(axis=1)


# -- admm


def test_the_projection_has_the_published_share_of_the_error_of_max_abs():
    share = errors("admm", form="projection", rounds=1000) / errors("rtn", bits=4, **SYMMETRIC)
    assert share.mean() == pytest.approx(0.70, abs=0.01)
    assert share.min() > 0.5 and share.max() < 0.9


def test_the_dual_form_is_at_the_best_scale_of_a_fine_search():
    weight = GAUSS[:40]
    size = np.abs(weight).max(axis=1, keepdims=True).astype(float) / 7
    tried = []
    for factor in np.linspace(0.3, 1.2, 400):
        scale = factor * size
        codes = np.clip(np.rint(weight / scale), -7, 7)
        tried.append(np.square(weight - scale * codes).sum(axis=1))
    share = errors("admm", weight) / np.min(tried, axis=0)
    assert share.mean() < 1.005 and share.max() < 1.05


@pytest.mark.parametrize("bits", [2, 4, 8])
@pytest.mark.parametrize("form", ["dual", "projection"])
def test_no_row_is_worse_than_on_the_grid_of_its_largest_magnitude(form, bits):
    ours = errors("admm", bits=bits, form=form)
    assert (ours <= errors("rtn", bits=bits, **SYMMETRIC) * (1 + 1e-5)).all()


def test_each_projection_lowers_the_error():
    scheme = qsdk.Scheme(bits=4, **SYMMETRIC)
    weight = GAUSS[:20].astype(float)
    alpha, last = np.abs(weight).max(axis=1) / 7, np.full(20, np.inf)
    for _ in range(20):
        search = Search(weight, scheme)
        alpha = search.project(weight, alpha, 1)
        off = weight - alpha[:, None] * search.nearest(weight, alpha)
        error = np.square(off).sum(axis=1)
        assert (error <= last * (1 + 1e-12)).all()
        last = error


def test_weights_on_a_grid_come_back_as_they_are():
    codes = np.random.default_rng(1).integers(-7, 8, (5, 40))
    codes[:, 0] = 7
    weight = (codes * np.float32(0.125)).astype(np.float32)
    assert np.array_equal(registry.get("admm").quantize(weight).dequantize(), weight)


def test_a_scheme_with_a_zero_point_is_refused():
    with pytest.raises(SchemeError, match="give symmetric=True"):
        registry.get("admm", symmetric=False, narrow_range=False)


# -- hqq

HEAVY = np.random.default_rng(2).standard_t(4, (500, 64)).astype(np.float32)


def off(bits, **options):
    decoded = registry.get("hqq", bits=bits, **options).quantize(HEAVY).dequantize()
    return np.abs(decoded.astype(float) - HEAVY).mean(axis=1)


@pytest.mark.parametrize(("bits", "before", "after"), [(2, 0.649, 0.618), (3, 0.287, 0.273),
                                                       (4, 0.132, 0.126)])  # fmt: skip
def test_heavy_tailed_groups_have_the_published_errors(bits, before, after):
    assert off(bits, rounds=0).mean() == pytest.approx(before, rel=0.04)
    assert off(bits).mean() == pytest.approx(after, rel=0.02)


@pytest.mark.parametrize("bits", [2, 3, 4, 8])
def test_no_group_is_further_off_than_at_the_start(bits):
    assert (off(bits) <= off(bits, rounds=0) * (1 + 1e-5)).all()


def test_the_size_of_the_weights_decides_nothing():
    quantizer = registry.get("hqq", bits=3)
    one, other = quantizer.quantize(HEAVY), quantizer.quantize(HEAVY * np.float32(2**-10))
    assert np.array_equal(one.codes, other.codes) and np.array_equal(one.zero, other.zero)


def test_a_symmetric_scheme_is_refused():
    with pytest.raises(SchemeError, match="hqq looks for the zero"):
        registry.get("hqq", symmetric=True, signed=True)
    with pytest.raises(OptionError, match="'norm' must be < 1"):
        registry.get("hqq", norm=1)


def test_a_real_zero_decodes_by_its_equation():
    codes, scheme = np.uint8([[0, 3, 2]]), qsdk.Scheme(bits=2, signed=False)
    encoding = AffineRealZero.of(codes, np.float32([0.5]), np.float32([1.25]), scheme)
    assert encoding.dequantize().tolist() == [[-0.625, 0.875, 0.375]]
    assert encoding.describe() == "uint2 per_channel real zero"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"zero_point": np.float32([np.nan])}, "not finite"),
        ({"zero_point": np.float32([1, 2])}, r"\(2,\)"),
        ({"zero_point": np.float64([1])}, "not float64"),
        ({"scale": np.float32([-1])}, "a scale is -1"),
    ],
)
def test_arrays_that_no_quantizer_made_are_refused(change, message):
    codes, scheme = np.uint8([[0, 3, 2]]), qsdk.Scheme(bits=2, signed=False)
    encoding = AffineRealZero.of(codes, np.float32([0.5]), np.float32([1.25]), scheme)
    arrays, values = encoding.arrays()
    with pytest.raises(EncodingError, match=message):
        AffineRealZero.from_arrays({**arrays, **change}, values)


def test_files_with_real_zeros_run_and_come_back(tmp_path):
    pytest.importorskip("onnxruntime")
    source = registry.find("adapter:onnx").target.example(tmp_path)
    qsdk.quantize_file(source, tmp_path / "out.onnx", "hqq", bits=3, group_size=5)
    before, after = qsdk.load(source), qsdk.load(tmp_path / "out.onnx")
    assert {layer.stored for layer in after.layers} == {"uint3 per_group of 5 real zero"}
    expected = registry.get("hqq", bits=3, group_size=5).quantize(before.layers[0].weight)
    assert np.array_equal(after.layers[0].weight, expected.dequantize())
    feeds = {name: np.ones_like(zeros) for name, zeros in before.blank().items()}
    assert mse(before.run(feeds)["y"], after.run(feeds)["y"]) < 1
