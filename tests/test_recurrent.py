"""``qsdk.lstm`` and ``qsdk.gru`` against ONNX, a simulation, and themselves without C."""

from __future__ import annotations

import sys
import tracemalloc

import attrs
import numpy as np
import pytest

import qsdk
from qsdk import native
from qsdk.errors import DataError, KernelError, OptionError
from qsdk.recurrent import cells, native_run

NEEDS_C = pytest.mark.skipif(not native.available(), reason="no C extension")
CELLS = {
    "lstm": (qsdk.lstm, 4, {}),
    "gru": (qsdk.gru, 3, {}),
    "gru inside": (qsdk.gru, 3, {"linear_before_reset": True}),
}
DIRECTIONS = ["forward", "reverse", "bidirectional"]


@attrs.frozen(eq=False)
class Case:
    """A layer's arguments, and arrays that fit it."""

    make: object
    gates: int
    options: dict
    w: qsdk.Encoding
    r: qsdk.Encoding
    bias: np.ndarray
    x: np.ndarray
    h: np.ndarray
    c: np.ndarray

    @property
    def layer(self):
        return self.with_(kernel=None)

    def with_(self, **options):
        return self.make(self.w, self.r, bias=self.bias, **{**self.options, **options})

    @property
    def initial(self):
        return {"initial_h": self.h} | ({"initial_c": self.c} if self.gates == 4 else {})


def case(cell="lstm", direction="forward", *, steps=5, batch=3, inputs=10, hidden=7,
         method="greedy", bits=2, seed=0, **options):  # fmt: skip
    make, gates, more = CELLS[cell]
    rng, count = np.random.default_rng(seed), 2 if direction == "bidirectional" else 1

    def draw(*shape):
        return rng.standard_normal(shape).astype(np.float32)

    quantizer = qsdk.registry.get(method, bits=bits)
    rows = gates * hidden
    w, r = (quantizer.quantize(draw(count * rows, columns)) for columns in (inputs, hidden))
    return Case(
        make, gates, {"direction": direction, **more, **options}, w, r,
        draw(count, 2 * rows), draw(steps, batch, inputs),
        draw(count, batch, hidden) / 2, draw(count, batch, hidden),
    )  # fmt: skip


def dense(given):
    """W and R as ONNX has them."""
    count = len(given.h)
    rows = given.bias.shape[1] // 2
    return (e.dequantize().reshape(count, rows, e.shape[1]) for e in (given.w, given.r))


def model_of(given, feeds, **attributes):
    """An ONNX model of one node."""
    from onnx import TensorProto, helper

    names = ["X", "W", "R", "B", "lengths", "h", "c"][: 7 if given.gates == 4 else 6]
    outputs = ["Y", "Y_h", "Y_c"][: 3 if given.gates == 4 else 2]
    attributes |= {"hidden_size": given.h.shape[2], **given.options}
    if "linear_before_reset" in attributes:
        attributes["linear_before_reset"] = 1
    node = helper.make_node(
        "LSTM" if given.gates == 4 else "GRU",
        [name if name in feeds else "" for name in names],
        outputs,
        **attributes,
    )
    kinds = {np.dtype(np.int32): TensorProto.INT32, np.dtype(np.float32): TensorProto.FLOAT}
    values = [
        helper.make_tensor_value_info(name, kinds[a.dtype], a.shape) for name, a in feeds.items()
    ]
    results = [helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in outputs]
    graph = helper.make_graph([node], "one", values, results)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


def feeds_of(given, lengths=None):
    w, r = dense(given)
    feeds = {"X": given.x, "W": w, "R": r, "B": given.bias, "h": given.h}
    if given.gates == 4:
        feeds["c"] = given.c
    return feeds if lengths is None else {**feeds, "lengths": np.int32(lengths)}


@pytest.mark.parametrize("direction", DIRECTIONS)
@pytest.mark.parametrize("cell", CELLS)
@pytest.mark.parametrize("method", ["greedy", "rtn"])
def test_floats_give_what_the_reference_evaluator_gives(cell, direction, method):
    pytest.importorskip("onnx")
    from onnx.reference import ReferenceEvaluator

    given = case(cell, direction, method=method, bits=4)
    feeds = feeds_of(given)
    expected = ReferenceEvaluator(model_of(given, feeds)).run(None, feeds)
    ours = given.layer(given.x, **given.initial)
    for mine, right in zip(ours, expected, strict=True):
        np.testing.assert_allclose(mine, right, rtol=1e-5, atol=2e-6)
    plain = given.make(given.w, given.r, **given.options)(given.x)
    feeds = {name: feeds[name] for name in ("X", "W", "R")}
    expected = ReferenceEvaluator(model_of(given, feeds)).run(None, feeds)
    for mine, right in zip(plain, expected, strict=True):
        np.testing.assert_allclose(mine, right, rtol=1e-5, atol=2e-6)


@pytest.mark.parametrize("direction", DIRECTIONS)
@pytest.mark.parametrize("cell", CELLS)
def test_lengths_and_clip_give_what_onnxruntime_gives(cell, direction):
    runtime = pytest.importorskip("onnxruntime")
    given = case(cell, direction, batch=4)
    lengths = [5, 1, 3, 4]
    for clip in ({}, {"clip": 0.4}):
        feeds = feeds_of(given, lengths)
        model = model_of(given, feeds, **clip).SerializeToString()
        expected = runtime.InferenceSession(model).run(None, feeds)
        ours = given.with_(**clip)(given.x, **given.initial, sequence_lens=lengths)
        for mine, right in zip(ours, expected, strict=True):
            np.testing.assert_allclose(mine, right, rtol=1e-5, atol=2e-6)


@pytest.mark.parametrize("cell", CELLS)
def test_layout_1_has_the_batch_first(cell):
    given = case(cell, "bidirectional")
    plain = given.layer(given.x, **given.initial, sequence_lens=[5, 2, 4])
    turned = {name: value.swapaxes(0, 1) for name, value in given.initial.items()}
    out = np.full((3, 5, 2, 7), 9, np.float32)
    ours = given.with_(layout=1)(given.x.swapaxes(0, 1), **turned, sequence_lens=[5, 2, 4], out=out)
    assert ours[0] is out
    np.testing.assert_array_equal(ours[0], plain[0].transpose(2, 0, 1, 3))
    for mine, right in zip(ours[1:], plain[1:], strict=True):
        np.testing.assert_array_equal(mine, right.swapaxes(0, 1))


def sigmoid(x):
    return 1 / (1 + np.exp(-x))


def decoded(x, bits):
    """Rows of floats as their codes stand for them: greedy, two cycles, by trying all codes."""
    signs = np.array(np.meshgrid(*[[-1.0, 1.0]] * bits)).reshape(bits, -1)
    found = []
    for row in x.astype(float):
        alpha, rest = [], np.abs(row)
        for _ in range(bits):
            alpha.append(rest.mean())
            rest = np.abs(rest - alpha[-1])
        for cycle in range(3):
            levels = alpha @ signs
            planes = signs[:, np.abs(row[:, None] - levels).argmin(axis=1)]
            if cycle < 2:
                alpha = np.abs(np.linalg.lstsq(planes.T, row, rcond=None)[0])
        found.append(alpha @ planes)
    return np.array(found)


def simulated(given, bits):
    """The forward layer with float64 products of what is decoded."""
    w, r = (a[0].astype(float) for a in dense(given))
    of_x, of_h = np.split(given.bias[0].astype(float), 2)
    h, c, hidden = given.h[0].astype(float), given.c[0].astype(float), given.h.shape[2]
    found = []
    for x in given.x:
        a, b = decoded(x, bits) @ w.T + of_x, decoded(h, bits) @ r.T + of_h
        if given.gates == 4:
            i, o, f, g = np.split(a + b, 4, axis=1)
            c = sigmoid(f) * c + sigmoid(i) * np.tanh(g)
            h = sigmoid(o) * np.tanh(c)
        else:
            z, q = np.split(sigmoid((a + b)[:, : 2 * hidden]), 2, axis=1)
            last = slice(2 * hidden, None)
            if "linear_before_reset" in given.options:
                inner = q * b[:, last]
            else:
                inner = decoded(q * h, bits) @ r[last].T + of_h[last]
            h = (1 - z) * np.tanh(a[:, last] + inner) + z * h
        found.append(h)
    return np.array(found)


@pytest.mark.parametrize("bits", [1, 2, 3])
@pytest.mark.parametrize("cell", CELLS)
def test_coded_activations_give_what_a_simulation_gives(cell, bits):
    given = case(cell, inputs=70, hidden=65, bits=2)
    y = given.with_(activations=f"binary{bits}")(given.x, **given.initial)[0]
    np.testing.assert_allclose(y[:, 0], simulated(given, bits), atol=2e-4)


SHAPES = [
    {"steps": 9, "batch": 1, "inputs": 100, "hidden": 65},
    {"steps": 3, "batch": 5, "inputs": 64, "hidden": 64},
    {"steps": 15, "batch": 9, "inputs": 3, "hidden": 1},  # more rows than one block has
    {"steps": 2, "batch": 129, "inputs": 17, "hidden": 9},
]


@NEEDS_C
@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("direction", DIRECTIONS)
@pytest.mark.parametrize("cell", CELLS)
@pytest.mark.parametrize("activations", [None, "binary2"])
def test_a_sequence_in_c_gives_the_bits_of_the_loop_in_python(cell, direction, shape, activations):
    given = case(cell, direction, **shape, clip=2.5)
    lengths = np.arange(shape["batch"]) % (shape["steps"] + 1)
    ours, loop = (
        given.with_(activations=activations, kernel=kernel)(
            given.x, **given.initial, sequence_lens=lengths
        )
        for kernel in (None, "linear-binary-reference")
    )
    for mine, right in zip(ours, loop, strict=True):
        np.testing.assert_array_equal(mine, right)


@NEEDS_C
@pytest.mark.parametrize("name", [name for name, *_ in native_run.instruction_sets()]
                         if native.available() else [])  # fmt: skip
def test_every_instruction_set_gives_the_bits_of_numpy(name):
    from qsdk import cpu

    features, table = next(
        (features, table) for have, features, table in native_run.instruction_sets() if have == name
    )
    if not features <= cpu.found():
        pytest.skip(f"this CPU has no {', '.join(sorted(features - cpu.found()))}")
    bits = np.random.default_rng(3).integers(0, 2**32, 200_003, dtype=np.uint64).astype(np.uint32)
    wide = np.linspace(-110, 110, 100_003, dtype=np.float32)
    x = np.concatenate([bits.view(np.float32), wide, EDGES])
    ffi = native.library().ffi
    for count in (0, 1, 3, 4, 5, 7, 8, 9, 15, 16, 17, len(x)):
        for function, twin in ((table.sigmoid, cells.sigmoid), (table.tanh, cells.tanh)):
            given, y = np.ascontiguousarray(x[-count:] if count else x[:0]), np.empty(count, "f4")
            function(ffi.from_buffer("float[]", given), count, ffi.from_buffer("float[]", y))
            np.testing.assert_array_equal(y, twin(given))


@NEEDS_C
@pytest.mark.parametrize("taken", ["avx512f", "avx2,neon", "extension"])
@pytest.mark.parametrize("cell", CELLS)
def test_features_taken_away_change_nothing(cell, taken, monkeypatch):
    given = case(cell, inputs=70, hidden=35)
    right = given.with_(activations="binary2")(given.x, **given.initial)
    best = native_run.instruction_set().name
    monkeypatch.setenv("QSDK_DISABLE_CPU_FEATURES", taken)
    assert taken != "avx2,neon" or native_run.instruction_set().name != best
    for mine, one in zip(given.with_(activations="binary2")(given.x, **given.initial), right,
                         strict=True):  # fmt: skip
        np.testing.assert_array_equal(mine, one)


EDGES = np.float32([0, -0.0, np.inf, -np.inf, np.nan, 1e-45, -1e-45, 1e-38, 104, -104, 103.9,
                    -103.9, 10, -10, 9.99, 88.7, -88.7, 3.4e38, -3.4e38])  # fmt: skip


def ulps(found, exact):
    """Distance in units of the last place of a float32 near ``exact``."""
    size = np.maximum(np.frexp(np.abs(exact))[1] - 24, -149)
    return np.abs(found.astype(np.float64) - exact) / np.ldexp(1.0, size)


def test_gates_are_within_3_units_in_the_last_place():
    x = np.concatenate([
        np.linspace(-104, 104, 300_001), np.linspace(-1, 1, 300_001), np.geomspace(1e-44, 1, 10_001)
    ]).astype(np.float32)  # fmt: skip
    exact = x.astype(np.float64)
    positive = 1 / (1 + np.exp(-np.abs(exact)))
    right = np.where(exact < 0, np.exp(-np.abs(exact)) * positive, positive)
    assert 1 < ulps(cells.sigmoid(x), right).max() < 3
    assert 1 < ulps(cells.tanh(x), np.tanh(exact)).max() < 3


def test_gates_saturate_and_keep_nan_and_the_sign_of_zero():
    ends = np.float32([-np.inf, -3e38, -200, 200, 3e38, np.inf])
    assert cells.sigmoid(ends).tolist() == [0, 0, 0, 1, 1, 1]
    assert cells.tanh(ends).tolist() == [-1, -1, -1, 1, 1, 1]
    assert np.isnan(cells.sigmoid(np.float32([np.nan]))) and np.isnan(
        cells.tanh(np.float32([np.nan]))
    )
    assert np.signbit(cells.tanh(np.float32([-0.0, 0.0]))).tolist() == [True, False]
    assert cells.sigmoid(np.float32([0])) == 0.5


@pytest.mark.parametrize("cell", CELLS)
@pytest.mark.parametrize("activations", [None, "binary2"])
def test_steps_of_a_stream_give_the_bits_of_the_sequence(cell, activations):
    given = case(cell, inputs=70, hidden=33)
    for kernel in (None, "linear-binary-reference"):
        layer = given.with_(activations=activations, kernel=kernel)
        y = layer(given.x, **given.initial)[0]
        state = layer.state(3, given.h[0], given.c[0] if cell == "lstm" else None)
        for x, right in zip(given.x, y[:, 0], strict=True):
            assert layer.step(x, state) is state.h
            np.testing.assert_array_equal(state.h, right)
        layer.step(given.x[0].astype(np.float64), state)
        other = layer.state(3)
        np.testing.assert_array_equal(
            layer.step(given.x[0][::-1], other),  # neither contiguous nor in order
            layer(given.x[:1, ::-1])[0][0, 0],
        )


@NEEDS_C
def test_a_step_allocates_nothing():
    given = case(inputs=100, hidden=64, batch=1)
    layer = given.with_(activations="binary2")
    x, state = given.x[0], layer.state()
    for _ in range(3):
        layer.step(x, state)
    tracemalloc.start()
    for _ in range(100):
        layer.step(x, state)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 2000, peak
    assert sys.getrefcount(state.h) < 5


@pytest.mark.parametrize("cell", CELLS)
def test_codes_give_the_bits_of_floats_that_are_coded_so(cell):
    """Floats of two levels, which the coder finds again."""
    rng = np.random.default_rng(5)
    signs = np.where(rng.integers(0, 2, (2, 20, 100)) > 0, 1, -1)
    table = (2 * signs[0] + signs[1]).astype(np.float32)
    table[:, :4] = [3, -3, 1, -1]  # each level occurs, and as often
    table[:, 4:] = rng.permuted(np.tile([3, -3, 1, -1], (20, 24)), axis=1)
    embedding = qsdk.registry.get("greedy", bits=2).quantize(table)
    np.testing.assert_array_equal(embedding.dequantize(), table)
    given = case(cell, "bidirectional", inputs=100)
    ids = rng.integers(0, 20, (5, 3))
    for kernel in (None, "linear-binary-reference"):
        layer = given.with_(activations="binary2", kernel=kernel)
        codes = embedding.rows()[ids]
        for mine, right in zip(layer(codes), layer(table[ids]), strict=True):
            np.testing.assert_array_equal(mine, right)
        for mine, right in zip(layer(codes[:, ::-1]), layer(table[ids[:, ::-1]]), strict=True):
            np.testing.assert_array_equal(mine, right)
    stream = case(cell, inputs=100).with_(activations="binary2")
    one, two = stream.state(3), stream.state(3)
    np.testing.assert_array_equal(
        stream.step(embedding.rows()[ids[0]], one), stream.step(table[ids[0]], two)
    )


@pytest.mark.parametrize("kernel", [None, "linear-binary-reference"])
@pytest.mark.parametrize("activations", [None, "binary2"])
@pytest.mark.parametrize("cell", CELLS)
def test_nan_stays_in_its_sequence_from_its_step_on(cell, activations, kernel):
    given = case(cell)
    layer = given.with_(activations=activations, kernel=kernel)
    clean = layer(given.x, **given.initial)[0]
    x = given.x.copy()
    x[2, 1, 3] = np.nan
    result = layer(x, **given.initial)
    np.testing.assert_array_equal(result[0][:2], clean[:2])
    np.testing.assert_array_equal(result[0][:, :, [0, 2]], clean[:, :, [0, 2]])
    assert np.isnan(result[0][2:, :, 1]).all() and np.isnan(result[1][:, 1]).all()
    behind = layer(x, **given.initial, sequence_lens=[5, 2, 5])
    assert np.isfinite(behind[1]).all()  # what is behind the end is not looked at


def test_infinity_is_nan_where_x_is_coded_in_the_call():
    given = case()
    x = given.x.copy()
    x[0, 0, 0] = np.inf
    for kernel in (None, "linear-binary-reference"):
        y = given.with_(activations="binary2", kernel=kernel)(x)[0]
        assert np.isnan(y[:, 0, 0]).all() and np.isfinite(y[:, 0, 1:]).all()


@pytest.mark.parametrize("direction", DIRECTIONS)
@pytest.mark.parametrize("cell", CELLS)
def test_empty_sequences_and_batches(cell, direction):
    given = case(cell, direction)
    result = given.layer(given.x[:0], **given.initial)
    assert result[0].shape == (0, len(given.h), 3, 7)
    np.testing.assert_array_equal(result[1], given.h)
    result = given.layer(given.x[:, :0])
    assert result[0].shape == (5, len(given.h), 0, 7) and result[1].shape == (len(given.h), 0, 7)
    still = given.layer(given.x, **given.initial, sequence_lens=[0, 0, 0])
    assert not still[0].any()
    np.testing.assert_array_equal(still[1], given.h)
    if direction == "forward":
        assert given.layer.step(given.x[0, :0], given.layer.state(0)).shape == (0, 7)


def test_inputs_are_left_unchanged_and_out_is_filled():
    given = case()
    before = [a.copy() for a in (given.x, given.h, given.c, given.bias)]
    out = np.full((5, 1, 3, 7), 9, np.float32)
    result = given.layer(given.x, **given.initial, out=out)
    assert result.y is out
    np.testing.assert_array_equal(out, given.layer(given.x, **given.initial).y)
    for now, then in zip((given.x, given.h, given.c, given.bias), before, strict=True):
        np.testing.assert_array_equal(now, then)


@pytest.mark.parametrize("cell", CELLS)
def test_one_encoding_for_each_direction_is_the_same_as_one_for_both(cell):
    given = case(cell, "bidirectional")
    rows = given.w.shape[0] // 2
    w, r = ([e.part(0, rows), e.part(rows, 2 * rows)] for e in (given.w, given.r))
    split = given.make(w, r, bias=given.bias, **given.options)
    for mine, right in zip(split(given.x), given.layer(given.x), strict=True):
        np.testing.assert_array_equal(mine, right)


class Uncut(type(case().w)):
    """An encoding that cannot be cut."""

    def part(self, start, stop):
        return None


@pytest.mark.parametrize("cell", CELLS)
@pytest.mark.parametrize("activations", [None, "binary2"])
def test_an_encoding_that_cannot_be_cut_is_multiplied_as_a_whole(cell, activations):
    given = case(cell, "bidirectional", activations=activations)
    uncut = [Uncut(e.planes, e.alpha, e.shape, e.scheme) for e in (given.w, given.r)]
    for kernel in (None, "linear-binary-reference"):
        layer = given.make(*uncut, bias=given.bias, kernel=kernel, **given.options)
        for mine, right in zip(layer(given.x), given.layer(given.x), strict=True):
            np.testing.assert_array_equal(mine, right)


@pytest.mark.parametrize("form", ["int8", qsdk.Activations(form="fixed_int8", scale=0.03)])
def test_other_encodings_and_activations(form):
    given = case("lstm", method="rtn", bits=8)
    exact, coded = given.layer(given.x).y, given.with_(activations=form)(given.x).y
    assert 20 < qsdk.metrics.sqnr_db(exact, coded) < 70
    mixed = given.with_(activations=(None, form))(given.x).y
    assert not np.array_equal(mixed, coded)


@pytest.mark.parametrize("threads", [1, 2])
def test_threads_change_nothing(threads):
    given = case("gru", batch=70, inputs=200, hidden=300)
    right = given.with_(activations="binary2", threads=1)(given.x)
    for mine, one in zip(given.with_(activations="binary2", threads=threads)(given.x), right,
                         strict=True):  # fmt: skip
        np.testing.assert_array_equal(mine, one)


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"direction": "backward"}, "direction is 'backward'"),
        ({"layout": 2}, "layout is 2"),
        ({"clip": 0}, "clip is 0"),
        ({"peepholes": np.ones((1, 21))}, "peepholes is given"),
        ({"input_forget": True}, "input_forget is given"),
        ({"functions": ["Relu", "Tanh", "Tanh"]}, "functions is ['Relu', 'Tanh', 'Tanh']; only"),
        ({"activations": ("binary2",) * 3}, "3 activations are given"),
        ({"threads": -1}, "threads is -1"),
        ({"bias": np.ones((1, 5))}, r"bias has the shape (1, 5); give (1, 56)"),
    ],
)
def test_what_is_not_supported_is_said(options, says):
    given = case()
    with pytest.raises(OptionError) as caught:
        given.make(given.w, given.r, **options)
    assert says in str(caught.value)


def test_weights_that_do_not_fit_are_refused():
    given = case()
    with pytest.raises(OptionError, match=r"w has the shape \(28, 10\); 7 units in 2 directions"):
        qsdk.lstm(given.w, given.r, direction="bidirectional")
    with pytest.raises(OptionError, match=r"w has the shape \(28, 10\).*need \(40, input\)"):
        qsdk.lstm(given.w, given.w)
    with pytest.raises(OptionError, match=r"r has the shape \(21, 9\); 9 units in 1 direction"):
        qsdk.gru(case("gru", hidden=9).w, case("gru", inputs=9).w)
    with pytest.raises(KernelError, match="linear-int8-reference"):
        qsdk.lstm(given.w, given.r, kernel="linear-int8-reference")
    given.with_(functions=["Sigmoid", "Tanh", "Tanh"])


def test_arrays_that_do_not_fit_are_refused():
    given = case()
    layer = given.layer
    for arguments, says in [
        ({"x": given.x[:, :, :9]}, r"x has the shape \(5, 3, 9\)"),
        ({"x": given.x[0]}, r"takes \(seq, batch, 10\)"),
        ({"x": given.x.astype(int)}, "the input is int64"),
        ({"x": np.zeros((5, 3), qsdk.interfaces.sign_codes_dtype(2, 10))}, "takes floats"),
        ({"initial_h": given.h[0]}, r"initial_h has the shape \(3, 7\); give \(1, 3, 7\)"),
        ({"sequence_lens": [5, 6, 1]}, r"sequence_lens is \[5, 6, 1\]; give 3 whole numbers"),
        ({"sequence_lens": [1.0, 2, 3]}, "whole numbers"),
        ({"out": np.empty((5, 1, 3, 8), np.float32)}, "out is float32"),
    ]:
        with pytest.raises(DataError, match=says):
            layer(**{"x": given.x, **arguments})
    with pytest.raises(DataError, match="a GRU has no cell state"):
        case("gru").layer(given.x, initial_c=given.c)
    state = layer.state(3)
    with pytest.raises(DataError, match=r"x has the shape \(2, 10\); this state takes \(3, 10\)"):
        layer.step(given.x[0, :2], state)
    with pytest.raises(DataError, match=r"h has the shape \(1, 7\)"):
        layer.state(3, given.h[0, :1])
    with pytest.raises(DataError, match="state is of 7 units, the layer of 8"):
        case(hidden=8).layer.step(given.x[0], state)
    with pytest.raises(OptionError, match="a stream runs forward"):
        case(direction="reverse").layer.state()


def test_a_state_of_another_layer_of_the_same_size_serves():
    one, two = case(seed=1), case(seed=2)
    state, right = one.layer.state(3, one.h[0], one.c[0]), two.layer
    expected = right.step(two.x[0], right.state(3, one.h[0], one.c[0]))
    np.testing.assert_array_equal(right.step(two.x[0], state), expected)


def test_a_layer_says_what_it_is():
    layer = case("gru", "bidirectional").with_(kernel="linear-binary-reference")
    assert layer.kernels == ["linear-binary-reference"]
    assert repr(layer) == "<gru of 7 units by linear-binary-reference>"
    assert layer.hidden == 7 and layer.inputs == 10
