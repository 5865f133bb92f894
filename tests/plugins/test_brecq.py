"""brecq: no block gets worse, codes are those beside the weight, and a block learns together."""

from __future__ import annotations

import itertools

import attrs
import numpy as np
import pytest
from small_net import small_net

import qsdk
from qsdk import registry
from qsdk.errors import DataError, PreflightError, RecipeError
from qsdk.interfaces import Coding
from qsdk_plugins.onnx.model import OnnxModel

pytest.importorskip("onnxruntime")
STEPS = 60


def model():
    return OnnxModel(small_net(bare=True))


def images(count=24, seed=0):
    net = model()
    (name,) = net.inputs
    shape = net.blank(count)[name].shape
    return [{name: np.random.default_rng(seed).standard_normal(shape).astype(np.float32)}]


def quantized(bits=3, **options):
    recipe = qsdk.Recipe(method="rtn", options={"bits": bits, **options})
    return qsdk.quantize_model(model(), recipe).model


def tuned(before, feeds=None, **options):
    pass_ = registry.get("pass:brecq", **{"steps": STEPS, **options})
    return pass_.apply(before, reference=model(), calibration=images() if feeds is None else feeds)


def output_error(found, feeds):
    return float(np.square(model().run(feeds)["y"].astype(float) - found.run(feeds)["y"]).mean())


@pytest.fixture(scope="module")
def pair():
    before = quantized()
    return before, tuned(before)


def test_outputs_are_nearer_on_what_it_saw_and_on_what_it_did_not(pair):
    before, after = pair
    for seed in (0, 1):
        (feeds,) = images(seed=seed)
        assert output_error(after, feeds) < 0.5 * output_error(before, feeds)


def test_no_block_is_worse_than_before_on_its_own_inputs(pair):
    before, after = ({la.name: la.weight for la in made.layers} for made in pair)
    ((_, value),) = images()[0].items()
    found = expected = value
    for block in model().blocks():
        target = block.run(expected, {})
        errors = [
            float(np.square(block.run(found, {n: w[n] for n in block.layers}) - target).sum())
            for w in (before, after)
        ]
        assert errors[1] <= errors[0]
        expected, found = target, block.run(found, {n: after[n] for n in block.layers})


def test_every_code_is_one_of_the_two_beside_the_weight_and_scales_stay(pair):
    floats = {layer.name: layer.weight for layer in model().layers}
    moved = 0
    for before, after in zip(*(Coding.of(made).encodings.items() for made in pair), strict=True):
        (name, old), (_, new) = before, after
        assert np.array_equal(old.scale, new.scale)
        assert np.array_equal(old.zero_point, new.zero_point)
        slices = qsdk.Slices(new.scheme, new.shape)
        x = floats[name] / slices.expand(new.scale) + slices.expand(new.zero_point)
        inside = np.clip(x, new.scheme.qmin, new.scheme.qmax)
        assert (np.abs(new.codes - inside) < 1 + 1e-4).all()
        moved += int((new.codes != old.codes).sum())
    assert moved > 20


def test_of_one_small_layer_it_finds_nearly_the_best_there_is():
    """Against all choices of up and down, which for 8 weights can be tried."""
    rng = np.random.default_rng(2)
    weight = rng.standard_normal((1, 8)).astype(np.float32)
    x = np.maximum(rng.standard_normal((64, 8)) @ rng.standard_normal((8, 8)), 0)
    net = one_layer(weight)
    feeds = [{"x": x.astype(np.float32)}]
    before = qsdk.quantize_model(net, qsdk.Recipe(method="rtn", options={"bits": 2})).model
    after = registry.get("pass:brecq", steps=400).apply(before, reference=net, calibration=feeds)
    scale, zero = (float(a[0]) for a in (before.layers[0].encoding.scale,
                                         before.layers[0].encoding.zero_point))  # fmt: skip
    grid = before.layers[0].encoding.scheme
    low = np.clip(np.floor(weight / scale + zero), grid.qmin, grid.qmax)
    errors = [
        np.square(x @ (scale * (np.clip(low + up, grid.qmin, grid.qmax) - zero) - weight).T).sum()
        for up in itertools.product((0, 1), repeat=8)
    ]
    nearest, learned = (
        np.square(x @ (made.layers[0].weight - weight).T).sum() for made in (before, after)
    )
    assert min(errors) <= learned * (1 + 1e-5)
    assert learned < nearest
    assert learned <= 1.5 * min(errors)


def one_layer(weight):
    import onnx
    from onnx import helper, numpy_helper

    graph = helper.make_graph(
        [helper.make_node("Gemm", ["x", "w"], ["y"], name="fc", transB=1)],
        "g",
        [helper.make_tensor_value_info("x", 1, ["n", weight.shape[1]])],
        [helper.make_tensor_value_info("y", 1, ["n", weight.shape[0]])],
        [numpy_helper.from_array(weight, "w")],
    )
    opset = [helper.make_opsetid("", 17)]
    return OnnxModel(onnx.helper.make_model(graph, opset_imports=opset, ir_version=8))


def test_layers_of_a_block_make_up_for_each_other():
    """Its whole point: adaround gives each layer its own best, and the outputs are worse."""
    before = quantized()
    recipe = qsdk.Recipe(method="adaround", options={"bits": 3})
    each = qsdk.quantize_model(model(), recipe, calibration=images()).model
    together = tuned(before, steps=300)
    (feeds,) = images()
    errors = [output_error(made, feeds) for made in (together, each, before)]
    assert 2 * errors[0] < errors[1] < errors[2]


def test_with_little_memory_it_learns_from_fewer_samples():
    few, again, more = (
        contents(tuned(quantized(), images(2048), samples=2048, memory=memory, batch=8))
        for memory in (1, 1, 100)
    )
    assert few == again
    assert few != more


def test_one_sample_is_held_even_where_it_is_larger_than_the_memory():
    net = one_layer(normal(1, 300_000))
    before = qsdk.quantize_model(net, qsdk.Recipe(method="rtn", options={"bits": 2})).model
    feeds = [{"x": normal(3, 300_000)}]
    pass_ = registry.get("pass:brecq", steps=2, memory=1)
    after = pass_.apply(before, reference=net, calibration=feeds)
    assert after.layers[0].shape == (1, 300_000)


def normal(*shape):
    return np.random.default_rng(0).standard_normal(shape).astype(np.float32)


def contents(made):
    return [layer.weight.tobytes() for layer in made.layers]


def test_inputs_are_coded_as_the_quantized_model_codes_them():
    recipe = qsdk.Recipe(
        method="rtn", activations="minmax", options={"bits": 4}, activation_options={"bits": 3}
    )
    made = qsdk.quantize_model(model(), recipe, calibration=images()).model
    coding = Coding.of(made)
    assert {"x", "stem_relu6"} <= set(coding.codes)
    tune = registry.get("pass:brecq", steps=STEPS).tune
    coded = tune(model(), coding, images())
    floats = tune(model(), attrs.evolve(coding, codes={}), images())
    assert coded.codes == coding.codes
    differing = [
        n for n, e in coded.encodings.items() if (e.codes != floats.encodings[n].codes).any()
    ]
    assert "stem" in differing


def test_in_a_recipe_it_comes_before_what_corrects_and_the_report_names_it():
    recipe = qsdk.Recipe(
        method="rtn",
        options={"bits": 3},
        passes=[{"name": "brecq", "steps": 5}, "bias_correction"],
    )
    result = qsdk.quantize_model(model(), recipe, calibration=images())
    assert {row.method for row in result.report.layers} == {"rtn, brecq"}
    weights = {layer.name: layer.weight for layer in model().layers}
    found = {layer.name: layer.weight for layer in result.model.layers}
    for row in result.report.layers:
        error = float(np.abs(weights[row.name] - found[row.name]).max())
        assert row.max_error == pytest.approx(error, rel=1e-5)
    with pytest.raises(PreflightError, match="name brecq before it"):
        turned = attrs.evolve(recipe, passes=["bias_correction", "brecq"])
        qsdk.quantize_model(model(), turned, calibration=images())


def test_no_data_is_refused():
    with pytest.raises(DataError, match="no calibration data"):
        tuned(quantized(), [])


def test_a_block_whose_slopes_are_not_known_is_refused(monkeypatch):
    from qsdk_plugins.onnx import blocks

    known = {name: rule for name, rule in blocks.RULES.items() if name != "Add"}
    monkeypatch.setattr(blocks, "RULES", known)
    with pytest.raises(RecipeError, match="brecq cannot learn a, b: no slope is known of Add"):
        tuned(quantized())
