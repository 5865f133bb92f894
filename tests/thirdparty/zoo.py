"""Packages that nobody should write: what can be wrong with a plugin, one package for each.

``wheel_of`` makes a real wheel of one, without a build, for pip to install.
"""

from __future__ import annotations

import zipfile
from pathlib import Path

import attrs

GOOD = """
import numpy as np
import qsdk

class Good(qsdk.AffineQuantizer):
    name = {name!r}
    capabilities = qsdk.Capabilities(bits={{4, 8}})

    def round(self, rows, scale, zero_point, kernel_size):
        codes = np.rint(rows / scale[:, None]) + zero_point[:, None]
        return codes.clip(self.scheme.qmin, self.scheme.qmax).astype(self.scheme.dtype)

@qsdk.hookimpl
def qsdk_quantizers():
    return [Good]
"""
HOOK = "import qsdk\n@qsdk.hookimpl\ndef {hook}:\n    return {given}\n"
KERNEL = """
import qsdk

class Zoo(qsdk.Kernel):
    name = "linear-zoo"
    operation = "linear"
    encoding = "affine"
    activations = frozenset({{"int8"}})
    {words}
    def prepare(self, operation, *, threads=0):
        raise NotImplementedError

@qsdk.hookimpl
def qsdk_kernels():
    return [Zoo]
"""


@attrs.frozen(kw_only=True)
class Package:
    """A distribution with one module and one entry point.

    reason : what qsdk must say of it; empty for a plugin that loads
    """

    distribution: str
    version: str
    entry_point: str
    code: str
    reason: str = ""

    @property
    def module(self) -> str:
        return self.distribution.replace("-", "_")


def package(entry_point: str, version: str, code: str, reason: str = "", distribution: str = ""):
    return Package(
        distribution=distribution or f"zoo-{entry_point}",
        version=version,
        entry_point=entry_point,
        code=code,
        reason=reason,
    )


# Each of these is kept apart, with its reason.
BROKEN = [
    package("raises", "0.1", "raise OSError('libfoo is missing')", "OSError: libfoo is missing"),
    package("exits", "0.2", "import sys\nsys.exit(3)", "SystemExit: 3"),
    package(
        "lacks", "0.3", "import a_package_nobody_has",
        "ModuleNotFoundError: No module named 'a_package_nobody_has'",
    ),
    package(
        "wrong-type", "0.4", HOOK.format(hook="qsdk_quantizers()", given="[dict]"),
        "qsdk_quantizers gave <class 'dict'>; give subclasses of Quantizer",
    ),
    package(
        "no-list", "0.5", HOOK.format(hook="qsdk_observers()", given="'minmax'"),
        "qsdk_observers gave 'minmax'; give a list of classes",
    ),
    package(
        "contract", "0.6", f"qsdk_contract = 99\n{GOOD.format(name='contract')}",
        "it was written for contract version 99, and this qsdk has 1",
    ),
    package(
        "kernel-type", "0.11", HOOK.format(hook="qsdk_kernels()", given="[qsdk.Quantizer]"),
        "Quantizer'>; give subclasses of Kernel",
    ),
    package(
        "kernel-feature", "0.12",
        KERNEL.format(words="priority, features = 9, frozenset({'avx1024'})"),
        "Zoo.features names avx1024, which there is not; did you mean 'avx",
    ),
    package(
        "kernel-lacks", "0.13", KERNEL.format(words=""),
        "Zoo.priority is None; give a whole number from 0",
    ),
    package(
        "argument", "0.7", HOOK.format(hook="qsdk_quantizers(manager)", given="[]"),
        "{'manager'} are declared in the hookimpl but can not be found in the hookspec",
    ),
    package(
        "misspelt", "0.8", HOOK.format(hook="qsdk_quantisers()", given="[]"),
        "unknown hook 'qsdk_quantisers'",
    ),
    package("nothing", "0.9", "", "gives nothing; mark a function such as qsdk_quantizers()"),
    package(
        "hook-raises", "0.10", HOOK.format(hook="qsdk_quantizers()", given="1 / 0"),
        "ZeroDivisionError: division by zero",
    ),
]  # fmt: skip

# These load; what they claim, print or take is the trouble.
ODD = [
    package("twin", "1.0", GOOD.format(name="twin"), distribution="zoo-twin-one"),
    package("twin", "2.0", GOOD.format(name="twin"), distribution="zoo-twin-two"),
    package("helper", "3.0", GOOD.format(name="squant"), distribution="aaa-thief"),
    package("rtn", "4.0", GOOD.format(name="rtn"), distribution="aaa-usurper"),
    package("prints", "5.0", f"print('hello from prints')\n{GOOD.format(name='prints')}"),
    package("slow", "6.0", f"import time\ntime.sleep(2)\n{GOOD.format(name='slow')}"),
]

# These take the whole process with them; the reason is what --isolate says.
KILLERS = [
    package("dies", "7.1", "import os\nos._exit(7)", "ended with exit status 7"),
    package("leaves", "7.2", "import os\nos._exit(0)", "ended with exit status 0"),
    package("crashes", "7.3", "import ctypes\nctypes.string_at(0)", "was killed by SIGSEGV"),
    package("aborts", "7.4", "import os\nos.abort()", "was killed by SIGABRT"),
    package(
        "hangs", "7.5",
        "import os, subprocess, time\nchild = subprocess.Popen(['sleep', '300'])\n"
        "open(os.environ['ZOO_PID'], 'w').write(str(child.pid))\ntime.sleep(300)",
        "did not end within 6 s",
    ),
    package(
        "late", "7.6",
        "import atexit, os\natexit.register(lambda: os.kill(os.getpid(), 9))\n"
        f"{GOOD.format(name='late')}",
        "after its import the process was killed by SIGKILL",
    ),
]  # fmt: skip


def wheel_of(package: Package, folder: Path) -> Path:
    """A wheel that pip installs like any other."""
    info = f"{package.module}-{package.version}.dist-info"
    files = {
        f"{package.module}.py": package.code,
        f"{info}/METADATA": (
            f"Metadata-Version: 2.1\nName: {package.distribution}\nVersion: {package.version}\n"
        ),
        f"{info}/WHEEL": "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
        f"{info}/entry_points.txt": f"[qsdk]\n{package.entry_point} = {package.module}\n",
    }
    files[f"{info}/RECORD"] = "".join(f"{name},,\n" for name in [*files, f"{info}/RECORD"])
    path = folder / f"{package.module}-{package.version}-py3-none-any.whl"
    with zipfile.ZipFile(path, "w") as archive:
        for name, text in files.items():
            archive.writestr(name, text)
    return path
