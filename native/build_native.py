"""The cffi recipe of ``qsdk._native``: every C file under native/ in one extension.

setup.py names it (``cffi_modules``) and runs it from the project root, where paths start.
``QSDK_REQUIRE_NATIVE=1`` turns a failed build, else a warning and a wheel without C, into an error.
"""

import os
import re
import shlex
import subprocess
import sys
import sysconfig
import tempfile
from pathlib import Path

from cffi import FFI

NATIVE = Path("native")
HEADERS = sorted(NATIVE.glob("**/*.h"))
FOLDERS = sorted({path.parent for path in HEADERS})


def declarations() -> str:
    """What the headers say between their cffi markers; first those of which others use types."""
    marked = re.compile(r"/\* \[cffi\] \*/(.*?)/\* \[/cffi\] \*/", re.DOTALL)
    first = sorted(HEADERS, key=lambda path: path.parent.name not in ("kernel", "histogram"))
    return "".join(part for path in first for part in marked.findall(path.read_text("utf-8")))


def openmp() -> list[str]:
    """The flag that turns OpenMP on, where a program with it compiles and links."""
    if not sys.platform.startswith("linux"):
        return []
    compiler = shlex.split(os.environ.get("CC") or sysconfig.get_config_var("CC") or "cc")
    with tempfile.TemporaryDirectory() as folder:
        source = Path(folder, "try.c")
        source.write_text("#include <omp.h>\nint main(void) { return omp_get_max_threads() < 1; }")
        command = [*compiler, "-fopenmp", str(source), "-o", str(Path(folder, "try"))]
        try:
            subprocess.run(command, check=True, capture_output=True)
        except (OSError, subprocess.CalledProcessError):
            return []
    return ["-fopenmp"]


ffibuilder = FFI()
ffibuilder.cdef(declarations())
parallel = openmp()
ffibuilder.set_source(
    "qsdk._native",
    "".join(f'#include "{path.name}"\n' for path in HEADERS),
    sources=sorted(path.as_posix() for path in NATIVE.glob("**/*.c")),
    include_dirs=[folder.as_posix() for folder in FOLDERS],
    depends=[path.as_posix() for path in HEADERS],
    # -ffp-contract=off: a fused multiply-add rounds once where the header says twice.
    extra_compile_args=(
        ["/std:c11"]
        if sys.platform == "win32"
        else ["-O3", "-ffp-contract=off", "-std=c11", *parallel]
    ),
    extra_link_args=parallel,
    optional=os.environ.get("QSDK_REQUIRE_NATIVE") != "1",
)
