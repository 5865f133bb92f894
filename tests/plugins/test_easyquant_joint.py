"""EasyQuant's joint search: what a layer's outputs say, and what trying every pair would find."""

from __future__ import annotations

import itertools

import attrs
import numpy as np
import onnx
import pytest
from onnx import helper, numpy_helper
from small_net import images, saved, small_net

import qsdk
from qsdk import registry
from qsdk.errors import DataError, OptionError, PreflightError
from qsdk.interfaces import Coding, FixedCodes
from qsdk_plugins.onnx.model import OnnxModel
from qsdk_plugins.passes.scale_search import Fed, Scales, Search

pytest.importorskip("onnxruntime")

BATCHES = [{"x": images(8, seed)} for seed in range(4)]
FACTORS = np.array([1.0, 0.9, 1.1, 0.8, 1.2])


def f32(values):
    return np.asarray(values, np.float32)


def fed(seed=0, shape=(6, 3, 3), groups=2, places=40, method="rtn", **words):
    """A layer of 4 bits at some places, the inputs positive as behind a ReLU."""
    rng = np.random.default_rng(seed)
    weight = f32(rng.standard_normal(shape))
    bias = rng.standard_normal(len(weight))
    columns = f32(np.maximum(rng.standard_normal((groups, weight[0].size, places)), 0))
    rows = weight.reshape(groups, -1, weight[0].size)
    target = (rows @ columns).reshape(len(weight), -1) + bias[:, None]
    words = {"bits": 4, "symmetric": True, **words}
    start = registry.get(f"quantizer:{method}", **words).quantize(weight)
    return Fed(weight=weight, start=start, bias=bias, columns=columns, target=target)


def search(*layers, factors=FACTORS, **words):
    scheme = qsdk.Scheme(bits=4, signed=False)
    codes = FixedCodes(scale=0.2, zero_point=0, scheme=scheme)
    given = {"layers": layers, "codes": codes, "factors": factors, "code_factors": factors}
    return Search(**{**given, **words})


def start_of(tried):
    return Scales(tuple(np.ones(layer.units) for layer in tried.layers))


GRAINS = [
    {"granularity": "per_tensor"},
    {"granularity": "per_channel"},
    {"granularity": "per_group", "group_size": 4},
    {"granularity": "per_channel", "symmetric": False},
]


# -- one tensor and what reads it


@pytest.mark.parametrize("words", GRAINS)
@pytest.mark.parametrize("seed", range(5))
def test_the_cosine_is_above_the_starts(words, seed):
    tried = search(fed(seed, **words), fed(seed + 100, **words))
    found = tried.best(3)
    assert tried.score(found) > tried.score(start_of(tried)) + 1e-4


@pytest.mark.parametrize("seed", range(8))
def test_one_round_is_at_best_what_trying_all_pairs_finds(seed):
    tried = search(fed(seed, granularity="per_tensor"))
    pairs = itertools.product(FACTORS, FACTORS)
    every = [tried.score(Scales((np.array([w]),), a)) for w, a in pairs]
    assert max(every) >= tried.score(tried.best(1)) > every[0]


@pytest.mark.parametrize(("weight_factor", "factor"), [(1.1, 0.9), (0.8, 1.2), (1.0, 1.1)])
def test_where_both_are_on_a_grid_both_are_found(weight_factor, factor):
    rng = np.random.default_rng(1)
    codes = rng.integers(-7, 8, (4, 9))
    codes[:, 0] = 7
    layer = fed(shape=(4, 9), groups=1, granularity="per_tensor")
    weight = f32(codes * 0.1 * weight_factor)
    columns = f32(rng.integers(0, 16, layer.columns.shape) * 0.2 * factor)
    nearest = np.clip(np.rint(weight / f32(0.1)), -7, 7).astype(np.int8)
    start = qsdk.Affine.from_codes(nearest, f32(0.1), np.int8(0), layer.start.scheme)
    target = (weight @ columns[0]) + layer.bias[:, None]
    layer = attrs.evolve(layer, weight=weight, columns=columns, start=start, target=target)
    tried = search(layer)
    found = tried.best(2)
    assert (found.weights[0].tolist(), found.codes) == ([weight_factor], factor)
    assert tried.score(found) == pytest.approx(1, abs=1e-9)


def test_two_channels_worked_by_hand():
    # Steps of 0.2 hold these inputs as they are, and a weight scale of 0.45 the first channel.
    weight, columns = f32([[0.45, 0.9], [0.5, 1]]), f32([[[1, 0, 1], [0, 1, 1]]])
    codes, scheme = np.int8([[1, 2], [1, 2]]), qsdk.Scheme(bits=4, symmetric=True)
    start = qsdk.Affine.from_codes(
        np.int8([[1, 1], [1, 2]]), f32([0.5, 0.5]), np.int8([0, 0]), scheme
    )
    bias = np.array([0.3, 0.3])
    target = (weight @ columns[0]).reshape(2, 3) + bias[:, None]
    tried = search(Fed(weight=weight, start=start, bias=bias, columns=columns, target=target))
    found = tried.best(1)
    assert found.weights[0].tolist() == [0.9, 1] and found.codes == 1
    made = tried.layers[0].encoding(found.weights[0])
    assert np.array_equal(made.codes, codes)
    assert made.scale.tolist() == pytest.approx([0.45, 0.5])


def test_a_cosine_does_not_see_a_gain_and_an_error_does():
    layer = fed(3)
    louder = attrs.evolve(layer, bias=layer.bias * 0, target=layer.target * 1.5)
    one, other = (
        attrs.evolve(louder, measure=word).scores(layer.start, layer.columns)
        for word in ("cosine", "error")
    )
    found = (layer.start.dequantize().reshape(2, 3, 9) @ layer.columns).reshape(6, -1)
    error = np.square(found - louder.target).sum(axis=1) / np.square(louder.target).sum(axis=1)
    assert other == pytest.approx(1 - error, abs=1e-5)
    norms = np.linalg.norm(found, axis=1) * np.linalg.norm(louder.target, axis=1)
    assert one == pytest.approx((found * louder.target).sum(axis=1) / norms, abs=1e-5)


def test_searched_for_the_error_a_network_has_a_smaller_one():
    words = {"passes": [{"name": JOINT, "measure": "error"}], "activation_bits": 4}
    (before,) = quantized(4, activation_bits=4).report.outputs
    (after,) = quantized(4, **words).report.outputs
    assert after.sqnr_db > before.sqnr_db


@pytest.mark.parametrize("gain", [1 / 8, 3.0, 1000.0])
def test_a_gain_of_the_targets_changes_nothing(gain):
    layer = fed(3)
    one = search(layer).best(2)
    other = search(attrs.evolve(layer, target=layer.target * gain)).best(2)
    assert one.codes == other.codes and np.array_equal(*one.weights, *other.weights)


def test_of_equal_cosines_the_start_stays():
    layer = fed()
    nothing = search(attrs.evolve(layer, columns=layer.columns * 0, bias=layer.bias * 0))
    found = nothing.best(5)
    assert found.codes == 1 and (found.weights[0] == 1).all()
    assert layer.encoding(found.weights[0]) is layer.start


def test_channels_that_stay_keep_codes_that_are_not_the_nearest():
    layer = fed(method="squant")
    nearest = fed()
    assert not np.array_equal(layer.start.codes, nearest.start.codes)
    moved = layer.encoding(np.array([1, 1.1, 1, 0.9, 1, 1]))
    stays = [0, 2, 4, 5]
    assert np.array_equal(moved.codes[stays], layer.start.codes[stays])
    assert np.array_equal(moved.scale[stays], layer.start.scale[stays])
    by_hand = np.rint(layer.weight[1] / f32(layer.start.scale[1] * 1.1)).clip(-8, 7)
    assert np.array_equal(moved.codes[1], by_hand)


def test_a_scale_that_float32_cannot_hold_is_not_tried():
    layer = fed()
    tiny = f32(np.full(6, np.finfo(np.float32).tiny))
    start = qsdk.Affine.from_codes(layer.start.codes, tiny, np.int8([0] * 6), layer.start.scheme)
    small = attrs.evolve(layer, start=start)
    assert np.array_equal(small.encoding(np.full(6, 0.5)).scale, tiny)


# -- the pass


def one_layer(bias=True):
    rng = np.random.default_rng(5)
    constants = {"w": f32(rng.standard_normal((5, 8))), "b": f32(rng.standard_normal(5))}
    names = ["x", "w", "b"] if bias else ["x", "w"]
    node = helper.make_node("Gemm", names, ["y"], name="fc", transB=1)
    floats = onnx.TensorProto.FLOAT
    graph = helper.make_graph(
        [node],
        "net",
        [helper.make_tensor_value_info("x", floats, ["n", 8])],
        [helper.make_tensor_value_info("y", floats, ["n", 5])],
        [numpy_helper.from_array(constants[name], name) for name in names[1:]],
    )
    opset = helper.make_opsetid("", 17)
    return OnnxModel(helper.make_model(graph, opset_imports=[opset], ir_version=8))


def in_floats(model, feeds):
    (stage,) = model.stages(["fc"])
    return stage.run(feeds)["y"].astype(np.float64)


def cosine(a, b):
    return (a * b).sum() / np.sqrt((a * a).sum() * (b * b).sum())


@pytest.mark.parametrize("bias", [True, False])
def test_the_model_computes_what_was_searched(bias):
    model, rng = one_layer(bias), np.random.default_rng(6)
    feeds = {"x": f32(np.maximum(rng.standard_normal((60, 8)), -0.5))}
    words = {"bits": 4, "symmetric": True, "granularity": "per_tensor"}
    recipe = qsdk.Recipe(method="rtn", activations="mse", options=words)
    coded = qsdk.quantize_model(model, recipe, calibration=[feeds]).model
    start, expected = Coding.of(coded), in_floats(model, feeds)

    def at(weight_factor, factor):
        weight, codes = start.encodings["fc"], start.codes["x"]
        scale = f32(weight.scale * weight_factor)
        nearest = np.rint(model.layers[0].weight / scale).clip(-8, 7).astype(np.int8)
        weight = qsdk.Affine.from_codes(nearest, scale, weight.zero_point, weight.scheme)
        codes = attrs.evolve(codes, scale=codes.scale * factor)
        found = attrs.evolve(start, encodings={"fc": weight}, codes={"x": codes})
        return cosine(expected, in_floats(found.applied(model), feeds))

    factors = [0.8, 0.9, 1.0]
    pass_ = registry.get("easyquant_joint", highest=1, lowest=0.8, candidates=3, rounds=1)
    tuned = pass_.apply(coded, reference=model, calibration=[feeds])
    found = cosine(expected, in_floats(tuned, feeds))
    weights = [at(factor, 1) for factor in factors]
    best = factors[int(np.argmax(weights))]
    assert found == pytest.approx(max(at(best, factor) for factor in factors), abs=1e-7)
    assert found > at(1, 1) + 1e-5


def quantized(bits=5, method="rtn", passes=(), activation_bits=8, model=None, **words):
    options = {"bits": bits, "symmetric": True, **words}
    fixed = {"bits": activation_bits, "signed": False}
    recipe = qsdk.Recipe(
        method=method, activations="mse", options=options, activation_options=fixed, passes=passes
    )
    data = [feeds["x"] for feeds in BATCHES]
    return qsdk.quantize_model(model or OnnxModel(small_net()), recipe, calibration=data)


@pytest.fixture(scope="module")
def pair():
    return quantized(4, activation_bits=4), quantized(4, activation_bits=4, passes=[JOINT])


JOINT = "easyquant_joint"


def test_a_network_comes_nearer_to_the_float_one(pair):
    (before,), (after,) = (result.report.outputs for result in pair)
    assert after.sqnr_db > before.sqnr_db + 0.5


def test_forms_and_zero_points_stay(pair):
    before, after = (Coding.of(result.model) for result in pair)
    assert before.encodings.keys() == after.encodings.keys()
    assert before.codes.keys() == after.codes.keys()
    for name, codes in after.codes.items():
        assert attrs.evolve(codes, scale=1) == attrs.evolve(before.codes[name], scale=1)
    for name, encoding in after.encodings.items():
        assert encoding.describe() == before.encodings[name].describe()


def test_tensors_of_one_site_keep_one_scale():
    wide = {"activations": "passive", "activation_options": {"low": -20, "high": 20}}
    recipe = qsdk.Recipe(method="rtn", passes=[JOINT], **wide)
    data = [feeds["x"] for feeds in BATCHES]
    codes = qsdk.quantize_model(OnnxModel(small_net()), recipe, calibration=data).model.codes
    same = {codes[name] for name in ("stem_relu6", "cut", "short")}  # a Slice and a Pad between
    assert len(same) == 1
    assert same.pop().scale < 0.9 * 40 / 255  # where the observer began


def test_ranges_do_not_outgrow_what_was_seen():
    given = quantized(8).model.codes
    tuned = quantized(8, passes=[{"name": JOINT, "highest": 2, "lowest": 1}]).model.codes
    stem = OnnxModel(small_net()).run(
        {"x": np.concatenate([b["x"] for b in BATCHES])}, ["stem_relu6"]
    )
    for codes in (given, tuned):
        assert codes["stem_relu6"].high < stem["stem_relu6"].max() * 1.02


def test_an_interval_of_one_gives_the_start():
    words = {"name": JOINT, "lowest": 1, "highest": 1, "candidates": 3}
    before, after = quantized(method="squant"), quantized(method="squant", passes=[words])
    one, other = Coding.of(before.model), Coding.of(after.model)
    assert one.codes == other.codes
    for name, encoding in one.encodings.items():
        assert np.array_equal(encoding.codes, other.encodings[name].codes)
        assert np.array_equal(encoding.scale, other.encodings[name].scale)
    feeds = BATCHES[0]
    assert np.array_equal(before.model.run(feeds)["y"], after.model.run(feeds)["y"])


def test_weights_without_fixed_codes_before_them_stay():
    model = OnnxModel(small_net()).folded()
    rules = [qsdk.Rule(match="fc", activations="float32")]
    recipe = qsdk.Recipe(method="rtn", options={"bits": 4}, activations="minmax", rules=rules)
    coded = qsdk.quantize_model(model, recipe, calibration=BATCHES).model
    tuned = registry.get(JOINT).apply(coded, reference=model, calibration=BATCHES)
    pairs = zip(coded.layers, tuned.layers, strict=True)
    same = {before.name: np.array_equal(before.weight, after.weight) for before, after in pairs}
    assert same["fc"] and not same["b"]


def test_a_model_without_fixed_codes_is_refused():
    model = OnnxModel(small_net())
    weights = qsdk.quantize_model(model, "rtn", bits=4).model
    with pytest.raises(OptionError, match="easyquant_joint needs codes"):
        registry.get(JOINT).apply(weights, reference=model, calibration=BATCHES)


def test_no_more_samples_are_read_than_asked_for():
    model = OnnxModel(small_net())
    coded = quantized(4, model=model.folded()).model
    read = []

    def stream():
        for feeds in BATCHES:
            read.append(1)
            yield feeds

    few = registry.get(JOINT, samples=12)
    found = few.apply(coded, reference=model.folded(), calibration=stream())
    given = [BATCHES[0], {"x": BATCHES[1]["x"][:4]}]
    by_hand = registry.get(JOINT).apply(coded, reference=model.folded(), calibration=given)
    assert len(read) == 2 and found.codes == by_hand.codes


def test_missing_and_unsound_data_is_refused():
    model = OnnxModel(small_net()).folded()
    coded = quantized(model=model).model
    with pytest.raises(DataError, match="easyquant_joint was given no calibration batch"):
        registry.get(JOINT).apply(coded, reference=model)
    wrong = {"x": images(2) * np.float32(np.nan)}
    with pytest.raises(DataError, match="the input of stem holds NaN"):
        registry.get(JOINT).apply(coded, reference=model, calibration=[wrong])


def test_a_recipe_without_fixed_codes_is_refused_before_any_work(tmp_path):
    recipe = qsdk.Recipe(method="rtn", passes=[JOINT])
    with pytest.raises(PreflightError, match="moves scales of activations, and none has fixed"):
        qsdk.quantize_model(saved(tmp_path), recipe, calibration=BATCHES)


def test_it_comes_before_passes_whose_work_would_be_lost(tmp_path):
    recipe = qsdk.Recipe(activations="minmax", passes=["bias_correction", JOINT])
    with pytest.raises(PreflightError, match="easyquant_joint before it"):
        qsdk.quantize_model(saved(tmp_path), recipe, calibration=BATCHES)


def test_the_report_tells_of_the_weights_as_they_are(pair):
    before, after = (result.report.layers for result in pair)
    assert {row.method for row in after} == {"rtn, easyquant_joint"}
    weights = {layer.name: layer.weight for layer in OnnxModel(small_net()).folded().layers}
    for layer, row in zip(pair[1].model.layers, after, strict=True):
        assert row.sqnr_db == qsdk.metrics.sqnr_db(weights[layer.name], layer.weight)
    assert [row.sqnr_db for row in before] != [row.sqnr_db for row in after]


def test_bias_correction_behind_it_corrects_the_tuned_model():
    both = quantized(4, passes=[JOINT, "bias_correction"]).model
    tuned = quantized(4, passes=[JOINT]).model
    for one, other in zip(both.layers, tuned.layers, strict=True):
        assert np.array_equal(one.weight, other.weight)
    assert not np.array_equal(both.run(BATCHES[0])["y"], tuned.run(BATCHES[0])["y"])


def test_stages_give_what_meets_the_weight():
    model = OnnxModel(small_net())
    (stage,) = model.stages(["b"])
    found = stage.run(BATCHES[0])["a_relu"]
    assert np.allclose(found, model.run(BATCHES[0], ["a_relu"])["a_relu"], atol=1e-6)
