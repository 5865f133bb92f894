"""Mutated files for every parser: each is read or refused by a QsdkError, in a second, in bounds.

    python tests/lanes/fuzz.py [PARSER...] [--inputs 200000] [--seed 0] [--first 0] [--memory 512]

A worker process does the inputs of one parser one after the other, under a limit of memory. Input
number i is a function of seed, parser and i. What fails is saved, with the line that replays it.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import mmap
import os
import random
import resource
import signal
import struct
import subprocess
import sys
import tempfile
import time
import traceback
import warnings
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

MOST_FAILURES = 10
SECONDS = 1.0
STUCK = 10  # seconds without a new input, after which the worker is ended from outside


# What a worker has done so far, for it may die: input, read, refused, failed, MB, MB for the files.
RECORD = struct.Struct("<6q")


class Hang(BaseException):
    """The alarm of one input."""


def _ring(signal_number, frame):
    raise Hang


def generator(seed: int, parser: str, number: int) -> random.Random:
    return random.Random(f"{seed} {parser} {number}")


def outcome(subject, path: Path) -> str:
    """read, refused, or what went wrong."""
    from qsdk.errors import QsdkError

    signal.setitimer(signal.ITIMER_REAL, SECONDS)
    try:
        subject.use(path)
        return "read"
    except QsdkError as error:
        return "refused" if str(error) else "a refusal without a reason"
    except Hang:
        return "hang"
    except MemoryError as error:
        return f"beyond the limit of memory: {error}"
    except BaseException as error:
        where = traceback.extract_tb(error.__traceback__)[-1]
        return f"{type(error).__name__}: {error!s:.200} in {where.filename}:{where.lineno}"
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)


def hangs_again(subject, path: Path) -> bool:
    """Whether it takes a second of this process, and not of a busy machine."""
    signal.setitimer(signal.ITIMER_PROF, SECONDS)
    try:
        subject.use(path)
    except Hang:
        return True
    except Exception:
        return False
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)
    return False


def resident_bytes(field: str) -> int:
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(field + ":"):
            return int(line.split()[1]) * 1024
    return 0


def memory(before: int) -> tuple[int, int]:
    """MB that this process had at most, and how many of them came after ``before``."""
    most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    return most >> 20, max(most - before, 0) >> 20


def worker(options: argparse.Namespace, parser: str) -> None:
    from subjects import SUBJECTS

    warnings.simplefilter("ignore")
    for alarm in (signal.SIGALRM, signal.SIGPROF):
        signal.signal(alarm, _ring)
    shared = mmap.mmap(options.record, RECORD.size)
    _, read, refused, failed, _, _ = RECORD.unpack(shared)
    with tempfile.TemporaryDirectory(dir=options.folder) as folder:
        subject = SUBJECTS[parser](Path(folder))
        for good in subject.corpus:  # or its mutants would show nothing
            subject.path.write_bytes(good)
            subject.use(subject.path)
        for number in range(20):  # what is imported late
            outcome(subject, subject.mutant(generator(options.seed, parser, -1 - number)))
        limit = resident_bytes("VmSize") + options.memory * 2**20
        resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
        before = resident_bytes("VmRSS")
        for number in range(options.first, options.first + options.inputs):
            path = subject.mutant(generator(options.seed, parser, number))
            shared[:] = RECORD.pack(number, read, refused, failed, *memory(before))
            result = outcome(subject, path)
            if result == "hang" and not hangs_again(subject, path):
                result = "refused"
            read, refused = read + (result == "read"), refused + (result == "refused")
            if result not in ("read", "refused"):
                save(options, parser, number, result, path.read_bytes())
                failed += 1
                if failed >= MOST_FAILURES:
                    break
        shared[:] = RECORD.pack(number, read, refused, failed, *memory(before))


def save(options: argparse.Namespace, parser: str, number: int, what: str, content: bytes) -> None:
    options.saved.mkdir(parents=True, exist_ok=True)
    file = options.saved / f"{parser}-{options.seed}-{number}"
    file.write_bytes(content)
    print(
        f"FAILED: {parser}: {what}\n  replay: python tests/lanes/fuzz.py {parser} "
        f"--seed {options.seed} --first {number} --inputs 1\n  saved: {file}",
        flush=True,
    )


def fuzz(options: argparse.Namespace, parser: str, folder: Path) -> int:
    """Runs workers until all inputs are done; returns the failures."""
    start = time.perf_counter()
    first, last = options.first, options.first + options.inputs
    with tempfile.TemporaryFile() as file:
        file.write(bytes(RECORD.size))
        file.flush()
        while True:
            command = [sys.executable, __file__, parser, "--worker", "--first", first]
            command += ["--inputs", last - first, "--seed", options.seed, "--saved", options.saved]
            command += ["--memory", options.memory, "--record", file.fileno(), "--folder", folder]
            child = subprocess.Popen(
                list(map(str, command)),
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
                pass_fds=[file.fileno()],
            )
            print(watch(child, file), end="")
            number, read, refused, failed, most, grown = record(file)
            if child.returncode == 0:
                break
            failed += 1  # it died, or had to be ended: this input is made again to be saved
            crash(options, parser, number, child.returncode)
            first = number + 1
            if first == last or failed >= MOST_FAILURES:
                break
            os.pwrite(file.fileno(), RECORD.pack(number, read, refused, failed, most, grown), 0)
    seconds = time.perf_counter() - start
    print(
        f"{parser}: {read + refused + failed} inputs, {read} read, {refused} refused, "
        f"{failed} failed, {seconds:.0f} s ({(read + refused) / seconds:.0f}/s), "
        f"at most {most} MB, {grown} of them for the files",
        flush=True,
    )
    if grown > options.memory:
        print(f"FAILED: {parser}: {grown} MB, more than {options.memory}")
        return failed + 1
    return failed


def control(options: argparse.Namespace, folder: Path) -> None:
    """The planted faults must all be seen, each as what it is."""
    planted = argparse.Namespace(**{**vars(options), "first": 0, "inputs": 5, "saved": folder})
    said = io.StringIO()
    with contextlib.redirect_stdout(said):
        failed = fuzz(planted, "planted", folder)
    seen = ["KeyError", "hang", "beyond the limit of memory", "exit status -11", "1 read"]
    missed = [what for what in seen if what not in said.getvalue()]
    if failed != 4 or missed:
        raise SystemExit(f"the fuzzer does not see planted faults: {missed}\n{said.getvalue()}")
    print("planted faults seen: an error, a hang, 1 GB of memory, a crash")


def record(file) -> tuple[int, ...]:
    return RECORD.unpack(os.pread(file.fileno(), RECORD.size, 0))


def watch(child: subprocess.Popen, file) -> str:
    """What a worker said; ends one that makes no progress."""
    before, since = record(file), time.monotonic()
    while True:
        try:
            return child.communicate(timeout=1)[0]
        except subprocess.TimeoutExpired:
            now = record(file)
            if now != before:
                before, since = now, time.monotonic()
            elif time.monotonic() - since > (STUCK if any(now) else 10 * STUCK):
                child.kill()


def crash(options: argparse.Namespace, parser: str, number: int, status: int) -> None:
    from subjects import SUBJECTS

    what = "no progress, killed" if status == -signal.SIGKILL else f"exit status {status}"
    with tempfile.TemporaryDirectory() as folder:
        path = SUBJECTS[parser](Path(folder)).mutant(generator(options.seed, parser, number))
        save(options, parser, number, f"the process ended ({what})", path.read_bytes())


def main() -> int:
    names = ["safetensors", "onnx", "toml", "npz"]
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("parsers", nargs="*", help=", ".join(names))
    parser.add_argument("--inputs", type=int, default=5000)
    parser.add_argument("--first", type=int, default=0)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--memory", type=int, default=512, help="MB for the files")
    parser.add_argument("--saved", type=Path, default=Path("fuzz-failures"))
    for hidden in ("--record", "--folder", "--worker"):
        kind = {"action": "store_true"} if hidden == "--worker" else {}
        parser.add_argument(hidden, help=argparse.SUPPRESS, **kind)
    options = parser.parse_args()
    if options.worker:
        options.record = int(options.record)
        worker(options, options.parsers[0])
        return 0
    if unknown := set(options.parsers) - set(names):
        parser.error(f"no parser {unknown}")
    chosen = options.parsers or names
    shm = Path("/dev/shm")
    with tempfile.TemporaryDirectory(dir=shm if os.access(shm, os.W_OK) else None) as folder:
        control(options, Path(folder))
        with ThreadPoolExecutor(os.cpu_count()) as pool:  # of threads that wait for their worker
            failures = pool.map(lambda name: fuzz(options, name, Path(folder)), chosen)
            return 1 if sum(failures) else 0


if __name__ == "__main__":
    sys.exit(main())
