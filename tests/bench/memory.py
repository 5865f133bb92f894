"""Peak anonymous memory of ``qsdk.quantize_file`` on one large safetensors file.

    python tests/bench/memory.py [--megabytes 400] [--tensors 40] [--method squant] [--json]

Pages of a mapped file don't count: RssAnon of /proc/PID/status is polled while a child works.
Limit: three times the largest tensor plus 150 MB. Exit status 1 when it is exceeded.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

from qsdk.storage import write_tensors

MB = 1e6

CHILD = """
import sys, json, time
import numpy, ml_dtypes, qsdk
source, output, method, options = sys.argv[1:5]
qsdk.registry.entries()
print("idle", flush=True)
sys.stdin.readline()
start = time.perf_counter()
qsdk.quantize_file(source, output, method, **json.loads(options))
print(time.perf_counter() - start, flush=True)
"""


def generate(path: Path, megabytes: float, tensors: int, kernel: int) -> int:
    """A file of equal float32 tensors; returns the bytes of one."""
    rng = np.random.default_rng(0)
    inputs = 512
    outputs = max(int(megabytes * MB / tensors / 4 / inputs / kernel**2), 1)
    with write_tensors(path, {}) as writer:
        for i in range(tensors):
            weight = rng.standard_normal((outputs, inputs, kernel, kernel), np.float32)
            writer.add(f"layer{i}.weight", weight)
    return weight.nbytes


def anonymous_mb(pid: int) -> float:
    """RssAnon of a process; 0 when it is gone."""
    try:
        status = Path(f"/proc/{pid}/status").read_text(encoding="utf-8")
    except OSError:
        return 0.0
    kilobytes = [line.split()[1] for line in status.splitlines() if line.startswith("RssAnon")]
    return int(kilobytes[0]) * 1024 / MB if kilobytes else 0.0


def watch(command: list[str]) -> tuple[float, float, float]:
    """(idle MB, peak MB, seconds) of a child that waits for a line before it works."""
    child = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert child.stdin is not None and child.stdout is not None
    child.stdout.readline()
    idle = peak = anonymous_mb(child.pid)
    child.stdin.write("\n")
    child.stdin.flush()
    while child.poll() is None:
        peak = max(peak, anonymous_mb(child.pid))
        time.sleep(0.001)
    if child.returncode:
        raise SystemExit(f"the child failed with status {child.returncode}")
    return idle, peak, float(child.stdout.readline())


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--megabytes", type=float, default=400)
    parser.add_argument("--tensors", type=int, default=40)
    parser.add_argument("--kernel", type=int, default=1, help="width of square kernels")
    parser.add_argument("--method", default="squant")
    parser.add_argument("--options", default="{}", help='JSON, such as {"group_size": 64}')
    parser.add_argument("--json", action="store_true")
    words = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        source, output = Path(folder, "in.safetensors"), Path(folder, "out.safetensors")
        largest = generate(source, words.megabytes, words.tensors, words.kernel) / MB
        command = [sys.executable, "-c", CHILD, str(source), str(output)]
        idle, peak, seconds = watch([*command, words.method, words.options])
        sizes = [path.stat().st_size / MB for path in (source, output)]
    limit = 3 * round(largest, 1) + 150
    figures = {
        "file_mb": sizes[0],
        "output_mb": sizes[1],
        "largest_tensor_mb": largest,
        "idle_mb": idle,
        "peak_mb": peak,
        "limit_mb": limit,
        "seconds": seconds,
    }
    if words.json:
        print(json.dumps(figures))
    else:
        for name, value in figures.items():
            print(f"{name:18} {value:9.1f}")
    return int(peak > limit)


if __name__ == "__main__":
    sys.exit(main())
