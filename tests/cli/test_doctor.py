"""``qsdk doctor``: 0 when healthy, 5 when a plugin is broken, 1 when something fails."""

from __future__ import annotations

import json

import numpy as np

from qsdk.cli import selftest


def test_a_healthy_installation(run, native):
    text = run("doctor").stdout
    assert "C extension: ok" in text and "self-test: ok" in text and "all is well" in text
    assert "onnxruntime" in text and "matplotlib" in text and "squant" in text


def test_the_document(run):
    document = run("doctor", "--json").document
    assert document["healthy"] is True and document["platform"]["numpy"] == np.__version__
    plugins = {plugin["name"]: plugin for plugin in document["plugins"]}
    assert plugins["rtn"]["health"] == "ok" and plugins["rtn"]["seconds"] >= 0
    assert plugins["rtn"]["provides"] == ["qsdk:quantizer:rtn"]
    extras = {row["package"]: row["extra"] for row in document["extras"]}
    assert extras["onnx"] == "onnx" and extras["matplotlib"] == "report"
    assert "pytest" not in extras


def test_without_the_extension_it_warns(run, without_native, monkeypatch):
    monkeypatch.delenv("QSDK_REQUIRE_NATIVE", raising=False)
    text = run("doctor").stdout
    assert "C extension: warning" in text and "switched off by QSDK_DISABLE_NATIVE" in text
    assert "self-test: skipped" in text


def test_without_the_extension_it_fails_when_it_is_required(run, without_native, monkeypatch):
    monkeypatch.setenv("QSDK_REQUIRE_NATIVE", "1")
    document = run("doctor", "--json", status=1).document
    assert document["native"]["health"] == "failed" and document["healthy"] is False


def test_a_broken_plugin_is_shown_with_its_traceback(spawn, plugin):
    site = plugin("shaky", "import no_such_module\n")
    status, text, errors = spawn("doctor", PYTHONPATH=site)
    assert status == 5 and errors == ""
    assert "ModuleNotFoundError: No module named 'no_such_module'" in text
    assert "shaky.py" in text and "Traceback" in text and "squant" in text
    assert "broken: shaky:shaky (QSDK_DISABLE_PLUGINS turns one off)" in text
    status, _, _ = spawn("doctor", PYTHONPATH=site, QSDK_DISABLE_PLUGINS="shaky")
    assert status == 0


def test_strict_mode_does_not_stop_the_doctor(spawn, plugin):
    site = plugin("shaky", "1 / 0\n")
    status, text, _ = spawn("doctor", "--json", PYTHONPATH=site, QSDK_STRICT=1)
    plugins = {plugin["name"]: plugin["health"] for plugin in json.loads(text)["plugins"]}
    assert status == 5
    assert plugins.pop("shaky") == "broken" and set(plugins.values()) == {"ok"}


def test_a_self_test_that_differs_fails(run, native, monkeypatch):
    monkeypatch.setattr(selftest, "_same", lambda a, b: False)
    text = run("doctor", status=1).stdout
    assert "self-test: failed, int2 per_channel differs between C and numpy" in text


def test_the_self_test_can_see_a_difference(native, monkeypatch):
    real = native.encode_rows

    def off_by_one(*given, **words):
        scale, zero_point, packed = real(*given, **words)
        packed[0] ^= 1
        return scale, zero_point, packed

    monkeypatch.setattr(native, "encode_rows", off_by_one)
    assert selftest.self_test()["health"] == "failed"


def test_the_self_test_leaves_the_environment_as_it_was(native, monkeypatch):
    import os

    monkeypatch.delenv("QSDK_DISABLE_NATIVE", raising=False)
    selftest.self_test()
    assert "QSDK_DISABLE_NATIVE" not in os.environ and native.available()


# --isolate. With packages that pip installed, and more ways to die: tests/thirdparty.


def test_isolated_it_finds_what_it_finds_without(run):
    apart = run("doctor", "--isolate", "--json").document
    together = run("doctor", "--json").document
    assert apart.pop("isolated") is True and together.pop("isolated") is False
    for document in (apart, together):
        for plugin in document["plugins"]:
            assert plugin.pop("seconds") >= 0
    assert apart == together


def test_isolated_it_survives_a_plugin_that_ends_the_process(spawn, plugin):
    site = plugin(
        "killer", "import os, sys\nprint('bye', file=sys.stderr, flush=True)\nos._exit(7)\n"
    )
    status, text, _ = spawn("doctor", PYTHONPATH=site)
    assert (status, text) == (7, "")  # the control: without --isolate it does not survive
    status, text, errors = spawn("doctor", "--isolate", "--json", PYTHONPATH=site)
    assert status == 5 and errors == ""
    (killer,) = [p for p in json.loads(text)["plugins"] if p["name"] == "killer"]
    assert killer["health"] == "broken" and killer["traceback"] == "bye"
    assert killer["reason"] == (
        "at its import the process ended with exit status 7; "
        "QSDK_DISABLE_PLUGINS=killer keeps it from being imported"
    )


def test_isolated_no_plugin_of_others_is_imported_in_this_process(start, plugin, tmp_path):
    code = (
        "import os, qsdk\nfrom qsdk_plugins.rtn import RoundToNearest\n"
        f"open({str(tmp_path / 'pids')!r}, 'a').write(f'{{os.getpid()}}\\n')\n"
        "class Squant(RoundToNearest):\n    name = 'squant'\n"
        "@qsdk.hookimpl\ndef qsdk_quantizers(): return [Squant]\n"
    )
    process = start("doctor", "--isolate", "--json", PYTHONPATH=plugin("squant", code))
    document = json.loads(process.communicate(timeout=60)[0])
    pids = (tmp_path / "pids").read_text().split()
    assert pids and str(process.pid) not in pids
    assert document["conflicts"] == [
        "quantizer 'squant': qsdk:quantizer:squant 0.1.0 and squant:quantizer:squant 1.5"
    ]
    assert document["self_test"]["health"] in ("ok", "skipped")


def test_isolated_advice_names_the_distribution_where_the_name_is_not_enough(spawn, plugin):
    site = plugin("rtn", "1 / 0\n")
    status, text, _ = spawn("doctor", "--isolate", "--json", PYTHONPATH=site)
    found = {p["distribution"]: p for p in json.loads(text)["plugins"] if p["name"] == "rtn"}
    assert status == 5 and found["qsdk"]["health"] == "ok"
    assert "ZeroDivisionError" in found["rtn"]["reason"]
    assert "QSDK_DISABLE_PLUGINS=rtn:rtn keeps" in found["rtn"]["reason"]


def test_a_time_limit_without_isolation_is_wrong_use(run):
    assert (
        "--timeout limits the processes of --isolate"
        in run("doctor", "--timeout", 3, status=2).stderr
    )
    run("doctor", "--isolate", "--timeout", 0, status=2)
