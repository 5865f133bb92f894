"""How many threads numpy and the peers may use: said before they are imported."""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Iterator
from importlib.util import find_spec

COUNTS = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")
SPIN = "KMP_BLOCKTIME"  # ms that MKL's threads spin after a call, by default 200: into all others
NUMPY_IS_FREE = (
    "numpy was there before the limit on threads and takes as many as it likes; "
    "type: pip install 'qsdk[bench]'"
)


@contextlib.contextmanager
def limited_to(count: int) -> Iterator[list[str]]:
    """Hold libraries to ``count`` threads; gives notes on those that cannot be held."""
    before = {name: os.environ.get(name) for name in (*COUNTS, SPIN)}
    is_early = "numpy" not in sys.modules
    os.environ.update(dict.fromkeys(COUNTS, str(count)))
    os.environ.setdefault(SPIN, "1")
    try:
        if find_spec("threadpoolctl") is not None:
            import threadpoolctl

            with threadpoolctl.threadpool_limits(count):
                yield []
        else:
            yield [] if is_early else [NUMPY_IS_FREE]
    finally:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value
