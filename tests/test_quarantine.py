"""The quarantine: what it holds is for one kernel, version and CPU, and it survives damage."""

from __future__ import annotations

import json
import os
import sys

import pytest

from qsdk import cpu, quarantine

NAME, VERSION = "mine:kernel:linear-fast", "1.2"


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    monkeypatch.setenv("QSDK_CACHE_DIR", str(tmp_path / "cache"))
    return tmp_path / "cache"


def put(reason="it crashed", name=NAME, version=VERSION):
    return quarantine.note({(name, version): reason})


def test_what_is_noted_is_the_reason():
    assert quarantine.reason(NAME, VERSION) == ""
    assert put()
    assert quarantine.reason(NAME, VERSION) == (
        "in quarantine, because `qsdk doctor` found: it crashed"
    )


def test_it_holds_for_one_name_and_version():
    put()
    assert quarantine.reason(NAME, "1.3") == ""
    assert quarantine.reason("other:kernel:linear-fast", VERSION) == ""


def test_it_holds_for_one_kind_of_cpu(monkeypatch):
    put()
    found = cpu.found()
    monkeypatch.setattr(cpu, "found", lambda: found ^ {"i8mm"})
    assert quarantine.reason(NAME, VERSION) == ""
    put("it differs")
    monkeypatch.undo()


def test_findings_of_another_cpu_are_kept(monkeypatch):
    put()
    found = cpu.found()
    with monkeypatch.context() as patch:
        patch.setattr(cpu, "found", lambda: found ^ {"i8mm"})
        put("it differs")
        assert "it differs" in quarantine.reason(NAME, VERSION)
    assert "it crashed" in quarantine.reason(NAME, VERSION)


def test_a_sound_kernel_comes_out_and_others_stay():
    put()
    put("it hangs", "mine:kernel:other")
    assert put("")
    assert quarantine.reason(NAME, VERSION) == ""
    assert "it hangs" in quarantine.reason("mine:kernel:other", VERSION)


def test_nothing_is_written_where_nothing_changes(folder):
    assert not put("")
    assert not folder.exists()
    put()
    before = quarantine.path().stat().st_mtime_ns
    assert not put()
    assert quarantine.path().stat().st_mtime_ns == before


def test_it_leaves_one_file_that_is_json(folder):
    put()
    assert [path.name for path in folder.iterdir()] == ["quarantine.json"]
    document = json.loads(quarantine.path().read_text("utf-8"))
    assert document == {"machines": {quarantine.machine(): {f"{NAME} {VERSION}": "it crashed"}}}


DAMAGED = ["", "{", "[]", '{"machines": []}', '{"machines": {"a": 1}}', '"text"', "\x00"]


@pytest.mark.parametrize("text", DAMAGED)
def test_a_damaged_file_holds_nothing_and_is_replaced(folder, text):
    folder.mkdir()
    quarantine.path().write_text(text)
    assert quarantine.reason(NAME, VERSION) == ""
    assert put() and "it crashed" in quarantine.reason(NAME, VERSION)


def test_a_file_that_cannot_be_written_is_an_error_and_leaves_nothing(folder, monkeypatch):
    folder.write_text("in the way")
    with pytest.raises(OSError):
        put()
    assert folder.read_text() == "in the way"


def test_the_folder_is_that_of_the_users_cache(monkeypatch, tmp_path):
    monkeypatch.delenv("QSDK_CACHE_DIR")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    if sys.platform != "win32":
        assert quarantine.path() == tmp_path / "qsdk" / "quarantine.json"
        monkeypatch.delenv("XDG_CACHE_HOME")
        monkeypatch.setenv("HOME", str(tmp_path))
        assert quarantine.path() == tmp_path / ".cache" / "qsdk" / "quarantine.json"


def test_the_tests_never_write_into_the_users_cache():
    assert os.environ["QSDK_CACHE_DIR"]
