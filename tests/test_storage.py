"""Files: whole or absent when written, refused when they lie."""

from __future__ import annotations

import errno
import json
import os
import random
import socket
import stat
import struct
import subprocess
import sys
import time
from pathlib import Path

import ml_dtypes
import numpy as np
import pytest

import qsdk
from qsdk import Container, TensorFile, write_atomic, write_container
from qsdk.errors import DataError, FileRefusedError
from qsdk.storage import atomic, write_tensors

# write_atomic

OLD, NEW = b"old" * 1000, b"new" * 5000


def leftovers(folder):
    return sorted(path.name for path in folder.iterdir() if path.name.startswith(".qsdk-"))


@pytest.fixture
def target(tmp_path):
    path = tmp_path / "file.bin"
    path.write_bytes(OLD)
    return path


def test_a_new_file_appears_whole_and_alone(tmp_path):
    with write_atomic(tmp_path / "a.bin") as file:
        file.write(NEW)
        assert not (tmp_path / "a.bin").exists()
    assert (tmp_path / "a.bin").read_bytes() == NEW
    assert [path.name for path in tmp_path.iterdir()] == ["a.bin"]


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt, SystemExit, MemoryError])
def test_an_error_in_the_block_keeps_the_old_file_and_leaves_nothing(target, error):
    with pytest.raises(error), write_atomic(target) as file:
        file.write(NEW)
        raise error
    assert target.read_bytes() == OLD and not leftovers(target.parent)


def test_an_error_in_the_block_leaves_no_file_where_there_was_none(tmp_path):
    with pytest.raises(ValueError), write_atomic(tmp_path / "a.bin"):
        raise ValueError
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("mode", [0o600, 0o640, 0o644, 0o755])
def test_the_permissions_of_an_old_file_are_kept(target, mode):
    target.chmod(mode)
    with write_atomic(target) as file:
        file.write(NEW)
    assert stat.S_IMODE(target.stat().st_mode) == mode


def test_a_new_file_has_the_permissions_of_any_new_file(tmp_path):
    (tmp_path / "plain").write_bytes(b"")
    with write_atomic(tmp_path / "ours"):
        pass
    assert (tmp_path / "ours").stat().st_mode == (tmp_path / "plain").stat().st_mode


def test_a_symbolic_link_is_followed_and_stays_one(tmp_path):
    (tmp_path / "there").mkdir()
    real, link = tmp_path / "there" / "real.bin", tmp_path / "link.bin"
    real.write_bytes(OLD)
    link.symlink_to(real)
    with write_atomic(link) as file:
        file.write(NEW)
    assert link.is_symlink() and real.read_bytes() == NEW
    assert not leftovers(tmp_path) and not leftovers(real.parent)


def test_readers_of_the_old_file_keep_it(target):
    with open(target, "rb") as reader:
        with write_atomic(target) as file:
            file.write(NEW)
        assert reader.read() == OLD


def dead_process():
    child = subprocess.Popen([sys.executable, "-c", ""])
    child.wait()
    return child.pid


def test_leftovers_of_dead_processes_are_swept_and_others_stay(tmp_path):
    host, dead = socket.gethostname(), dead_process()
    gone = tmp_path / f".qsdk-{host}-{dead}-0123abcd.tmp"
    stay = [
        tmp_path / f".qsdk-{host}-{os.getpid()}-0123abcd.tmp",  # alive
        tmp_path / f".qsdk-{host}-1-0123abcd.tmp",  # alive, of another user
        tmp_path / f".qsdk-elsewhere-{dead}-0123abcd.tmp",  # on another machine
        tmp_path / f".qsdk-{host}-{dead}-{dead}-0123abcd.tmp",  # on one named host-number
        tmp_path / f".qsdk-{host}-{dead}-notes.txt",
        tmp_path / "qsdk-mine.tmp",
    ]
    for path in [gone, *stay]:
        path.write_bytes(b"x")
    with write_atomic(tmp_path / "a.bin"):
        pass
    assert not gone.exists()
    assert all(path.exists() for path in stay)


class Faults:
    """Fails the n-th call of what write_atomic asks of the system."""

    def __init__(self, patch, nth, number):
        self.nth, self.number, self.calls, self.failed = nth, number, 0, None
        self.open = open
        for owner, names in (
            (os, ("fsync", "open", "kill", "close", "replace", "rename")),
            (Path, ("chmod", "replace", "unlink", "stat", "resolve", "glob")),
        ):
            for name in names:
                patch.setattr(owner, name, self.wrap(name, getattr(owner, name)))
        patch.setattr("builtins.open", self.opened)

    def wrap(self, name, function):
        def called(*args, **kwargs):
            self.count(name)
            return function(*args, **kwargs)

        return called

    def count(self, name):
        self.calls += 1
        if self.calls == self.nth:
            self.failed = name
            raise OSError(self.number, os.strerror(self.number))

    def opened(self, *args, **kwargs):
        self.count("open")
        raw = self.open(*args, **kwargs)
        faults = self

        class File:
            def write(self, data):
                faults.count("write")
                return raw.write(data)

            def flush(self):
                faults.count("flush")
                return raw.flush()

            def fileno(self):
                return raw.fileno()

            def __enter__(self):
                return self

            def __exit__(self, *error):
                raw.close()

        return File()


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EIO, errno.EACCES], ids=errno.errorcode.get)
def test_whichever_system_call_fails_the_file_is_old_or_new_and_nothing_is_left(tmp_path, number):
    reached = set()
    for nth in range(1, 100):
        folder = tmp_path / str(nth)
        folder.mkdir()
        target = folder / "file.bin"
        target.write_bytes(OLD)
        (folder / f".qsdk-{socket.gethostname()}-999999999-ab.tmp").write_bytes(b"x")
        error = None
        with pytest.MonkeyPatch.context() as patch:
            faults = Faults(patch, nth, number)
            try:
                with write_atomic(target) as file:
                    file.write(NEW)
            except OSError as raised:
                error = raised
        if faults.failed is None:
            break
        reached.add(faults.failed)
        assert target.read_bytes() in (OLD, NEW), faults.failed
        if error is None:
            assert target.read_bytes() == NEW, faults.failed
        else:
            assert error.errno == number
        ours = [n for n in leftovers(folder) if f"-{os.getpid()}-" in n]
        assert not ours or faults.failed == "unlink", faults.failed
    assert reached >= {"open", "write", "flush", "fsync", "chmod", "replace"}
    assert target.read_bytes() == NEW


TRIALS = """
import os, pathlib, random, signal, sys, time
from qsdk.storage import write_atomic
how, target, trials = sys.argv[1], pathlib.Path(sys.argv[2]), int(sys.argv[3])
size, rng, torn, hit = 1 << 20, random.Random(0), 0, 0
for trial in range(trials):
    child = os.fork()
    while child == 0:
        number = rng.randrange(256)
        with write_atomic(target) if how == "atomic" else open(target, "wb") as file:
            for _ in range(16):
                file.write(bytes([number]) * (size // 16))
    time.sleep(rng.uniform(0.002, 0.03))
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    content = target.read_bytes() if target.exists() else None
    torn += content is not None and (len(content) < size or len(set(content)) > 1)
    hit += any(f"-{child}-" in path.name for path in target.parent.iterdir())
print(torn, hit)
"""


def kill_trials(how, target, trials):
    """Of so many writers killed at a random moment: how many tore the file or left another."""
    command = [sys.executable, "-c", TRIALS, how, target, str(trials)]
    done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=120)
    return map(int, done.stdout.split())


def test_a_writer_that_is_killed_never_tears_the_file(tmp_path):
    torn, hit = kill_trials("atomic", tmp_path / "file.bin", 40)
    assert torn == 0
    assert hit >= 5, "hardly a kill hit a write: this test has shown nothing"
    with write_atomic(tmp_path / "file.bin") as file:
        file.write(NEW)
    assert not leftovers(tmp_path)


def test_the_kill_trial_can_see_damage(tmp_path):
    torn, _ = kill_trials("plain", tmp_path / "file.bin", 20)
    assert torn >= 3


# Writing and reading tensors

ALL_TYPES = ["f8", "f4", "f2", "i8", "i4", "i2", "i1", "u8", "u4", "u2", "u1", "?"]


def some_tensors():
    rng = np.random.default_rng(0)
    tensors = {f"t.{t}": rng.integers(0, 2, (3, 5)).astype(t) for t in ALL_TYPES}
    tensors["bf16"] = rng.standard_normal((4, 3)).astype(ml_dtypes.bfloat16)
    tensors["e4m3"] = rng.standard_normal(7).astype(ml_dtypes.float8_e4m3fn)
    tensors["e5m2"] = rng.standard_normal(7).astype(ml_dtypes.float8_e5m2)
    return {
        **tensors,
        "scalar": np.array(3.5, np.float32),
        "empty": np.zeros((0, 4), np.float32),
        "empty too": np.zeros((3, 0), np.int8),
        "größe": np.arange(3, dtype=np.int64),
        "transposed": np.arange(6, dtype=np.float32).reshape(2, 3).T,
        "big-endian": np.arange(4, dtype=">f4"),
    }


def write(path, tensors, metadata=None):
    with write_tensors(path, metadata or {}) as writer:
        for name, array in tensors.items():
            writer.add(name, array)
    return path


def test_tensors_of_every_type_come_back_equal(tmp_path):
    tensors = some_tensors()
    file = TensorFile(write(tmp_path / "a.safetensors", tensors, {"key": "välue"}))
    assert list(file.tensors) == list(tensors) and file.metadata == {"key": "välue"}
    for name, array in tensors.items():
        back = file.read(name)
        assert back.shape == array.shape and back.dtype == array.dtype.newbyteorder("=")
        assert back.tobytes() == array.astype(back.dtype).tobytes()
        assert back.size == 0 or not back.flags.writeable


def test_our_files_are_read_alike_by_the_safetensors_package(tmp_path):
    safe = pytest.importorskip("safetensors")
    tensors = some_tensors()
    path = write(tmp_path / "a.safetensors", tensors, {"key": "value"})
    with safe.safe_open(path, "np") as theirs:
        assert theirs.metadata() == {"key": "value"}
        assert sorted(theirs.keys()) == sorted(tensors)
        for name, array in tensors.items():
            if name not in ("bf16", "e4m3", "e5m2"):
                assert np.array_equal(theirs.get_tensor(name), array)


def test_files_of_the_safetensors_package_are_read_alike(tmp_path):
    numpy_io = pytest.importorskip("safetensors.numpy")
    plain = {n: np.ascontiguousarray(a) for n, a in some_tensors().items() if n[:2] == "t."}
    numpy_io.save_file(plain, tmp_path / "a.safetensors", metadata={"by": "them"})
    file = TensorFile(tmp_path / "a.safetensors")
    assert file.metadata == {"by": "them"}
    for name, array in plain.items():
        assert np.array_equal(file.read(name), array)


def test_big_tensors_are_mapped_and_not_read(tmp_path):
    big = np.zeros((1024, 1024), np.float32)
    file = TensorFile(write(tmp_path / "a.safetensors", {"odd": np.zeros(3, np.int8), "big": big}))
    array, owner = file.read("big"), file.read("big")
    while owner is not None and not isinstance(owner, np.memmap):
        owner = owner.base
    # 3 bytes before it: not aligned, so that this one had to be copied
    assert owner is None and array.flags.aligned
    file = TensorFile(write(tmp_path / "b.safetensors", {"big": big}))
    owner = file.read("big")
    while owner is not None and not isinstance(owner, np.memmap):
        owner = owner.base
    assert isinstance(owner, np.memmap)


def test_a_tensor_that_the_format_cannot_hold_is_refused_by_name(tmp_path):
    for array in (np.zeros(2, complex), np.array(["a"]), np.zeros(2, np.longdouble)):
        with pytest.raises(DataError, match=f"'w' is {array.dtype}, which safetensors cannot"):
            write(tmp_path / "a.safetensors", {"w": array})
    assert list(tmp_path.iterdir()) == []


def test_two_tensors_of_one_name_are_refused(tmp_path):
    with (
        pytest.raises(DataError, match="two tensors would be named 'w'"),
        write_tensors(tmp_path / "a.safetensors", {}) as writer,
    ):
        writer.add("w", np.zeros(1))
        writer.add("w", np.zeros(1))
    assert list(tmp_path.iterdir()) == []


def test_the_data_of_our_files_is_aligned(tmp_path):
    raw = write(tmp_path / "a.safetensors", {"w": np.zeros(1, np.float64)}).read_bytes()
    assert (8 + struct.unpack("<Q", raw[:8])[0]) % 8 == 0


# Files that lie: engineering.md 6.1


def raw_file(header, data=b"", length=None):
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return struct.pack("<Q", len(text) if length is None else length) + text + data


def entry(dtype="F32", shape=(2,), start=0, end=8):
    return {"dtype": dtype, "shape": list(shape), "data_offsets": [start, end]}


ZEROS = bytes(64)
HOSTILE = {
    "an empty file": (b"", "it has 0 bytes, and 8 say"),
    "seven bytes": (bytes(7), "it has 7 bytes, and 8 say"),
    "no header": (bytes(8), "does not begin with"),
    "a header longer than the file": (raw_file({"w": entry()}, length=10**6), "claims 1000000"),
    "a header of 2**63 bytes": (struct.pack("<Q", 2**63), "claims 9223372036854775808 bytes"),
    "a header of 2**64-1 bytes": (b"\xff" * 8 + b"{}", "claims 18446744073709551615 bytes"),
    "a header that is no JSON": (raw_file(b"{]"), "is no JSON"),
    "a header cut short": (raw_file(b'{"w": {"dtype": "F3'), "is no JSON"),
    "a list": (raw_file(b"[]"), "does not begin with"),
    "a leading space": (raw_file(b" {}"), "does not begin with"),
    "a byte order mark": (raw_file(b"\xef\xbb\xbf{}"), "does not begin with"),
    "UTF-16": (raw_file("{}".encode("utf-16")), "does not begin with"),
    "bad UTF-8": (raw_file(b'{"\xff": 1}'), "is no JSON"),
    "two documents": (raw_file(b"{}{}"), "is no JSON"),
    "deep nesting": (raw_file(b'{"w":' + b"[" * 500_000), "is no JSON"),
    "deep nesting of tables": (raw_file(b'{"w":' * 100_000), "is no JSON"),
    "a number of 10,000 digits": (raw_file(b'{"w":' + b"9" * 10_000 + b"}"), "no JSON"),
    "a name twice": (
        raw_file(b'{"w": 1, "x": 1, "w": 2}'),
        "'w' stands twice in its header",
    ),
    "a key of an entry twice": (
        raw_file(b'{"w":{"dtype":"F32","dtype":"F32","shape":[2],"data_offsets":[0,8]}}', ZEROS),
        "'dtype' stands twice",
    ),
    "metadata twice": (raw_file(b'{"__metadata__":{},"__metadata__":{}}'), "stands twice"),
    "a negative length": (raw_file({"w": entry(shape=(-2,))}, ZEROS[:8]), r"has shape \[-2\]"),
    "a length that is no whole number": (raw_file({"w": entry(shape=(2.0,))}, ZEROS[:8]), "shape"),
    "a length that is a truth value": (raw_file({"w": entry(shape=(True, 2))}, ZEROS[:8]), "shape"),
    "a shape that is no list": (
        raw_file({"w": {"dtype": "F32", "shape": 2, "data_offsets": [0, 8]}}, ZEROS[:8]),
        "has shape 2",
    ),
    "a product beyond 64 bits": (
        raw_file({"w": entry(shape=(2**32, 2**32, 2))}, ZEROS[:8]),
        "has shape",
    ),
    "a product that wraps to what is there": (
        raw_file({"w": entry(shape=(2**62 + 1, 2))}, ZEROS[:8]),
        "has shape",
    ),
    "a product that is large times zero": (
        raw_file({"w": entry(shape=(2**40, 2**40, 0), end=0)}),
        "has shape",
    ),
    "a hundred axes": (raw_file({"w": entry(shape=(1,) * 100, end=4)}, ZEROS[:4]), "has shape"),
    "offsets that do not match the shape": (
        raw_file({"w": entry(shape=(3,))}, ZEROS[:8]),
        r"'w' of F32 \[3\] takes 12 bytes, not 8",
    ),
    "more bytes than the shape takes": (
        raw_file({"w": entry(shape=(1,))}, ZEROS[:8]),
        r"'w' of F32 \[1\] takes 4 bytes, not 8",
    ),
    "offsets backwards": (raw_file({"w": entry(start=8, end=0)}, ZEROS[:8]), r"\[8, 0\]"),
    "negative offsets": (raw_file({"w": entry(start=-8, end=0)}, ZEROS[:8]), r"\[-8, 0\]"),
    "offsets past the end": (
        raw_file({"w": entry(shape=(100,), end=400)}, ZEROS[:8]),
        "take 400 bytes, and the data has 8",
    ),
    "three offsets": (
        raw_file({"w": {"dtype": "F32", "shape": [2], "data_offsets": [0, 8, 8]}}, ZEROS[:8]),
        "lacks a dtype, a shape or two data_offsets",
    ),
    "offsets that are texts": (
        raw_file({"w": {"dtype": "F32", "shape": [2], "data_offsets": "08"}}, ZEROS[:8]),
        "has data_offsets '08'",
    ),
    "an overlap": (
        raw_file({"a": entry(), "b": entry(start=4, end=12)}, ZEROS[:12]),
        "'b' overlaps another at byte 4",
    ),
    "one place for two": (raw_file({"a": entry(), "b": entry()}, ZEROS[:8]), "overlaps another"),
    "a hole": (
        raw_file({"a": entry(), "b": entry(start=12, end=20)}, ZEROS[:20]),
        "'b' follows a hole at byte 12",
    ),
    "a hole in front": (raw_file({"a": entry(start=4, end=12)}, ZEROS[:12]), "follows a hole"),
    "data that belongs to none": (raw_file({"a": entry()}, ZEROS[:9]), "8 bytes, .* data has 9"),
    "an empty tensor inside another": (
        raw_file({"a": entry(), "z": entry(shape=(0,), start=4, end=4)}, ZEROS[:8]),
        "overlaps another",
    ),
    "an unknown type": (raw_file({"w": entry("F33")}, ZEROS[:8]), "dtype 'F33'; known: F64, F32"),
    "a type that is no text": (raw_file({"w": entry(7)}, ZEROS[:8]), "dtype 7"),
    "an entry that is no table": (raw_file({"w": [1]}), "'w' lacks a dtype"),
    "an entry that is a text": (raw_file({"w": "F32"}), "'w' lacks a dtype"),
    "an entry that is null": (raw_file({"w": None}), "'w' lacks a dtype"),
    "an entry without a shape": (raw_file({"w": {"dtype": "F32"}}), "'w' lacks a dtype"),
    "metadata that is no table": (raw_file({"__metadata__": [1]}), "not a table of texts"),
    "metadata that is no text": (raw_file({"__metadata__": {"a": 1}}), "not a table of texts"),
}


@pytest.mark.parametrize("case", HOSTILE)
def test_a_file_that_lies_is_refused_with_what_is_wrong(tmp_path, case):
    content, message = HOSTILE[case]
    path = tmp_path / "lie.safetensors"
    path.write_bytes(content)
    with pytest.raises(FileRefusedError, match=f"lie.safetensors is not a sound .*{message}"):
        TensorFile(path)
    with pytest.raises(FileRefusedError):
        qsdk.load(path)


@pytest.mark.parametrize("case", HOSTILE)
def test_the_safetensors_package_refuses_it_too(case):
    safe = pytest.importorskip("safetensors")
    if case in ("a name twice", "metadata twice", "a hundred axes", "a leading space"):
        return  # what that package lets pass, and we do not
    with pytest.raises(safe.SafetensorError):
        safe.deserialize(HOSTILE[case][0])


def test_empty_tensors_may_share_an_offset(tmp_path):
    header = {
        "z1": entry(shape=(0,), start=0, end=0),
        "a": entry(),
        "z2": entry(shape=(0, 5), start=8, end=8),
        "z3": entry(shape=(4, 0), start=8, end=8),
    }
    content = raw_file(header, ZEROS[:8])
    pytest.importorskip("safetensors").deserialize(content)
    path = tmp_path / "a.safetensors"
    path.write_bytes(content)
    file = TensorFile(path)
    assert [file.read(name).shape for name in header] == [(0,), (2,), (0, 5), (4, 0)]


def test_a_name_that_stands_twice_among_many_is_found_at_once(tmp_path):
    names = ",".join(f'"{i}":0' for i in range(300_000))
    path = tmp_path / "a.safetensors"
    path.write_bytes(raw_file(f'{{{names},"299999":1}}'.encode()))
    start = time.perf_counter()
    with pytest.raises(FileRefusedError, match="'299999' stands twice"):
        TensorFile(path)
    assert time.perf_counter() - start < 5


def test_a_tiny_file_with_a_huge_claim_takes_little_memory(tmp_path):
    for i, case in enumerate(HOSTILE.values()):
        (tmp_path / f"{i}.safetensors").write_bytes(case[0])
    code = """
import resource, sys, pathlib
from qsdk.storage import TensorFile
from qsdk.errors import FileRefusedError
import ml_dtypes, numpy
limit = 2 ** 20 * 200 + int(open('/proc/self/statm').read().split()[0]) * resource.getpagesize()
resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
refused = 0
for path in pathlib.Path(sys.argv[1]).glob('*.safetensors'):
    try:
        TensorFile(path)
    except FileRefusedError:
        refused += 1
print(refused)
"""
    done = subprocess.run(
        [sys.executable, "-c", code, tmp_path], capture_output=True, text=True, timeout=60
    )
    assert done.stdout.strip() == str(len(HOSTILE)), done.stderr


def test_mutated_files_are_refused_or_read_as_the_safetensors_package_does(tmp_path):
    safe = pytest.importorskip("safetensors")
    tensors = {
        "a": np.arange(6, dtype=np.float32).reshape(2, 3),
        "b": np.arange(4, dtype=np.int8),
        "c": np.zeros((0, 2), np.float32),
    }
    path = tmp_path / "a.safetensors"
    good = write(path, tensors, {"k": "v"}).read_bytes()
    header_end = len(good) - 28
    rng = random.Random(0)
    accepted = 0
    for _ in range(2000):
        mutant = bytearray(good)
        for _ in range(rng.choice([1, 1, 1, 2, 3, 8])):
            place = rng.randrange(header_end)
            match rng.randrange(5):
                case 0:
                    mutant[place] = rng.randrange(256)
                case 1:
                    mutant[place] ^= 1 << rng.randrange(8)
                case 2:
                    mutant[place : place + 1] = rng.choice(
                        [b"", b"0", b"9", b"-1", b'"', b",", b"}", b"[", b"null", b"1e3", b" "]
                    )
                case 3:
                    del mutant[rng.randrange(len(mutant)) :]
                case 4:
                    cut = rng.randrange(8, max(header_end, 9))
                    mutant[place:place] = mutant[cut : cut + rng.randrange(20)]
            header_end = min(header_end, len(mutant) - 1)
            if header_end < 1:
                break
        header_end = len(good) - 28
        if rng.random() < 0.6 and len(mutant) > 8:  # keep the claim right: reach what is behind it
            length = max(len(mutant) - 8 - 28, 0)
            mutant[:8] = struct.pack("<Q", length)
        path.write_bytes(mutant)
        try:
            theirs = dict(safe.deserialize(bytes(mutant)))
        except safe.SafetensorError:
            theirs = None
        try:
            file = TensorFile(path)
            ours = {name: file.read(name) for name in file.tensors}
        except FileRefusedError:
            ours = None
        if theirs is None:
            assert ours is None, bytes(mutant)
        elif ours is not None:
            accepted += 1
            assert set(ours) == set(theirs)
            for name, array in ours.items():
                assert list(array.shape) == theirs[name]["shape"]
                assert array.tobytes() == bytes(theirs[name]["data"])
        else:  # refused by us alone: only for what this reader promises to refuse
            with pytest.raises(FileRefusedError, match=r"stands twice|table of texts|begin"):
                TensorFile(path)
    assert 20 < accepted < 1900, "the mutations are too weak or too strong to show anything"


# Containers


def encoding(seed=0, **options):
    weight = np.random.default_rng(seed).standard_normal((6, 10)).astype(np.float32)
    return qsdk.registry.get("rtn", **{"bits": 4, **options}).quantize(weight)


def container_file(path, **more):
    items = {"w": encoding(), "bias": np.arange(3, dtype=np.float32), "v": encoding(1, bits=3)}
    write_container(path, {**items, **more}.items(), lambda: {"made_by": "a test"})
    return items


def test_encodings_and_arrays_come_back_from_a_container(tmp_path):
    path = tmp_path / "a.safetensors"
    items = container_file(path, none=encoding(2, group_size=3))
    container = Container(path)
    assert set(container) == {*items, "none"} and len(container) == 4
    assert container.metadata["made_by"] == "a test"
    assert container["bias"].tolist() == [0, 1, 2]
    for name in ("w", "v"):
        assert container[name].scheme == items[name].scheme
        assert container[name].dequantize().tobytes() == items[name].dequantize().tobytes()


def test_the_file_of_a_container_is_a_plain_safetensors_file(tmp_path):
    container_file(tmp_path / "a.safetensors")
    safe = pytest.importorskip("safetensors")
    with safe.safe_open(tmp_path / "a.safetensors", "np") as theirs:
        assert sorted(theirs.keys()) == sorted(
            ["bias", *(f"{n}:{p}" for n in "wv" for p in ("packed", "scale", "zero_point"))]
        )
        assert json.loads(theirs.metadata()["qsdk"])["schema_version"] == 1


def test_files_of_others_are_containers_without_encodings(tmp_path):
    write(tmp_path / "a.safetensors", {"w": np.eye(2)}, {"format": "pt"})
    container = Container(tmp_path / "a.safetensors")
    assert container.metadata == {} and np.array_equal(container["w"], np.eye(2))


def edit_document(path, change):
    """Rewrite the document in the header of a container."""
    file = TensorFile(path)
    document = json.loads(file.metadata["qsdk"])
    changed = change(document)
    text = changed if isinstance(changed, str) else json.dumps(changed or document)
    write(path, {name: file.read(name) for name in file.tensors}, {"qsdk": text})


def put(*keys, value):
    def change(document):
        place = document
        for key in keys[:-1]:
            place = place[key]
        place[keys[-1]] = value

    return change


def remove(*keys):
    def change(document):
        place = document
        for key in keys[:-1]:
            place = place[key]
        del place[keys[-1]]

    return change


TAMPERED = {
    "no JSON": (lambda d: "{", "its qsdk header cannot be read"),
    "a list": (lambda d: "[1]", "its qsdk header cannot be read"),
    "null": (lambda d: "null", "its qsdk header cannot be read"),
    "deep": (lambda d: "[" * 200_000, "its qsdk header cannot be read"),
    "no version": (remove("schema_version"), "cannot be read"),
    "another version": (put("schema_version", value=2), "has schema_version 2, .* reads 1"),
    "no encodings": (remove("encodings"), "cannot be read"),
    "encodings as a list": (put("encodings", value=[1]), "cannot be read"),
    "an entry as a text": (put("encodings", "w", value="affine"), "cannot be read"),
    "an entry without values": (remove("encodings", "w", "values"), "cannot be read"),
    "arrays that are numbers": (put("encodings", "w", "arrays", value=[1]), "incomplete"),
    "an array that is not there": (
        put("encodings", "w", "arrays", value=["packed", "scale", "zero_point", "more"]),
        "it lacks 'w:more', which its header names",
    ),
    "an array named twice": (
        put("encodings", "w", "arrays", value=["packed", "packed", "scale", "zero_point"]),
        "names an array twice",
    ),
    "a layer that is a tensor too": (
        put("encodings", "bias", value={"encoding": "affine", "values": {}, "arrays": []}),
        r"names an array twice \(bias\)",
    ),
    "an encoding that does not exist": (
        put("encodings", "w", "encoding", value="affin"),
        "'w': no encoding named 'affin'; did you mean 'affine'",
    ),
    "an encoding that is a quantizer": (put("encodings", "w", "encoding", value="rtn"), "'w': no"),
    "an encoding with colons": (put("encodings", "w", "encoding", value="a:b:c:d"), "'w': "),
    "other bits": (put("encodings", "w", "values", "bits", value=5), "'w': packed of int5"),
    "another shape": (put("encodings", "w", "values", "shape", value=[10, 6]), "'w': scale"),
    "a shape of texts": (put("encodings", "w", "values", "shape", value=["x"]), "'w': not an"),
    "an infinite shape": (
        put("encodings", "w", "values", "shape", value=[float("inf")]),
        "'w': not an affine encoding",
    ),
    "an empty but endless shape": (
        put("encodings", "w", "values", "shape", value=[0, 2**62, 2**62]),
        "'w': not an affine encoding",
    ),
    "no bits": (remove("encodings", "w", "values", "bits"), "'w': not an affine .*bits"),
    "a truth value as bits": (put("encodings", "w", "values", "bits", value=True), "bits is True"),
}


@pytest.mark.parametrize("case", TAMPERED)
def test_a_container_that_was_tampered_with_is_refused_by_name(tmp_path, case):
    change, message = TAMPERED[case]
    path = tmp_path / "a.safetensors"
    container_file(path)
    edit_document(path, change)
    with pytest.raises(FileRefusedError, match=f"a.safetensors is refused: .*{message}"):
        qsdk.load(path)


def test_an_encoding_that_is_not_installed_is_refused_with_the_package_to_install(tmp_path):
    path = tmp_path / "a.safetensors"
    container_file(path)
    edit_document(path, put("encodings", "w", "encoding", value="foreign"))
    made = [{"origin": o} for o in (f"qsdk {qsdk.__version__}", "acme-nets 2.1", "acme-nets 2.1")]
    edit_document(path, put("quantizers", value=made))
    with pytest.raises(FileRefusedError) as caught:
        Container(path)["w"]
    assert "'w': no encoding named 'foreign'" in str(caught.value)
    assert str(caught.value).endswith(
        "; install the package that the file was made with, by its own account acme-nets 2.1: "
        "pip install 'acme-nets==2.1'"
    )


SAID = {
    "nothing": None,
    "a number": 3,
    "texts": ["acme 1.0"],
    "no origin": [{}],
    "an origin that is a list": [{"origin": ["acme 1.0"]}],
    "an option of pip": [{"origin": "--pre 1.0"}],
    "a command": [{"origin": "acme 1.0'; rm"}],
    "an address": [{"origin": "acme@http://x 1.0"}],
    "an escape": [{"origin": "acme\x1b[31m 1.0"}],
}


@pytest.mark.parametrize("case", SAID)
def test_what_a_file_says_of_its_making_never_becomes_a_word_for_pip_unless_it_can_be(
    tmp_path, case
):
    path = tmp_path / "a.safetensors"
    container_file(path)
    edit_document(path, put("encodings", "w", "encoding", value="foreign"))
    edit_document(path, put("quantizers", value=SAID[case]))
    with pytest.raises(FileRefusedError) as caught:
        Container(path)["w"]
    assert str(caught.value).endswith("; install the package that the file was made with")


def test_arrays_that_do_not_fit_their_encoding_are_refused(tmp_path):
    path = tmp_path / "a.safetensors"
    container_file(path)
    file = TensorFile(path)
    tensors = {name: file.read(name) for name in file.tensors}
    tensors["w:scale"] = -tensors["w:scale"]
    write(path, tensors, file.metadata)
    with pytest.raises(FileRefusedError, match="'w': a scale is -"):
        Container(path)["w"]


def test_nothing_is_unpickled():
    root = Path(qsdk.__file__).parent.parent
    for folder in ("qsdk", "plugins"):
        for path in (root / folder).rglob("*.py"):
            text = path.read_text(encoding="utf-8")
            assert "import pickle" not in text and "allow_pickle=True" not in text, path


def test_temporary_files_carry_the_host_and_process(tmp_path):
    with atomic.temporary(tmp_path / "x") as (_, name):
        assert name.name.startswith(f".qsdk-{socket.gethostname()}-{os.getpid()}-")
        assert name.parent == tmp_path
    assert not name.exists()
