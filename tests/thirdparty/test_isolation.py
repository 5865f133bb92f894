"""``qsdk doctor --isolate`` beside plugins that take the whole process with them."""

from __future__ import annotations

import re
import time

import pytest
import zoo

LIMIT = 6  # seconds; what is healthy takes half a second where nothing else runs
NAMES = {package.entry_point: package for package in zoo.KILLERS}


@pytest.fixture(scope="module")
def installed(environment_of, wheels, tmp_path_factory):
    """qsdk, a good package, and every killer."""
    folder = tmp_path_factory.mktemp("killer-wheels")
    killers = [zoo.wheel_of(package, folder) for package in zoo.KILLERS]
    return environment_of("killers", *wheels.values(), *killers)


@pytest.fixture(scope="module")
def examined(installed):
    words = ["doctor", "--isolate", "--timeout", LIMIT, "--json"]
    start = time.monotonic()
    document = installed.qsdk(*words, status=5, ZOO_PID=installed.work / "pid").document
    document["took"] = time.monotonic() - start
    return document


@pytest.fixture(scope="module")
def without_it(installed):
    """What the doctor prints where the plugin that hangs is disabled, and how long it took."""
    words = ["doctor", "--isolate", "--timeout", LIMIT]
    start = time.monotonic()
    text = installed.qsdk(*words, status=5, QSDK_DISABLE_PLUGINS="hangs").stdout
    return {"text": text, "took": time.monotonic() - start}


@pytest.mark.parametrize("name", NAMES)
def test_it_survives_and_says_what_happened_and_what_to_do(examined, name):
    (found,) = [p for p in examined["plugins"] if p["name"] == name]
    package = NAMES[name]
    assert found["health"] == "broken" and package.reason in found["reason"]
    assert f"QSDK_DISABLE_PLUGINS={name}" in found["reason"]
    assert (found["distribution"], found["version"]) == (package.distribution, package.version)


@pytest.mark.parametrize("name", ["crashes", "aborts", "hangs"])
def test_it_shows_the_line_where_that_happened(examined, name):
    (found,) = [p for p in examined["plugins"] if p["name"] == name]
    assert re.search(rf"zoo_{name}.py\", line \d", found["traceback"])


def test_it_finds_the_others_healthy(examined):
    others = {p["name"]: p["health"] for p in examined["plugins"] if p["name"] not in NAMES}
    assert {"rtn", "squant", "kmeans", "onnx", "minmax"} <= set(others)
    assert set(others.values()) == {"ok"}
    assert examined["self_test"]["health"] in ("ok", "skipped") and examined["conflicts"] == []


def test_it_takes_little_longer_than_the_one_that_hangs(examined, without_it):
    assert LIMIT <= examined["took"] < without_it["took"] + 3 * LIMIT


def test_the_table_is_for_people_too(without_it):
    text = without_it["text"]
    assert "at its import the process was killed by SIGSEGV" in text
    assert "broken: zoo-aborts:aborts, zoo-crashes:crashes, " in text


@pytest.mark.parametrize("name", ["dies", "leaves", "crashes", "aborts"])
def test_without_isolation_the_same_plugin_ends_the_doctor(installed, name):
    others = ",".join(other for other in NAMES if other != name)
    result = installed.qsdk("doctor", status=None, QSDK_DISABLE_PLUGINS=others)
    assert result.stdout == ""


def test_who_follows_the_advice_is_healthy(installed, examined):
    advice = [p["reason"] for p in examined["plugins"] if p["health"] == "broken"]
    names = ",".join(text.split("QSDK_DISABLE_PLUGINS=")[1].split()[0] for text in advice)
    assert installed.qsdk("doctor", "--json", QSDK_DISABLE_PLUGINS=names).document["healthy"]
    assert installed.qsdk("list", "--json", QSDK_DISABLE_PLUGINS=names).document["entries"]


def test_a_disabled_plugin_is_not_tried(installed):
    names = ",".join(name for name in NAMES if name != "dies")
    words = ["doctor", "--isolate", "--json"]
    document = installed.qsdk(*words, status=5, QSDK_DISABLE_PLUGINS=names).document
    found = {p["name"]: p["health"] for p in document["plugins"] if p["name"] in NAMES}
    assert found.pop("dies") == "broken" and set(found.values()) == {"disabled"}


def test_what_a_hanging_plugin_started_is_ended_too(installed, examined):
    assert not _runs(int((installed.work / "pid").read_text()))


def _runs(pid):
    """Whether a process does anything still; one that nobody has reaped does not."""
    try:
        with open(f"/proc/{pid}/stat", encoding="utf-8") as file:
            return file.read().rpartition(")")[2].split()[0] not in ("Z", "X")
    except OSError:
        return False
