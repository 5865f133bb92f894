"""Recipes by name: each is sound, says what it is for, and makes a network that works."""

from __future__ import annotations

import attrs
import numpy as np
import pytest
from small_net import fitted, images, saved, small_net

import qsdk
from qsdk import recipes
from qsdk.errors import PreflightError, UnknownNameError
from qsdk_plugins.onnx.model import OnnxModel

BATCHES = [images(8, seed) for seed in range(4)]


@pytest.mark.parametrize("name", recipes.names())
def test_each_recipe_makes_a_network_near_the_float_one(name, tmp_path):
    result = qsdk.quantize_model(saved(tmp_path), name, calibration=BATCHES)
    (check,) = result.report.outputs
    assert len(result.report.layers) == 5
    assert check.sqnr_db > (3 if name in ("w4a4", "megengine-ema-lowbit") else 10)


def test_data_free_makes_a_network_near_the_float_one_without_any_data():
    given = np.clip(images(64, 9), -2.5, 2.5)
    model = OnnxModel(fitted(small_net(), given))
    result = qsdk.quantize_model(model, "data-free")
    expected, found = (m.run({"x": given})["y"] for m in (model, result.model))
    assert qsdk.metrics.sqnr_db(expected, found) > 17  # sums saturate on a CPU without VNNI
    codes = result.calibration.codes
    assert codes["x"].high == pytest.approx(3, abs=0.02)  # where noise ends
    assert codes["stem_relu6"].high == pytest.approx(6)
    assert "noise held to 4 batch norms" in result.report.notes[-1]
    assert not result.report.outputs  # noise does not tell how good it is


def test_data_free_says_when_no_batch_norm_helped(tmp_path):
    result = qsdk.quantize_model(saved(tmp_path, bare=True), "data-free", bits=6)
    assert "from noise alone" in result.report.notes[-1]
    assert {layer.stored_after for layer in result.report.layers} == {"int6 per_channel symmetric"}


def test_data_free_takes_the_range_of_the_input_that_is_given():
    given = np.clip(images(256, 9) * 40 + 128, 0, 255)
    model = OnnxModel(fitted(small_net(), given))
    first = qsdk.Rule(
        position="first", activations="passive", activation_options={"low": 0, "high": 255}
    )
    recipe = attrs.evolve(recipes.find("data-free"), rules=[first])
    result = qsdk.quantize_model(model, recipe)
    expected, found = (m.run({"x": given})["y"] for m in (model, result.model))
    assert result.calibration.codes["x"].high == pytest.approx(255)
    assert qsdk.metrics.sqnr_db(expected, found) > 17
    assert len(result.report.notes) < len(qsdk.quantize_model(model, "data-free").report.notes)


def test_data_free_takes_data_for_its_ranges_too(tmp_path):
    source = saved(tmp_path)
    wide = qsdk.quantize_model(source, "data-free", calibration=[b * 50 for b in BATCHES])
    free = qsdk.quantize_model(source, "data-free")
    assert wide.calibration.rows == 32 and wide.report.outputs
    assert wide.calibration.codes["x"].scale > 10 * free.calibration.codes["x"].scale


@pytest.mark.parametrize(
    ("preset", "method", "observer", "codes"),
    [
        ("min-max", "rtn", "minmax", (-127, 127)),
        ("ema", "rtn", "ema", (-127, 127)),
        ("sync-ema", "rtn", "sync_ema", (-127, 127)),
        ("ema-lowbit", "rtn", "ema", (-8, 7)),
        ("calibration", "rtn", "mse", (-127, 127)),
        ("easyquant", "rtn", "mse", (-127, 127)),
    ],
)
def test_megengines_presets_are_symmetric_and_per_tensor(preset, method, observer, codes, tmp_path):
    result = qsdk.quantize_model(saved(tmp_path), f"megengine-{preset}", calibration=BATCHES)
    recipe = result.report.recipe
    scheme = qsdk.registry.get(f"quantizer:{method}", **recipe["options"]).scheme
    assert (scheme.qmin, scheme.qmax) == codes and scheme.symmetric
    is_tuned = preset == "easyquant"
    rows = {row.method for row in result.report.layers}
    assert rows == {f"{method}, easyquant_joint" if is_tuned else method}
    assert {watch.observer for watch in result.calibration.watches.values()} == {observer}
    for fixed in result.calibration.codes.values():
        assert fixed.zero_point == 0 and fixed.scheme.signed
        assert fixed.scheme.qmin == (-8 if preset == "ema-lowbit" else -128)


@pytest.mark.parametrize("name", recipes.names())
def test_each_recipe_says_what_it_is_for(name):
    assert recipes.summary(name).endswith(".")
    assert recipes.find(name).to_dict()["method"]


def test_int8_is_what_data_alone_asks_for(tmp_path):
    result = qsdk.quantize_model(saved(tmp_path), calibration=BATCHES)
    assert result.report.recipe == recipes.find("int8").to_dict()


def test_an_unknown_recipe_has_near_names():
    with pytest.raises(UnknownNameError, match="did you mean 'int8'"):
        recipes.find("in8")


def test_a_recipe_that_needs_data_says_so_before_any_work(tmp_path):
    with pytest.raises(PreflightError, match=r"need data to calibrate on.*data-free does without"):
        qsdk.quantize_model(saved(tmp_path), "int8")


def test_data_without_anything_to_calibrate_is_refused(tmp_path):
    with pytest.raises(PreflightError, match="nothing to calibrate"):
        qsdk.quantize_model(saved(tmp_path), "rtn", calibration=BATCHES)


@pytest.mark.parametrize(
    ("activations", "options", "said"),
    [
        ("minmaxx", {}, "no observer and no quantizer named 'minmaxx'; did you mean 'minmax'"),
        ("kl", {"strategi": "max"}, "no option 'strategi'"),
        ("minmax", {"granularity": "per_channel"}, "one scale per tensor"),
        ("minmax", {"bits": 9}, "bits is 9"),
    ],
)
def test_activations_that_cannot_be_are_refused_before_any_work(
    activations, options, said, tmp_path
):
    recipe = qsdk.Recipe(method="rtn", activations=activations, activation_options=options)
    with pytest.raises(PreflightError, match=said):
        qsdk.quantize_model(saved(tmp_path), recipe, calibration=BATCHES)


def test_rules_give_layers_other_activations(tmp_path):
    recipe = qsdk.Recipe(
        method="rtn",
        options={"bits": 8},
        activations="minmax",
        activation_options={"bits": 4},
        rules=[
            qsdk.Rule(match="stem", activation_options={"bits": 8}),
            qsdk.Rule(match="fc", activations="kl"),
        ],
    )
    result = qsdk.quantize_model(saved(tmp_path), recipe, calibration=BATCHES)
    codes, watches = result.calibration.codes, result.calibration.watches
    assert codes["x"].scheme.bits == 8 and codes["stem_relu6"].scheme.bits == 4
    assert watches["flat"].observer == "kl" and watches["x"].observer == "minmax"


def test_arrays_without_a_graph_cannot_be_calibrated():
    arrays = {"w": images(4).reshape(4, -1)}
    with pytest.raises(PreflightError, match="no graph"):
        qsdk.quantize_model(arrays, "int8", calibration=BATCHES)


def test_a_network_far_off_comes_with_a_warning(tmp_path):
    recipe = qsdk.Recipe(method="rtn", options={"bits": 2, "symmetric": True}, activations="minmax")
    result = qsdk.quantize_model(saved(tmp_path), recipe, calibration=BATCHES)
    assert any(note.startswith("warning: output y") for note in result.report.notes)
    assert "output y on 32 calibration rows" in str(result.report)
