"""The cffi recipe of ``qsdk._native``: every C file under native/ in one extension.

setup.py names it (``cffi_modules``) and runs it from the project root, where paths start.
``QSDK_REQUIRE_NATIVE=1`` turns a failed build, else a warning and a wheel without C, into an error.
"""

import os
import re
import sys
from pathlib import Path

from cffi import FFI

NATIVE = Path("native")
HEADER = NATIVE / "qsdk_native.h"


def declarations() -> str:
    """What the header says between its cffi markers."""
    marked = re.compile(r"/\* \[cffi\] \*/(.*?)/\* \[/cffi\] \*/", re.DOTALL)
    return "".join(marked.findall(HEADER.read_text(encoding="utf-8")))


ffibuilder = FFI()
ffibuilder.cdef(declarations())
ffibuilder.set_source(
    "qsdk._native",
    f'#include "{HEADER.name}"',
    sources=sorted(path.as_posix() for path in NATIVE.glob("**/*.c")),
    include_dirs=[NATIVE.as_posix()],
    depends=sorted(path.as_posix() for path in NATIVE.glob("**/*.h")),
    # -ffp-contract=off: a fused multiply-add rounds once where the header says twice.
    extra_compile_args=(
        ["/std:c11"] if sys.platform == "win32" else ["-O3", "-ffp-contract=off", "-std=c11"]
    ),
    optional=os.environ.get("QSDK_REQUIRE_NATIVE") != "1",
)
