"""``qsdk cpu``: features, threads, which kernel would run what, and why no other would."""

from __future__ import annotations

import pytest

from qsdk import cpu, dispatch, registry

KERNEL = """
    import qsdk
    from qsdk.interfaces import Kernel

    class {name}(Kernel):
        name = "linear-{name}"
        operation = "linear"
        encoding = "affine"
        activations = frozenset({{"int8"}})
        priority = {priority}
        {words}
        def prepare(self, operation, *, threads=0):
            raise NotImplementedError

    @qsdk.hookimpl
    def qsdk_kernels():
        return [{name}]
"""


def test_it_tells_what_was_found_and_what_is_used(run, native):
    document = run("cpu", "--json").document
    assert set(document["features"]["found"]) == cpu.found()
    assert document["features"]["disabled"] == []
    assert document["features"]["used"] == document["features"]["found"]
    assert "features found: " in run("cpu").stdout


def test_a_feature_that_is_taken_away_is_told(run, native, monkeypatch):
    monkeypatch.setenv("QSDK_DISABLE_CPU_FEATURES", "extension")
    document = run("cpu", "--json").document
    assert document["features"]["disabled"] == ["extension"]
    assert "extension" not in document["features"]["used"]


def test_without_the_extension_the_portable_path_is_shown(run, without_native):
    document = run("cpu", "--json").document
    assert document["features"]["found"] == []
    running = [k for k in document["kernels"] if k["runs"]]
    assert running and all(not kernel["features"] for kernel in running)


def test_threads_are_told(run, monkeypatch):
    monkeypatch.setenv("QSDK_NUM_THREADS", "3")
    monkeypatch.setenv("OMP_NUM_THREADS", "2,1")
    threads = run("cpu", "--json").document["threads"]
    assert (threads["limit"], threads["openmp"]) == (3, 2) and threads["cpus"] >= 1
    assert "threads: at most 3 (QSDK_NUM_THREADS), and 2 of OpenMP" in run("cpu").stdout


def test_every_kernel_appears_wherever_its_declaration_fits(run):
    shown = run("cpu", "--json").document["kernels"]
    for entry in registry.entries("kernel"):
        forms = {k["activations"] for k in shown if k["kernel"] == entry.name}
        assert forms == set(map(str, entry.target.activations))


def test_what_is_said_to_run_is_what_dispatch_takes(run):
    best = {}
    for row in run("cpu", "--json").document["kernels"]:
        if row["runs"] and row["encoding"] == "affine":
            best.setdefault((row["operation"], row["activations"]), row["priority"])
    able = [c.kernel for c in dispatch.kernels() if c.can_run]
    for (operation, form), priority in best.items():
        fitting = [k for k in able if k.operation == operation and form in k.activations]
        assert priority == max(k.priority for k in fitting if k.encoding in ("*", "affine"))


def rows(start, site, *words):
    import json

    process = start("cpu", "--json", PYTHONPATH=site)
    document = json.loads(process.communicate(timeout=60)[0])
    return {
        kernel["encoding"]: kernel
        for kernel in document["kernels"]
        if kernel["kernel"] == words[0] and kernel["activations"] == "int8"
    }


def test_a_better_kernel_takes_what_it_declares_and_no_more(start, plugin):
    words = "bits = frozenset({4}); granularity = frozenset({'per_group'}); group_multiple = 32"
    site = plugin("four", KERNEL.format(name="four", priority=99, words=words))
    four = rows(start, site, "linear-four")["affine"]
    assert four["runs"]
    assert four["limits"] == "per_group; 4 bits; groups of a multiple of 32"
    whole = rows(start, site, "linear-int8-reference")["affine"]  # other widths, and no groups
    assert whole["runs"] or "linear-four" not in whole["reason"]


def test_a_kernel_that_others_beat_everywhere_is_told_with_theirs(start, plugin):
    code = KERNEL.format(name="slow", priority=0, words="granularity = frozenset({'per_tensor'})")
    site = plugin("slow", code)
    slow = rows(start, site, "linear-slow")["affine"]
    assert not slow["runs"] and slow["reason"].startswith("lower priority than linear-")


@pytest.mark.parametrize("feature", ["amx_int8", "i8mm"])
def test_a_feature_that_the_cpu_lacks_is_the_reason(start, plugin, feature):
    if feature in cpu.found():
        pytest.skip(f"this CPU has {feature}")
    code = KERNEL.format(name="fast", priority=99, words=f"features = frozenset({{{feature!r}}})")
    fast = rows(start, plugin("fast", code), "linear-fast")["affine"]
    assert not fast["runs"] and fast["reason"] == f"this CPU has no {feature}"
