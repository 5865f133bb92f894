"""``--report``: one file with pictures that needs nothing else."""

from __future__ import annotations

import re
import sys
from html.parser import HTMLParser

import numpy as np
import pytest

import qsdk
from qsdk.cli.histograms import code_histograms
from qsdk.html_report import render

pytest.importorskip("matplotlib", reason="the extra report is not installed")


class Page(HTMLParser):
    """Collects tags, their links and the text, and checks that what is opened is closed."""

    VOID = frozenset({"meta", "br", "link", "img", "hr"})

    def __init__(self, text):
        super().__init__()
        self.tags, self.links, self.open, self.text = [], [], [], ""
        self.feed(text)
        assert self.open == [], f"left open: {self.open}"

    def handle_starttag(self, tag, attributes):
        self.tags.append(tag)
        self.links += [v for k, v in attributes if k in ("src", "href", "xlink:href", "data")]
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_startendtag(self, tag, attributes):
        self.handle_starttag(tag, attributes)
        if tag not in self.VOID:
            self.open.pop()

    def handle_data(self, data):
        self.text += data


@pytest.fixture
def report(run, weights, tmp_path):
    file = tmp_path / "report of a run.html"
    run("quantize", weights, "-o", tmp_path / "o.safetensors", "--report", file, "--bits", "3")
    return Page(file.read_text()), file


def test_it_is_one_file_with_two_pictures_and_no_script(report):
    page, file = report
    assert page.tags.count("svg") == 2
    assert "script" not in page.tags and "img" not in page.tags and "link" not in page.tags
    assert all(link.startswith("#") for link in page.links)
    assert not re.search(r"url\(\s*['\"]?http", file.read_text())


def test_it_names_layers_settings_versions_and_the_command(report):
    page, file = report
    for layer in ("conv.weight", "fc.weight", "head[red].weight"):
        assert page.text.count(layer) >= 3  # bar, histogram, table
    assert '"bits": 3' in page.text and np.__version__ in page.text and "Python" in page.text
    assert f"--report '{file}'" in page.text and "qsdk quantize" in page.text


def test_histograms_are_those_of_the_written_codes(weights, tmp_path):
    recipe = qsdk.Recipe(method="rtn", options={"bits": 3})
    qsdk.quantize_file(weights, tmp_path / "o.safetensors", recipe)
    found = code_histograms(weights, recipe, ["fc.weight"])
    written = qsdk.Container(tmp_path / "o.safetensors")["fc.weight"].codes
    codes, counts = found["fc.weight"]
    assert list(found) == ["fc.weight"] and codes == list(range(-4, 4))
    assert counts == [int((written == code).sum()) for code in codes]


def test_names_from_a_file_are_no_markup(tmp_path, run):
    name = "<script>alert(1)</script>&$x_1$"
    np.savez(tmp_path / "m.npz", **{name: np.ones((4, 4), np.float32) * np.arange(4)})
    file = tmp_path / "r.html"
    run("quantize", tmp_path / "m.npz", "-o", tmp_path / "o.safetensors", "--report", file)
    page = Page(file.read_text())
    assert "script" not in page.tags and name in page.text


def test_an_exact_layer_and_no_histogram_are_no_trouble(weights):
    model = qsdk.load({"zeros": np.zeros((3, 3), np.float32)})
    report = qsdk.quantize_model(model, "rtn", bits=4).report
    page = Page(render(report, {}, "qsdk"))
    assert "exact" in page.text and "the output took the place of the input" in page.text


def test_in_place_the_report_goes_without_histograms(run, weights, tmp_path):
    both = tmp_path / "both.safetensors"
    both.write_bytes(weights.read_bytes())
    run("quantize", both, "-o", both, "--report", tmp_path / "r.html")
    assert "the output took the place" in (tmp_path / "r.html").read_text()


def test_the_same_run_gives_the_same_pictures(weights):
    report = qsdk.quantize_model(str(weights), "rtn", bits=4).report
    assert render(report, {}, "x") == render(report, {}, "x")


def test_without_matplotlib_nothing_is_begun(run, weights, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    monkeypatch.setattr("qsdk.html_report.find_spec", lambda name: None)
    words = ["-o", tmp_path / "o.safetensors", "--report", tmp_path / "r.html"]
    result = run("quantize", weights, *words, status=5)
    assert result.stderr == "error: matplotlib is not installed; type: pip install 'qsdk[report]'\n"
    assert list(tmp_path.iterdir()) == []


def test_a_report_that_cannot_be_written_is_found_out_first(run, weights, tmp_path):
    words = ["-o", tmp_path / "o.safetensors", "--report", tmp_path / "no" / "r.html"]
    for dry_run in ([], ["--dry-run"]):
        assert "there is no folder" in run("quantize", weights, *words, *dry_run, status=2).stderr
    words[-1] = words[1]
    assert "the model's own file" in run("quantize", weights, *words, status=2).stderr
    words[-1] = tmp_path
    assert "is a folder" in run("quantize", weights, *words, status=2).stderr
    assert list(tmp_path.iterdir()) == []
