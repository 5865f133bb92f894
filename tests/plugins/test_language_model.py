"""Multi-bit codes of a trained language model: the table of the AQN paper on real text (card 3).

Expected figures are those of a numpy prototype that shares no code with qsdk, on the same files.
``docs/examples/language_model.py`` measures every cell; here are all errors, and the perplexities
that decide.
"""

from __future__ import annotations

import importlib.util
import itertools
import json
import re
import sys
from pathlib import Path

import numpy as np
import pytest

import qsdk

EXAMPLE = Path(__file__).parents[2] / "docs" / "examples" / "language_model.py"

# Relative squared errors at 2, 3 and 4 bits.
ALL_FOUR = {
    "uniform": (0.470, 0.078, 0.017),
    "balanced": (2.850, 1.777, 1.399),
    "greedy": (0.146, 0.071, 0.042),
    "refined": (0.138, 0.060, 0.030),
    "alternating T=2": (0.127, 0.049, 0.023),
    "alternating T=20": (0.125, 0.039, 0.012),
    "aqn": (0.125, 0.040, 0.012),
}
RECURRENT = {
    "uniform": (0.449, 0.076, 0.0165),
    "greedy": (0.138, 0.065, 0.038),
    "refined": (0.132, 0.056, 0.028),
    "alternating T=2": (0.123, 0.048, 0.022),
    "alternating T=20": (0.122, 0.039, 0.012),
    "aqn": (0.122, 0.039, 0.012),
}


@pytest.fixture(scope="module")
def example():
    spec = importlib.util.spec_from_file_location("language_model", EXAMPLE)
    module = importlib.util.module_from_spec(spec)
    sys.modules["language_model"] = module  # where attrs looks up annotations
    spec.loader.exec_module(module)
    yield module
    del sys.modules["language_model"]


@pytest.fixture(scope="module")
def ptb(example, shared):
    """(model, vocabulary, test text)"""
    return example.load(shared / "data" / "ptb")


def small(example, seed=0):
    """A model of 7 words and 5 units, with nothing learnt."""
    rng = np.random.default_rng(seed)
    shapes = {"W_ih": (20, 5), "W_hh": (20, 5), "embedding": (7, 5), "softmax_W": (7, 5)}
    return example.LanguageModel(
        matrices={name: np.float32(rng.normal(size=shape)) for name, shape in shapes.items()},
        bias=np.float32(rng.normal(size=20)),
        softmax_b=np.float32(rng.normal(size=7)),
    )


def sigmoid(x):
    return 1 / (1 + np.exp(-x))


def surprises_one_by_one(model, words):
    """-log of the chance of each word but the first, by the equations of data/README.md."""
    m = {name: matrix.astype(float) for name, matrix in model.matrices.items()}
    hidden = m["W_hh"].shape[1]
    h, c, found = np.zeros(hidden), np.zeros(hidden), []
    for word, following in itertools.pairwise(words):
        a = m["W_ih"] @ m["embedding"][word] + m["W_hh"] @ h + model.bias
        i, f, g, o = np.split(a, 4)
        c = sigmoid(f) * c + sigmoid(i) * np.tanh(g)
        h = sigmoid(o) * np.tanh(c)
        logits = m["softmax_W"] @ h + model.softmax_b
        found.append(np.log(np.exp(logits).sum()) - logits[following])
    return found


def test_perplexity_is_the_equations_word_by_word(example):
    model, text = small(example), np.random.default_rng(1).integers(0, 7, 47)
    streams = text[:45].reshape(3, 15)  # the 2 words left over are in no stream
    expected = np.exp(np.concatenate([surprises_one_by_one(model, s) for s in streams]).mean())
    assert example.perplexity(model, text, streams=3) == pytest.approx(expected, rel=1e-5)


def test_the_test_text_has_as_many_words_as_its_readme_says(ptb):
    model, vocabulary, text = ptb
    assert len(text) == 82_430 and len(vocabulary) == 10_000
    assert text.max() < 10_000 and vocabulary[text[-1]] == "<eos>"
    assert {name: m.shape for name, m in model.matrices.items()} == {
        "W_ih": (1200, 300),
        "W_hh": (1200, 300),
        "embedding": (10_000, 300),
        "softmax_W": (10_000, 300),
    }


@pytest.fixture(scope="module")
def errors(example, ptb):
    """Relative squared errors of all four matrices at 2, 3 and 4 bits, by method."""
    return {method: relative_errors(example, ptb, method, 4) for method in ALL_FOUR}


def relative_errors(example, ptb, method, matrices):
    names = example.MATRICES[:matrices]
    return [example.quantized(ptb[0], method, bits, names)[1].relative_mse for bits in (2, 3, 4)]


def close(expected):
    """Within 2 %, and what the expected figure lost when it was rounded."""
    return pytest.approx(expected, rel=0.02, abs=0.0005)


@pytest.mark.parametrize("method", ALL_FOUR)
def test_errors_of_all_four_matrices(errors, method):
    assert errors[method] == close(ALL_FOUR[method])


@pytest.mark.parametrize("method", RECURRENT)
def test_errors_of_the_recurrent_matrices(example, ptb, method):
    assert relative_errors(example, ptb, method, 2) == close(RECURRENT[method])


@pytest.mark.parametrize("column", [0, 1, 2], ids=["2 bits", "3 bits", "4 bits"])
def test_alternating_has_the_least_error_in_every_column(errors, column):
    of = {method: row[column] for method, row in errors.items()}
    best = min(of, key=of.get)
    assert best in ("alternating T=20", "aqn")
    assert of["aqn"] < 1.025 * of[best]
    assert of["greedy"] > of["refined"] > of["alternating T=2"] > of["aqn"]


def test_perplexity_at_2_bits(example, ptb):
    """The cells that decide: alternating, and what it is compared with."""
    model, _, text = ptb
    cells = example.measure(model, text, ["aqn", "greedy"], [2], example.MATRICES)
    assert [cell.perplexity for cell in cells] == pytest.approx([105.86, 121.94], rel=0.003)


def test_tables_have_a_row_for_each_method_and_a_column_for_each_width(example):
    def cell(method, bits, **figures):
        return example.Cell(method=method, bits=bits, relative_mse=0.5 / bits, **figures)

    cells = [
        cell("a", 2, smaller=15.5, perplexity=123.456),
        cell("a", 4, smaller=7.75, perplexity=99),
        cell("b", 2, smaller=15.5, perplexity=np.inf),
        cell("b", 4, smaller=7.75, perplexity=2e7),
    ]
    assert example.table(cells, "weights", 93.4).splitlines()[2:] == [
        "| a | 0.250 | 0.125 | 123.46 | 99.00 | 15.5 | 7.8 |",
        "| b | 0.250 | 0.125 | inf | 2e+07 | 15.5 | 7.8 |",
        "| float |  |  | 93.40 | 93.40 | 1.0 | 1.0 |",
    ]


def test_the_picture_has_the_same_bytes_each_time_and_leaves_out_what_is_lost(example, tmp_path):
    cells = [
        example.Cell(method=method, bits=bits, relative_mse=0.1, smaller=1, perplexity=perplexity)
        for method, bits, perplexity in [
            ("a", 2, 110),
            ("a", 3, 95),
            ("b", 2, 9e9),
            ("b", 3, np.inf),
        ]
    ]
    for name in ("one.svg", "two.svg"):
        example.plot(cells, {("aqn", 2): 130.0}, 93.4, tmp_path / name)
    drawn = (tmp_path / "one.svg").read_text()
    assert drawn == (tmp_path / "two.svg").read_text()
    assert ">a</text>" in drawn and ">b</text>" not in drawn


def test_a_method_that_does_not_exist_is_refused_with_those_that_do(example, monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["language_model.py", "data", "--methods", "greedy,gredy"])
    with pytest.raises(SystemExit):
        example.main()
    assert "no method 'gredy'; there are uniform, balanced, greedy" in capsys.readouterr().err


def run(example, monkeypatch, capsys, *options):
    """The example's output on a small model."""
    words = ["<eos>", "<unk>", *"abcde"]
    loaded = small(example), words, np.random.default_rng(1).integers(0, 7, 203)
    monkeypatch.setattr(example, "load", lambda folder: loaded)
    monkeypatch.setattr(sys, "argv", ["language_model.py", "data", *options])
    example.main()
    return capsys.readouterr().out


def test_the_document_has_the_figures_of_the_tables(example, monkeypatch, capsys, tmp_path):
    page = tmp_path / "page.md"
    options = ["--bits", "2,3", "--recurrent-only", "--json", "--out", str(page)]
    document = json.loads(run(example, monkeypatch, capsys, *options))
    cells = [example.Cell(**row) for row in document["weights"]]
    assert [(c.method, c.bits) for c in cells] == [(m, b) for m in example.METHODS for b in (2, 3)]
    assert page.read_text() == example.table(cells, "W_ih, W_hh", document["float"])
    assert run(example, monkeypatch, capsys, *options[:3]) == page.read_text() + "\n"


@pytest.mark.parametrize(("bits", "smaller"), [(2, 15.5), (3, 10.3)])
def test_rows_of_1024_are_as_much_smaller_as_the_paper_says(tmp_path, bits, smaller):
    weight = np.random.default_rng(0).standard_normal((4096, 1024)).astype(np.float32)
    encoding = qsdk.registry.get("aqn", bits=bits).quantize(weight)
    assert weight.nbytes / encoding.nbytes == pytest.approx(smaller, abs=0.05)
    np.savez(tmp_path / "w.npz", w=weight)
    on_disk = tmp_path / "w.safetensors"
    qsdk.quantize_file(tmp_path / "w.npz", on_disk, "aqn", bits=bits)
    assert weight.nbytes / on_disk.stat().st_size == pytest.approx(smaller, abs=0.05)
    (layer,) = qsdk.load(on_disk).layers
    np.testing.assert_array_equal(layer.weight, encoding.dequantize())


# -- On kernels


def decoded_codes(method, rows):
    """What a kernel makes of its input, as floats."""
    form, length = method.activations(), rows.shape[1]
    alpha, planes = qsdk.SignCoder(bits=form.bits, cycles=form.cycles).code(rows)
    signs = 2.0 * qsdk.unpack_words(planes, length) - 1
    return (alpha.astype(float)[:, :, None] * signs).sum(axis=0)


@pytest.mark.parametrize("bits", [2, 3, 4])
def test_kernels_give_what_decoded_weights_and_activations_give(example, ptb, bits):
    model, _, text = ptb
    method = example.quantizer_of("aqn", bits)
    coded, (simulated, _) = (
        example.CodedModel(model, method),
        example.quantized(model, "aqn", bits),
    )
    m = {name: matrix.astype(float) for name, matrix in simulated.matrices.items()}
    state, words = coded.lstm.state(4), text[:120].reshape(4, 30).T
    for given in words:
        h, c = decoded_codes(method, state.h), state.c.astype(float)
        found = coded.lstm.step(coded.words[given], state)
        a = m["embedding"][given] @ m["W_ih"].T + h @ m["W_hh"].T + model.bias
        i, f, g, o = np.split(a, 4, axis=1)
        c = sigmoid(f) * c + sigmoid(i) * np.tanh(g)
        np.testing.assert_allclose(state.c, c, atol=2e-6)
        np.testing.assert_allclose(found, sigmoid(o) * np.tanh(c), atol=2e-6)
    logits = decoded_codes(method, state.h) @ m["softmax_W"].T + model.softmax_b
    np.testing.assert_allclose(coded.logits(state.h), logits, atol=2e-5)


def test_perplexity_on_kernels_with_2_bits_for_all(example, ptb):
    model, _, text = ptb
    found = example.measure_online(model, text, ["alternating T=2"], [2])
    assert found == {("alternating T=2", 2): pytest.approx(133.93, rel=0.003)}


def test_text_is_drawn_from_the_vocabulary_and_by_the_seed(example, ptb):
    model, vocabulary, _ = ptb
    coded = example.CodedModel(model, example.quantizer_of("aqn", 2))
    eos, unknown = vocabulary.index("<eos>"), vocabulary.index("<unk>")
    words = coded.text(eos, 40, unknown)
    assert len(words) == 40 and unknown not in words
    assert len(set(words)) > 10
    assert words == coded.text(eos, 40, unknown) != coded.text(eos, 40, unknown, seed=1)


def test_with_activations_it_prints_a_second_table_and_a_text(example, monkeypatch, capsys):
    page = run(
        example,
        monkeypatch,
        capsys,
        *["--bits", "2", "--methods", "aqn", "--online", "--text", "9"],
    )
    assert "| bits of weights / activations | alternating T=2 | aqn |" in page
    assert re.search(r"^\| 2 / 2 \| \d+\.\d\d \| \d+\.\d\d \|$", page, re.MULTILINE)
    text = page.split("```text\n")[1].split("\n```")[0]
    assert 3 <= len(text.split()) <= 9 and set(text.split()) <= set("abcde")
