"""Writes and calibrations that are killed, writes that meet a full disk, whose n-th call fails.

    python tests/lanes/writes.py [--kills 400]

In every case the old file or the new one must be there, whole, and no temporary file; plain
``open`` and ``write``, as a control, must show damage.
"""

from __future__ import annotations

import argparse
import ctypes
import errno
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

LANES = Path(__file__).resolve().parent
sys.path.insert(0, str(LANES.parent))

import qsdk.pipeline  # noqa: E402
from qsdk.calibration import Watch  # noqa: E402
from qsdk.errors import QsdkError  # noqa: E402

ERRORS = [errno.ENOSPC, errno.EIO, errno.EACCES, errno.EINTR]


def leftovers(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.glob(".qsdk-*"))


def network(folder: Path, channels: int = 8) -> dict[str, Path]:
    """A small network in two formats, by the suffix of what it is written to."""
    rng = np.random.default_rng(0)
    weights = {f"w{i}": rng.standard_normal((channels, 40)).astype(np.float32) for i in range(4)}
    np.savez(folder / "net.npz", **weights)
    sources = {".safetensors": folder / "net.npz"}
    try:
        import onnx

        from plugins import onnx_zoo
    except ImportError as error:
        print(f"skipped: writes: ONNX files: {error}")
    else:
        onnx.save(onnx_zoo.unseen(), folder / "net.onnx")
        sources[".onnx"] = folder / "net.onnx"
    return sources


def kills_of_write_atomic(folder: Path, kills: int) -> None:
    from test_storage import kill_trials

    start = time.perf_counter()
    torn = hit = 0
    for batch in range(0, kills, 100):  # each has its own time limit
        torn_now, hit_now = kill_trials("atomic", folder / "atomic.bin", min(100, kills - batch))
        torn, hit = torn + torn_now, hit + hit_now
    damaged, _ = kill_trials("plain", folder / "plain.bin", 50)
    print(
        f"write_atomic: {kills} kills, {hit} of them in mid-write, {torn} torn; plain write: "
        f"50 kills, {damaged} torn; {time.perf_counter() - start:.0f} s"
    )
    assert torn == 0
    assert hit >= kills / 8, "hardly a kill hit a write: this has shown nothing"
    assert damaged >= 5, "the trial cannot see damage"


def kills_of_quantize_file(folder: Path, source: Path, output: Path, kills: int) -> None:
    start, rng, hit = time.perf_counter(), random.Random(0), 0
    versions = {}
    for bits in (3, 4):
        qsdk.quantize_file(source, output, "rtn", bits=bits)
        versions[output.read_bytes()] = bits
    for _ in range(kills):
        child = os.fork()
        while child == 0:
            for bits in (3, 4):
                qsdk.quantize_file(source, output, "rtn", bits=bits)
        time.sleep(rng.uniform(0.002, 0.03))
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
        assert output.read_bytes() in versions, "torn"
        hit += any(f"-{child}-" in name for name in leftovers(folder))
    qsdk.quantize_file(source, output, "rtn", bits=4)
    assert not leftovers(folder), leftovers(folder)
    print(
        f"quantize_file to {output.suffix}: {kills} kills, {hit} of them in mid-write, 0 torn, "
        f"all leftovers swept; {time.perf_counter() - start:.0f} s"
    )


def kills_of_calibration(folder: Path, model: Path, kills: int) -> None:
    """A run killed again and again goes on where it was, to the bytes of one that was not."""
    start, rng, hit, ended = time.perf_counter(), random.Random(0), 0, 0
    whole, state = folder / "whole.safetensors", folder / "state.safetensors"
    begun = time.perf_counter()
    assert os.waitpid(calibrating(model, whole), 0)[1] == 0
    longest = time.perf_counter() - begun
    while hit < kills:
        child = calibrating(model, state)
        time.sleep(rng.uniform(0, longest / 2))
        os.kill(child, signal.SIGKILL)
        _, status = os.waitpid(child, 0)
        hit += os.WIFSIGNALED(status) and state.exists()
        if os.WIFEXITED(status):
            assert state.read_bytes() == whole.read_bytes(), "other statistics after kills"
            ended += 1
            state.unlink()
    os.waitpid(calibrating(model, state), 0)
    assert state.read_bytes() == whole.read_bytes(), "other statistics after kills"
    print(
        f"calibration: {hit} kills in the middle, {ended + 1} runs went on to the end, 0 of them "
        f"with other bytes; {time.perf_counter() - start:.0f} s"
    )


def calibrating(model: Path, state: Path) -> int:
    """A child at work: its state is written after each of 40 batches."""
    child = os.fork()
    if child:
        return child
    net = qsdk.load(model)
    scheme = qsdk.Scheme(bits=8, signed=False, granularity="per_tensor")
    watches = [
        Watch(site=site, observer="histogram", scheme=scheme)
        for site in net.sites([layer.name for layer in net.layers])
    ]
    shape = net.blank(16)[net.inputs[0]].shape
    data = (np.random.default_rng(i).standard_normal(shape).astype(np.float32) for i in range(40))
    qsdk.calibrate(net, watches, data, state=state, save_seconds=0)
    os._exit(0)


def full_disk(folder: Path) -> None:
    disk = folder / "disk"
    disk.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=408k", "tmpfs", disk]
    done = subprocess.run(mount, capture_output=True, text=True)
    if done.returncode:
        print(f"skipped: writes: a full disk: {done.stderr.strip()}")
        return
    try:
        target = disk / "net.safetensors"
        target.write_bytes(b"old" * 30_000)
        # Half of the 640 kB are free, so preflight lets it begin; two copies of a quarter are not.
        source = network(folder, channels=1000)[".safetensors"]
        attempts = {
            "write_atomic": lambda: write_blocks(target),
            "quantize_file": lambda: qsdk.quantize_file(source, target, "rtn", bits=8),
        }
        for name, attempt in attempts.items():
            try:
                attempt()
            except OSError as error:
                print(f"full disk: {name}: {type(error).__name__}: {error}")
            else:
                raise AssertionError(f"{name} wrote more than the disk holds")
            assert target.read_bytes() == b"old" * 30_000
            assert [path.name for path in disk.iterdir()] == [target.name]
    finally:
        subprocess.run(["umount", "--lazy", disk], check=True)


def write_blocks(target: Path, blocks: int = 16) -> None:
    with qsdk.write_atomic(target) as file:
        for _ in range(blocks):
            file.write(b"new" * 20_000)


def every_call_fails(folder: Path, what: str, target: Path, attempt) -> None:
    """Runs ``attempt`` until its n-th call is beyond the last; the preloaded library counts."""
    library = ctypes.CDLL(None)
    library.faults_arm.argtypes = (ctypes.c_long, ctypes.c_int)
    library.faults_disarm.restype = ctypes.c_char_p
    start = time.perf_counter()
    attempt()  # imports, and the new content
    new, old = target.read_bytes(), b"old" * 1000
    points, refused, reached = 0, 0, set()
    for number in ERRORS:
        nth = 1
        while True:
            target.write_bytes(old)
            raised = None
            library.faults_arm(nth, number)
            try:
                attempt()
            except (OSError, QsdkError) as error:
                raised = error
            finally:
                failed = library.faults_disarm()
            if failed is None:
                break
            place = f"{what}: call {nth}, {failed.decode()}, {errno.errorcode[number]}: {raised!r}"
            content = target.read_bytes()
            assert content in (old, new), f"damaged: {place}"
            assert raised is not None or content == new, f"nothing written, nothing said: {place}"
            left = leftovers(folder)
            assert not left or failed == b"unlink", f"{left} left: {place}"
            for name in left:
                (folder / name).unlink()
            reached.add(failed.decode())
            points, refused, nth = points + 1, refused + (raised is not None), nth + 1
        assert raised is None, repr(raised)
        assert target.read_bytes() == new
    assert points >= 28
    assert reached >= {"open", "write", "fsync", "rename"}, reached
    print(
        f"faults in {what}: {points} points ({len(ERRORS)} errors at each of "
        f"{points // len(ERRORS)} calls), {refused} with an error, 0 damaged, 0 left behind; "
        f"{', '.join(sorted(reached))}; {time.perf_counter() - start:.0f} s"
    )


def faults(folder: Path) -> None:
    # importlib.metadata swallows some errors, and then there is no version: that is no write.
    assert qsdk.__version__  # looked up once, and known from here on
    target = folder / "file.bin"
    every_call_fails(folder, "write_atomic", target, lambda: write_blocks(target, 3))
    for suffix, source in network(folder).items():
        output = folder / f"out{suffix}"
        every_call_fails(
            folder,
            f"quantize_file to {suffix}",
            output,
            lambda source=source, output=output: qsdk.quantize_file(source, output, "rtn", bits=4),
        )


def faults_in_a_child(folder: Path) -> None:
    compiler = shutil.which("gcc") or shutil.which("cc")
    if compiler is None or sys.platform != "linux":
        print("skipped: writes: faults at the n-th call: no C compiler to build faults.c")
        return
    library = folder / "faults.so"
    subprocess.run(
        [compiler, "-O1", "-shared", "-fPIC", "-o", library, LANES / "faults.c", "-ldl"], check=True
    )
    command = [sys.executable, __file__, "--faults-in", folder]
    environment = {**os.environ, "LD_PRELOAD": str(library)}
    done = subprocess.run(command, env=environment, stderr=subprocess.PIPE, text=True)
    if done.returncode:  # else: what Python says of errors in destructors
        raise SystemExit(done.stderr)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kills", type=int, default=400)
    parser.add_argument("--faults-in", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.faults_in:
        faults(options.faults_in)
        return
    with tempfile.TemporaryDirectory(prefix="qsdk-writes-") as name:
        folder = Path(name)
        kills_of_write_atomic(folder, options.kills)
        for suffix, source in network(folder).items():
            kills_of_quantize_file(folder, source, folder / f"out{suffix}", options.kills // 4)
        if (folder / "net.onnx").exists():  # else there is no onnx, which was said
            from small_net import saved

            kills_of_calibration(folder, saved(folder, bare=True), options.kills // 20)
        full_disk(folder)
        faults_in_a_child(folder)


if __name__ == "__main__":
    main()
