"""A stranger's package: pip installs it, and qsdk has a thing more of almost every kind.

Nothing in the core knows of it, and nothing about its encoding is affine.
"""

from __future__ import annotations

import ast
import json
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parent / "qsdk-codebook" / "qsdk_codebook"
ALLOWED = {
    "qsdk",
    "qsdk.interfaces",
    "qsdk.encodings",
    "qsdk.metrics",
    "qsdk.native",
    "qsdk.errors",
}


def test_qsdk_and_the_package_come_from_their_wheels(with_codebook):
    printed = with_codebook.run(
        "import qsdk, qsdk_plugins, qsdk_codebook\n"
        "for module in (qsdk, qsdk_plugins, qsdk_codebook): print(module.__file__)"
    )
    assert len(printed.split()) == 3
    for path in printed.split():
        assert Path(path).is_relative_to(with_codebook.folder), path


def test_the_c_extension_is_in_the_wheel(with_codebook, native):
    assert with_codebook.run("from qsdk import native; print(native.available())") == "True\n"


def test_the_package_imports_only_what_a_plugin_may():
    for path in PACKAGE.glob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.ImportFrom) and node.module.split(".")[0] == "qsdk":
                assert node.module in ALLOWED, (path.name, node.module)
            if isinstance(node, ast.Import):
                names = {alias.name for alias in node.names}
                assert not {name for name in names if name.startswith("qsdk.")}, path.name


def test_the_registry_builds_what_it_brings_and_imports_nothing_else_for_it(with_codebook):
    printed = with_codebook.run("""
        import sys, qsdk
        kmeans = qsdk.registry.get("kmeans", bits=4)
        print(kmeans.scheme.bits, type(kmeans).__module__, qsdk.registry.find("kmeans").full_name)
        print(sorted(name for name in sys.modules if name.startswith("qsdk_plugins.")))
        print(qsdk.registry.get("encoding:codebook").name, qsdk.registry.get("absmax").mergeable)
    """)
    assert printed.splitlines() == [
        "4 qsdk_codebook.kmeans qsdk-codebook:quantizer:kmeans",
        "[]",
        "codebook True",
    ]


def test_list_shows_it_beside_the_built_ins(with_codebook):
    entries = with_codebook.qsdk("list", "--json").document["entries"]
    found = {(e["kind"], e["name"]): (e["distribution"], e["version"]) for e in entries}
    ours = {"quantizer": "kmeans", "encoding": "codebook", "observer": "absmax"}
    for key in [*ours.items(), ("kernel", "linear-codebook")]:
        assert found[key] == ("qsdk-codebook", "2.1")
    assert found["quantizer", "squant"][0] == found["quantizer", "rtn"][0] == "qsdk"
    lines = map(str.split, with_codebook.qsdk("list").stdout.splitlines())
    assert ["quantizer", "kmeans", "qsdk-codebook", "2.1", "ok"] in lines


def test_describe_tells_its_options_with_their_limits(with_codebook):
    document = with_codebook.qsdk("describe", "kmeans", "--json").document
    options = {option["name"]: option for option in document["options"]}
    assert document["full_name"] == "qsdk-codebook:quantizer:kmeans"
    assert document["bits"] == [2, 3, 4, 5, 6, 7, 8]
    assert options["iterations"]["limits"] == ">= 1" and options["iterations"]["default"] == 20
    assert options["iterations"]["meaning"].startswith("at most so many")
    assert (
        "kmeans: quantizer of qsdk-codebook 2.1" in with_codebook.qsdk("describe", "kmeans").stdout
    )


def test_doctor_finds_it_healthy(with_codebook):
    document = with_codebook.qsdk("doctor", "--isolate", "--json").document
    ours = [p for p in document["plugins"] if p["distribution"] == "qsdk-codebook"]
    assert [p["health"] for p in ours] == ["ok"] * 4
    (kernel,) = [k for k in document["kernels"] if k["name"] == "linear-codebook"]
    assert kernel["health"] == "ok"
    assert document["healthy"] and document["isolated"]


@pytest.mark.parametrize("name", ["kmeans", "encoding:codebook", "absmax", "linear-codebook"])
def test_it_keeps_the_contract(with_codebook, name):
    document = with_codebook.qsdk("check", name, "--json").document
    (result,) = document["results"]
    assert document["ok"] and result["full_name"].startswith("qsdk-codebook:")
    assert result["counts"]["passed"] > 20 and result["counts"]["failed"] == 0


def test_its_kernel_runs_its_encoding(with_codebook):
    printed = with_codebook.run("""
        import numpy as np, qsdk
        rng = np.random.default_rng(0)
        weight, x = rng.normal(size=(5, 40)), rng.normal(size=(3, 40)).astype(np.float32)
        for words in ({}, {"granularity": "per_tensor"}):
            q = qsdk.registry.get("kmeans", bits=3, **words).quantize(weight)
            layer = qsdk.linear(q, bias=np.arange(5))
            expected = x.astype(np.float64) @ q.dequantize().T.astype(np.float64) + np.arange(5)
            assert np.allclose(layer(x), expected, rtol=1e-6, atol=1e-6)
            print(layer.kernel.name)
        print(qsdk.linear(q, activations="int8").kernel.name)
        print(qsdk.linear(q, kernel="linear-simulated").kernel.name)
    """)
    ours, simulated = ["linear-codebook"] * 2, ["linear-simulated"] * 2
    assert printed.split() == [*ours, *simulated]


def test_the_list_of_kernels_and_the_cpu_show_its_kernel(with_codebook):
    assert "linear-codebook" in with_codebook.qsdk("list", "kernel").stdout
    rows = with_codebook.qsdk("cpu", "--json").document["kernels"]
    found = {(k["kernel"], k["runs"]) for k in rows if k["encoding"] == "codebook"}
    assert ("linear-codebook", True) in found


# What it computes


def test_six_weights_worked_by_hand(with_codebook):
    printed = with_codebook.run("""
        import numpy as np, qsdk
        q = qsdk.registry.get("kmeans", bits=2).quantize(np.float32([[1, 2, 5, 10, 12, 20]]))
        print(*(x.tolist() for x in (q.table, q.codes, q.packed, q.dequantize())), sep="\\n")
    """)
    # quantile starts 1, 5, 10, 20: {1, 2} {5} {10, 12} {20} and their means
    table, codes, packed, values = printed.splitlines()
    assert (table, codes) == ("[[1.5, 5.0, 11.0, 20.0]]", "[[0, 0, 1, 2, 2, 3]]")
    assert packed == str([0b10_01_00_00, 0b11_10])
    assert values == "[[1.5, 1.5, 5.0, 11.0, 11.0, 20.0]]"


def test_it_obeys_the_policy_for_ugly_data(with_codebook):
    with_codebook.run("""
        import numpy as np, qsdk
        rng = np.random.default_rng(0)
        for bits in range(2, 9):
            for words in ({"granularity": "per_tensor"}, {}, {"axis": -1}):
                quantizer = qsdk.registry.get("kmeans", bits=bits, **words)
                for shape in [(3, 4), (4, 2, 3, 3), (1,), (7, 1), (0, 3), (3, 0), (0,)]:
                    weight = rng.normal(size=shape)
                    q = quantizer.quantize(weight)
                    assert q.dequantize().shape == shape and q.dequantize().dtype == np.float32
                    again = type(q).from_arrays(*q.arrays())
                    assert np.array_equal(again.dequantize(), q.dequantize())
                for value in (0.0, 0.1, -3.4e38, 1e-45):
                    weight = np.full((3, 5), value, np.float32)
                    assert np.array_equal(quantizer.quantize(weight).dequantize(), weight), value
        weight = np.zeros((2, 9), np.float32)
        weight[1] = rng.normal(size=9)
        assert not qsdk.registry.get("kmeans", bits=3).quantize(weight).dequantize()[0].any()
        huge = (rng.normal(size=(2, 50)) * 1e38).clip(-3e38, 3e38)
        assert np.isfinite(qsdk.registry.get("kmeans").quantize(huge).dequantize()).all()
        try:
            qsdk.registry.get("kmeans", granularity="per_group", group_size=8)
        except qsdk.errors.SchemeError as error:
            assert "kmeans takes per_channel, per_tensor, not per_group" in str(error)
    """)


def test_it_beats_an_even_grid_on_bell_shaped_weights(with_codebook):
    printed = with_codebook.run("""
        import numpy as np, qsdk
        weight = np.random.default_rng(1).laplace(size=(16, 400)).astype(np.float32)
        for name in ("kmeans", "rtn"):
            values = qsdk.registry.get(name, bits=4).quantize(weight).dequantize()
            print(qsdk.metrics.sqnr_db(weight, values))
    """)
    kmeans, rtn = map(float, printed.split())
    assert kmeans > rtn + 1


DAMAGE = {
    "no packed": 'del arrays["packed"]',
    "short packed": 'arrays["packed"] = arrays["packed"][1:]',
    "signed packed": 'arrays["packed"] = arrays["packed"].view(np.int8)',
    "wide table": 'arrays["table"] = arrays["table"].astype(np.float64)',
    "long table": 'arrays["table"] = np.zeros((2, 32), np.float32)',
    "few tables": 'arrays["table"] = arrays["table"][:1]',
    "nan": 'arrays["table"] = arrays["table"] * np.float32("nan")',
    "descending": 'arrays["table"] = arrays["table"][:, ::-1]',
    "no bits": 'del values["bits"]',
    "text for bits": 'values["bits"] = "4"',
    "many bits": 'values["bits"] = 9',
    "groups": 'values["granularity"] = "per_group"',
    "no axis": 'values["axis"] = 2',
    "negative shape": 'values["shape"] = [-2, 9]',
    "broken shape": 'values["shape"] = [2.0, 9]',
    "endless shape": 'values["shape"] = [2**40, 2**40]',
    "65 axes": 'values["shape"] = [2, 9] + [1] * 63',
    "no shape": 'values["shape"] = None',
}


def test_its_encoding_refuses_what_no_quantizer_writes(with_codebook):
    code = """
        import json, sys
        import numpy as np, qsdk
        weight = np.random.default_rng(0).normal(size=(2, 9)).astype(np.float32)
        q = qsdk.registry.get("kmeans", bits=4).quantize(weight)
        for name, damage in json.loads(sys.argv[1]).items():
            arrays, values = q.arrays()
            exec(damage)
            try:
                type(q).from_arrays(arrays, values)
            except qsdk.errors.EncodingError as error:
                print(name, "|", error)
            else:
                print(name, "was taken")
    """
    printed = with_codebook.run(code, json.dumps(DAMAGE)).splitlines()
    assert [line.partition(" | ")[0] for line in printed] == list(DAMAGE)


def test_its_observer_is_a_monoid(with_codebook):
    with_codebook.run("""
        import numpy as np, qsdk
        rng = np.random.default_rng(0)
        batches = [rng.normal(size=(n, 3)).astype(np.float32) for n in (5, 0, 2, 9)]
        for axis in (None, 1):
            def observed(*of):
                observer = qsdk.registry.get("observer:absmax", axis=axis)
                for batch in of:
                    observer.observe(batch)
                return observer
            whole = observed(*batches)
            halves = observed(*batches[2:]).merge(observed(*batches[:2])).merge(observed())
            assert all(map(np.array_equal, whole.range(), halves.range()))
            assert all(map(np.array_equal, whole.range(), (-whole.range()[1], whole.range()[1])))
            copy = observed()
            copy.load_state(whole.state())
            assert all(map(np.array_equal, copy.params(qsdk.Scheme()), whole.params(qsdk.Scheme())))
    """)
