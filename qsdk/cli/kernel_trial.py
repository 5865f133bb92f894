"""Every kernel against its reference, in a process of its own: a crash there is a finding here.

One process tries kernel after kernel and says in a file where it is. When it dies or stands
still, the kernel that it was at is to blame, and another process goes on with the rest.
"""

from __future__ import annotations

import itertools
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from qsdk.cli.isolation import ending_of

CHILD = (
    "import json, sys; sys.path[:] = json.loads(sys.argv[1]); "
    "from qsdk.cli.kernel_trial import tell; tell(*sys.argv[2:])"
)
OK, SKIPPED, WRONG = "ok", "skipped", "quarantined"
SECONDS = 20.0  # without a word from the process, which takes a second for a kernel
INPUTS = 1  # of each family, for every form that a kernel takes


def findings(names: Sequence[str], disabled: Sequence[str] = ()) -> dict[str, tuple[str, str]]:
    """Full name of each kernel -> (ok, skipped or quarantined; the reason).

    disabled : plugins that the process must not import, by their full names
    """
    found: dict[str, tuple[str, str]] = {}
    while left := [name for name in names if name not in found]:
        found.update(_one_process(left, disabled))
    return found


def _one_process(names: Sequence[str], disabled: Sequence[str]) -> dict[str, tuple[str, str]]:
    """What one process came to; at least the first kernel has a finding then."""
    variables = [os.environ.get("QSDK_DISABLE_PLUGINS", ""), *disabled]
    environment = {**os.environ, "QSDK_DISABLE_PLUGINS": ",".join(filter(None, variables))}
    with tempfile.TemporaryDirectory(prefix="qsdk-doctor-") as folder:
        told = Path(folder, "told")
        told.touch()
        process = subprocess.Popen(
            [sys.executable, "-c", CHILD, json.dumps(sys.path), str(told), *names],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
            env=environment,
        )
        ending = _watch(process, told)
        lines = [json.loads(line) for line in told.read_text(encoding="utf-8").splitlines()]
    found = {name: (health, reason) for name, health, reason in lines if health != "begins"}
    unfinished = [name for name, health, _ in lines if health == "begins" and name not in found]
    if unfinished or not found:
        culprit = unfinished[0] if unfinished else names[0]
        found[culprit] = (WRONG, f"the process that tried it {ending}")
    return found


def _watch(process: subprocess.Popen[bytes], told: Path) -> str:
    """How the process ended, in words; it is ended when it says nothing for too long."""
    size, since = 0, time.monotonic()
    while process.poll() is None and time.monotonic() - since < SECONDS:
        time.sleep(0.01)
        if told.stat().st_size != size:
            size, since = told.stat().st_size, time.monotonic()
    if process.poll() is None:
        process.send_signal(signal.SIGKILL)
        ending_of(process, 0)
        return f"said nothing for {SECONDS:g} s"
    return ending_of(process, 0)


# -- In the child


def tell(target: str, *names: str) -> None:
    """What the child does: try kernels, and write a line before and after each."""
    import resource  # not on every platform, and needed by none but this process

    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))  # a crash leaves no file behind
    with open(target, "a", encoding="utf-8") as file:
        for name in names:
            for line in _told(name):
                file.write(json.dumps([name, *line]) + "\n")
                file.flush()


def _told(name: str) -> Any:
    yield "begins", ""
    try:
        yield trial(name)
    except Exception as error:
        yield WRONG, f"{type(error).__name__}: {error}"


def trial(name: str) -> tuple[str, str]:
    """(ok, skipped or quarantined; how many inputs, or the reason) of one kernel, tried here."""
    from qsdk.registry import find
    from qsdk.testing import ContractBroken
    from qsdk.testing.check import NotApplicable
    from qsdk.testing.kernels.cases import CONTRACT
    from qsdk.testing.subject import subject_of

    subject = subject_of(find(name))
    reason = subject.build().unavailable()
    if reason:
        return SKIPPED, reason
    tried = 0
    for case in CONTRACT.cases(subject):
        for array in _arrays(case):
            try:
                _try(case, array)
            except NotApplicable:
                continue
            except ContractBroken as error:
                return WRONG, f"{error} ({case.title})"
            tried += 1
    return (OK, f"{tried} inputs") if tried else (SKIPPED, "nothing to compare it with")


def _arrays(case: Any) -> Any:
    from qsdk.testing.kernels import inputs

    if "bench" not in case.facts:
        return
    for family in (inputs.some, inputs.extremes):
        for _, array in itertools.islice(family(case), INPUTS):
            yield array


def _try(case: Any, array: Any) -> None:
    """One input at the end of readable memory, into an output at the end of its own."""
    from qsdk.cli.guard_page import at_page_end
    from qsdk.testing.kernels.expected import require_right

    bench = case.facts["bench"]
    operation, x = bench.job(array)
    layer = bench.kernel.prepare(operation, threads=2)
    out = at_page_end(layer(x))
    out.fill(0)
    layer(at_page_end(x), out=out)
    require_right(bench.kernel, operation, x, out)
