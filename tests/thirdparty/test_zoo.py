"""Bad packages installed beside each other: everything else works, and each fault is named."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import zoo

import qsdk

DEMO = Path(qsdk.__file__).parent / "demo"
BROKEN = {package.entry_point: package for package in zoo.BROKEN}


@pytest.fixture(scope="module")
def installed(environment_of, wheels, tmp_path_factory):
    """qsdk, a good package, and the whole zoo."""
    folder = tmp_path_factory.mktemp("zoo-wheels")
    bad = [zoo.wheel_of(package, folder) for package in [*zoo.BROKEN, *zoo.ODD]]
    return environment_of("zoo", *wheels.values(), *bad)


@pytest.fixture(scope="module")
def listed(installed):
    """What ``qsdk list --json`` says of them all."""
    return installed.qsdk("list", "--json").document


@pytest.fixture(scope="module")
def examined(installed):
    """What ``qsdk doctor --json`` says of them all."""
    return installed.qsdk("doctor", "--json", status=5).document


@pytest.mark.parametrize("method", ["squant", "qsdk:rtn", "kmeans"])
def test_every_good_quantizer_still_works(installed, method):
    pytest.importorskip("onnx", reason="the extra onnx is not installed")
    target = installed.work / f"{method.replace(':', '-')}.onnx"
    words = ["-o", target, "--method", method, "--bits", 4, "--json"]
    report = installed.qsdk("quantize", DEMO / "digits.onnx", *words).document
    assert len(report["layers"]) == 15 and target.exists()


def test_every_built_in_still_builds(installed):
    printed = installed.run("""
        import qsdk
        for entry in qsdk.registry.entries():
            if entry.distribution == "qsdk":
                qsdk.registry.get(entry.full_name)
                print(entry.kind, entry.name)
    """)
    ours = {(e.kind, e.name) for e in qsdk.registry.entries() if e.distribution == "qsdk"}
    assert {tuple(line.split()) for line in printed.splitlines()} >= ours


@pytest.mark.parametrize("name", BROKEN)
def test_list_names_each_broken_one_with_its_version_and_reason(listed, name):
    (found,) = [p for p in listed["unhealthy"] if p["name"] == name]
    package = BROKEN[name]
    assert found["health"] == "broken" and package.reason in found["reason"]
    assert (found["distribution"], found["version"]) == (package.distribution, package.version)


def test_list_names_no_good_one_as_broken(listed):
    assert {p["name"] for p in listed["unhealthy"]} == set(BROKEN)


@pytest.mark.parametrize("name", BROKEN)
def test_doctor_names_each_broken_one_with_its_traceback(examined, name):
    (found,) = [p for p in examined["plugins"] if p["name"] == name]
    package = BROKEN[name]
    assert found["health"] == "broken" and package.reason in found["reason"]
    assert (found["distribution"], found["version"]) == (package.distribution, package.version)
    assert "Traceback" in found["traceback"]


@pytest.mark.parametrize("name", BROKEN)
def test_isolated_doctor_says_the_same(installed, examined, isolated, name):
    (apart,) = [p for p in isolated["plugins"] if p["name"] == name]
    (together,) = [p for p in examined["plugins"] if p["name"] == name]
    assert apart["reason"].startswith(together["reason"])
    assert apart["reason"].endswith(f"; QSDK_DISABLE_PLUGINS={name} keeps it from being imported")


@pytest.fixture(scope="module")
def isolated(installed):
    return installed.qsdk("doctor", "--isolate", "--timeout", 30, "--json", status=5).document


def test_isolated_doctor_finds_the_same_conflicts(examined, isolated):
    assert sorted(isolated["conflicts"]) == sorted(examined["conflicts"])


@pytest.fixture(scope="module")
def refusals(installed):
    """What ``registry.get`` raises for each broken name."""
    code = """
        import json, sys, qsdk
        refusals = {}
        for name in sys.argv[1:]:
            try:
                qsdk.registry.get(name)
            except qsdk.errors.PluginError as error:
                refusals[name] = str(error)
        print(json.dumps(refusals))
    """
    return json.loads(installed.run(code, *BROKEN))


@pytest.mark.parametrize("name", BROKEN)
def test_asking_for_a_broken_one_raises_its_reason(refusals, name):
    package = BROKEN[name]
    start = f"plugin '{name}' of {package.distribution} {package.version} is broken: "
    assert refusals[name].startswith(start) and package.reason in refusals[name]


def test_the_command_line_says_it_in_one_line(installed):
    result = installed.qsdk("describe", "raises", status=5)
    assert "zoo-raises 0.1 is broken: OSError: libfoo is missing" in result.stderr
    assert result.stderr.count("\n") == 1 and result.stdout == ""


def test_two_distributions_of_one_name_are_both_named(installed, listed, examined):
    claims = {c["name"]: c["claims"] for c in listed["conflicts"]}
    assert claims["twin"] == ["zoo-twin-one:quantizer:twin", "zoo-twin-two:quantizer:twin"]
    text = "quantizer 'twin': zoo-twin-one:quantizer:twin 1.0 and zoo-twin-two:quantizer:twin 2.0"
    assert text in examined["conflicts"]
    refused = installed.qsdk("describe", "twin", status=2).stderr
    assert "'twin' is claimed by zoo-twin-one 1.0 and zoo-twin-two 2.0" in refused
    assert "ask for zoo-twin-one:twin or zoo-twin-two:twin" in refused
    assert "quantizer of zoo-twin-two 2.0" in installed.qsdk("describe", "zoo-twin-two:twin").stdout


def test_a_built_in_is_not_shadowed_from_under_another_entry_point(installed, listed):
    claims = {c["name"]: c["claims"] for c in listed["conflicts"]}
    assert claims["squant"] == ["aaa-thief:quantizer:squant", "qsdk:quantizer:squant"]
    assert "squant: quantizer of qsdk 0.1.0" in installed.qsdk("describe", "squant").stdout


def test_a_built_in_is_not_shadowed_under_its_own_entry_point(installed, listed):
    claims = {c["name"]: c["claims"] for c in listed["conflicts"]}
    assert claims["rtn"] == ["aaa-usurper:quantizer:rtn", "qsdk:quantizer:rtn"]
    refused = installed.qsdk("describe", "rtn", status=2).stderr
    assert "'rtn' is claimed by aaa-usurper 4.0 and qsdk 0.1.0" in refused
    assert "ask for aaa-usurper:rtn or qsdk:rtn" in refused
    settled = installed.qsdk("describe", "rtn", QSDK_DISABLE_PLUGINS="aaa-usurper:rtn").stdout
    assert "rtn: quantizer of qsdk 0.1.0" in settled


def test_what_one_prints_stays_off_standard_output(installed):
    result = installed.qsdk("list", "--json")  # parsed as it is
    assert "hello from prints" not in result.stdout and "hello from prints" in result.stderr


def test_a_slow_one_is_timed_and_costs_nothing_where_another_is_asked_for(installed, examined):
    (slow,) = [p for p in examined["plugins"] if p["name"] == "slow"]
    assert slow["health"] == "ok" and 2 <= slow["seconds"] < 10
    imported = installed.run("""
        import sys, qsdk
        for name in ("squant", "minmax", "kmeans"):
            qsdk.registry.get(name)
        print(*(name for name in sys.modules if name.startswith(("zoo_", "aaa_"))))
    """)
    assert imported == "\n"


def test_strict_makes_a_broken_plugin_an_error(installed):
    result = installed.qsdk("list", status=5, QSDK_STRICT=1)
    assert result.stdout == "" and "is broken: " in result.stderr
    assert any(package.reason in result.stderr for package in zoo.BROKEN)
    code = 'import qsdk; print(qsdk.registry.get("qsdk:squant", bits=4).name)'
    assert installed.run(code, QSDK_STRICT=1) == "squant\n"  # it asks for none of them


def test_disabled_plugins_are_not_imported_and_strict_is_content(installed):
    names = ["aaa-usurper:rtn", "twin", "helper", "prints", "slow", *BROKEN]
    words = {"QSDK_DISABLE_PLUGINS": ",".join(names), "QSDK_STRICT": 1}
    result = installed.qsdk("list", "--json", **words)
    assert {p["health"] for p in result.document["unhealthy"]} == {"disabled"}
    assert len(result.document["unhealthy"]) == len(names) + 1  # "twin" names two
    assert result.document["conflicts"] == [] and result.stderr == ""
    assert installed.qsdk("doctor", "--json", **words).document["healthy"]
    refused = installed.qsdk("describe", "raises", status=5, **words).stderr
    assert "is disabled: named in QSDK_DISABLE_PLUGINS" in refused


def test_a_zoo_beside_does_not_change_what_is_computed(installed, with_codebook):
    weight = np.random.default_rng(5).normal(size=(6, 40)).astype(np.float32)
    codes = []
    for environment in (installed, with_codebook):
        np.savez(environment.work / "weights.npz", fc=weight)
        words = ["weights.npz", "-o", "codes.safetensors", "--method", "squant"]
        environment.qsdk("quantize", *words)
        codes.append((environment.work / "codes.safetensors").read_bytes())
    assert codes[0] == codes[1]
