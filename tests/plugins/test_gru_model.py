"""AQN on a GRU that was trained: what its page says, and what its layers compute.

The figures are those of docs/algorithms/aqn-gru.md; the network and the text that it was not shown
are those of tests/data/gru.
"""

from __future__ import annotations

import functools
import itertools
import re
from pathlib import Path

import gru_oracle as oracle
import numpy as np
import onnx
import pytest
from onnx.reference import ReferenceEvaluator

import qsdk
from qsdk.bench.threads import limited_to

PAGE = Path(__file__).parents[2] / "docs" / "algorithms" / "aqn-gru.md"
METHODS = ("greedy", "refined", "aqn")
BITS = (2, 3, 4)
NET, IDS = oracle.stored()
TOLERANCE = 2e-5  # of a state after a hundred steps and more: sums of float32 in another order
EVERY = pytest.mark.parametrize(("method", "bits"), [*itertools.product(METHODS, BITS)])


@pytest.fixture(autouse=True, scope="module")
def one_thread():
    """Products of 64 rows: threads that wait for each other make them slower, not faster."""
    with limited_to(1):
        yield


@functools.cache
def documented():
    """(method, bits) -> relative MSE, loss with coded weights, loss with coded states as well."""
    figures = {}
    for line in PAGE.read_text(encoding="utf-8").splitlines():
        name, *cells = (cell.strip(" `") for cell in line.strip("|").split("|"))
        if name in METHODS:
            columns = [[float(word) for word in cell.split(" / ")] for cell in cells]
            rows = zip(BITS, *columns, strict=True)
            figures |= {(name, bits): row for bits, *row in rows}
    return figures


@functools.cache
def encodings(method, bits):
    quantizer = qsdk.registry.get(method, bits=bits)
    return {name: quantizer.quantize(NET[name]) for name in oracle.MATRICES}


@functools.cache
def decoded(method, bits):
    return NET | {name: code.dequantize() for name, code in encodings(method, bits).items()}


@functools.cache
def weight_error(method, bits):
    """Of all four matrices together."""
    quantized = decoded(method, bits)
    error = sum(np.square(quantized[name] - NET[name]).sum() for name in oracle.MATRICES)
    return error / sum(np.square(NET[name]).sum() for name in oracle.MATRICES)


@functools.cache
def weights_only(method, bits):
    return oracle.loss(decoded(method, bits), IDS)


def layer(method, bits, coded=True, **options):
    codes = encodings(method, bits)
    activations = f"binary{bits}" if coded else None
    options = {"linear_before_reset": True, "threads": 1, "activations": activations} | options
    return qsdk.gru(codes["W"], codes["R"], bias=NET["B"][np.newaxis], **options)


@functools.cache
def through_kernels(method, bits):
    """The states (steps, texts, hidden) and the scores (steps, texts, symbols), all coded."""
    codes = encodings(method, bits)
    y, _ = layer(method, bits)(codes["embedding"].rows()[IDS[:-1]])
    options = {"activations": f"binary{bits}", "threads": 1}
    projection = qsdk.linear(codes["projection"], bias=NET["bias"], **options)
    return y[:, 0], projection(y[:, 0])


def test_the_float_network_has_learnt_what_its_page_says():
    found = oracle.loss(NET, IDS)
    stated = re.search(r"needs ([\d.]+) bits", PAGE.read_text(encoding="utf-8"))[1]
    assert found == pytest.approx(float(stated), abs=0.001)
    frequency = np.bincount(IDS.ravel()) / IDS.size
    entropy = -(frequency[frequency > 0] * np.log2(frequency[frequency > 0])).sum()
    assert found < 0.4 * entropy


# -- Weights


@EVERY
def test_error_and_loss_with_coded_weights_are_those_of_the_page(method, bits):
    error, loss, _ = documented()[method, bits]
    assert weight_error(method, bits) == pytest.approx(error, rel=0.02)
    assert weights_only(method, bits) == pytest.approx(loss, rel=0.003)


@pytest.mark.parametrize("bits", BITS)
@pytest.mark.parametrize("measure", [weight_error, weights_only])
def test_alternating_is_better_than_refined_and_that_than_greedy(measure, bits):
    greedy, refined, alternating = (measure(method, bits) for method in METHODS)
    assert alternating < 0.98 * refined < 0.98 * greedy


def test_every_bit_lowers_the_loss_towards_that_of_floats():
    exact = oracle.loss(NET, IDS)
    for method in METHODS:
        losses = [weights_only(method, bits) for bits in BITS]
        assert losses[0] > losses[1] > losses[2] > exact


@pytest.mark.parametrize("bits", BITS)
def test_a_layer_with_float_states_gives_what_numpy_gives(bits):
    net, ids = decoded("aqn", bits), IDS[:150]
    y, last = layer("aqn", bits, coded=False)(net["embedding"][ids])
    np.testing.assert_allclose(y[:, 0], oracle.states(net, ids), rtol=0, atol=TOLERANCE)
    np.testing.assert_array_equal(last[0], y[-1, 0])


# -- Weights and states


@EVERY
def test_loss_with_coded_states_is_that_of_the_page(method, bits):
    _, scores = through_kernels(method, bits)
    stated = documented()[method, bits][2]
    assert oracle.bits_per_character(scores, IDS[1:]) == pytest.approx(stated, rel=0.003)


@pytest.mark.parametrize("bits", BITS)
def test_every_step_of_the_kernels_is_that_of_the_simulation(bits):
    """From the kernels' own states, so that one code that falls the other way stays one."""
    net, coded = decoded("aqn", bits), oracle.coder(bits)
    states, scores = (array[:101] for array in through_kernels("aqn", bits))
    before, after = (part.reshape(-1, states.shape[2]) for part in (states[:-1], states[1:]))
    simulated = oracle.step(net, net["embedding"][IDS[1:101].ravel()], before, coded)
    expected_scores = coded(after) @ net["projection"].T + net["bias"]
    found_scores = scores[1:].reshape(expected_scores.shape)
    for found, expected in ((after, simulated), (found_scores, expected_scores)):
        same = np.abs(found - expected).max(axis=1) < TOLERANCE
        # float32 and float64 may see a value on two sides of the middle between two levels
        assert same.mean() > 0.999


@pytest.mark.parametrize("bits", BITS)
def test_the_loss_of_the_kernels_is_that_of_the_simulation(bits):
    _, scores = through_kernels("aqn", bits)
    found = oracle.bits_per_character(scores[:60], IDS[1:61])
    assert found == pytest.approx(
        oracle.loss(decoded("aqn", bits), IDS[:61], oracle.coder(bits)), rel=2e-3
    )


@pytest.mark.parametrize("coded", [True, False])
@pytest.mark.parametrize("linear_before_reset", [True, False])
def test_a_stream_of_steps_gives_what_the_sequence_gives(linear_before_reset, coded):
    gru = layer("aqn", 3, coded, linear_before_reset=linear_before_reset)
    x = encodings("aqn", 3)["embedding"].rows() if coded else NET["embedding"]
    ids = IDS[:40, :2]
    y, last = gru(x[ids])
    state = gru.state(batch=2)
    for given, expected in zip(ids, y[:, 0], strict=True):
        np.testing.assert_array_equal(gru.step(x[given], state), expected)
    np.testing.assert_array_equal(state.h, last[0])


# -- ONNX


@pytest.mark.parametrize("linear_before_reset", [0, 1])
def test_a_layer_is_the_gru_of_onnx(linear_before_reset):
    """The network learnt with 1; with 0 it is another function of the same weights."""
    net, ids = decoded("aqn", 4), IDS[:60, :8]
    arrays = {"w": net["W"], "r": net["R"], "b": net["B"]}
    constants = [
        onnx.numpy_helper.from_array(array[np.newaxis], name) for name, array in arrays.items()
    ]
    node = onnx.helper.make_node(
        "GRU", ["x", *arrays], ["y"], hidden_size=192, linear_before_reset=linear_before_reset
    )
    ends = [onnx.helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, None) for name in "xy"]
    graph = onnx.helper.make_graph([node], "gru", ends[:1], ends[1:], constants)
    opset = onnx.helper.make_opsetid("", 17)
    model = onnx.helper.make_model(graph, opset_imports=[opset], ir_version=8)
    x = net["embedding"][ids]
    (expected,) = ReferenceEvaluator(model).run(None, {"x": x})
    options = {"coded": False, "linear_before_reset": bool(linear_before_reset)}
    y, _ = layer("aqn", 4, **options)(x)
    np.testing.assert_allclose(y, expected, rtol=0, atol=TOLERANCE)
    other, _ = layer("aqn", 4, **options | {"linear_before_reset": not linear_before_reset})(x)
    assert np.abs(other - expected).max() > 0.1
