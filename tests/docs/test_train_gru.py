"""docs/examples/train_gru.py: its gradient is right, and what it writes has learnt something."""

from __future__ import annotations

import importlib.util
import re
import sys
from pathlib import Path

import numpy as np
import pytest

from qsdk import TensorFile

SCRIPT = Path(__file__).parents[2] / "docs" / "examples" / "train_gru.py"


@pytest.fixture(scope="module")
def script():
    spec = importlib.util.spec_from_file_location("train_gru", SCRIPT)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize("name", ["embedding", "W", "R", "B", "projection", "bias"])
def test_the_gradient_is_the_slope_of_the_loss(script, name):
    rng = np.random.default_rng(0)
    net = {k: v.astype(np.float64) for k, v in script.initial(rng, hidden=5, embedding=4).items()}
    net["B"] += rng.normal(size=30)
    ids = rng.integers(0, 96, (8, 3))
    h, keep = rng.normal(size=(3, 5)), rng.random((7, 3, 5))

    def loss():
        return script.loss_and_gradients(net, ids[:-1], ids[1:], h, keep)[0]

    gradient = script.loss_and_gradients(net, ids[:-1], ids[1:], h, keep)[1][name]
    direction = rng.normal(size=gradient.shape)
    start = net[name]
    net[name] = start + 1e-5 * direction
    above = loss()
    net[name] = start - 1e-5 * direction
    slope = (above - loss()) / 2e-5
    assert slope == pytest.approx((gradient * direction).sum(), rel=1e-6)


@pytest.mark.parametrize("end", ["\n\n", "\n"])
def test_held_out_passages_are_every_tenth_and_nothing_is_lost(script, end):
    paragraphs = [f"{number}" * 300 for number in range(10, 99)]
    learnt, held_out = script.split(end.join(paragraphs))
    both = (learnt + held_out).split()
    assert sorted(both) == sorted(paragraphs)
    assert held_out.split()[0] not in learnt
    assert 0.07 < len(held_out) / len(learnt) < 0.13


def test_no_paragraph_of_the_reference_stands_twice(script):
    paragraphs = script.python_reference().split("\n\n")
    words = [" ".join(paragraph.split()) for paragraph in paragraphs]
    assert len(words) == len(set(words)) > 1000


def test_text_becomes_characters_of_the_vocabulary(script):
    assert script.plain("It’s\t1–2\n\u0394") == "It's 1-2\n?"
    assert script.to_ids("\n !~").tolist() == [0, 1, 2, 95]


def test_a_text_too_short_to_hold_out_from_is_refused(script, tmp_path, monkeypatch, capsys):
    (tmp_path / "text.txt").write_text("short\n", encoding="utf-8")
    options = [tmp_path / "out", "--text", tmp_path / "text.txt"]
    monkeypatch.setattr(sys, "argv", ["train_gru.py", *map(str, options)])
    with pytest.raises(SystemExit):
        script.main()
    assert "has 6 characters; give one of 40000" in capsys.readouterr().err


def test_a_short_training_learns_a_simple_text(script, tmp_path, monkeypatch, capsys):
    (tmp_path / "text.txt").write_text("the cat sat on the mat\n\n" * 1200, encoding="utf-8")
    options = [tmp_path / "out", "--text", tmp_path / "text.txt", "--epochs", "1", "--hidden", "24"]
    monkeypatch.setattr(sys, "argv", ["train_gru.py", *map(str, options)])
    monkeypatch.setattr(script, "STREAMS", 4)
    monkeypatch.setattr(script, "STEPS", 16)
    script.main()
    numbers = [float(word) for word in re.findall(r"\d+\.\d+", capsys.readouterr().out)]
    bits, unigram = numbers
    assert bits < 0.5 * unigram
    file = TensorFile(tmp_path / "out" / "gru.safetensors")
    assert file.metadata == {"vocabulary": script.VOCABULARY, "linear_before_reset": "1"}
    assert file.tensors["R"].shape == (72, 24)
    net = {name: file.read(name).astype(np.float32) for name in file.tensors}
    held_out = (tmp_path / "out" / "held_out.txt").read_bytes().decode()
    assert f"{script.evaluate(net, script.to_ids(held_out)):.3f}" == f"{bits:.3f}"
