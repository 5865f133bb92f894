"""Output that is whole or absent: written under another name, flushed, then renamed."""

from __future__ import annotations

import contextlib
import os
import re
import secrets
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

_PREFIX = ".qsdk-"


@contextlib.contextmanager
def write_atomic(path: str | Path) -> Iterator[BinaryIO]:
    """A binary file that takes the place of ``path`` when the block ends without an error.

    Until then, and whatever happens, the old file stays as it was. The temporary file lies in
    the same folder; those of processes that were killed are swept away first. A symbolic link
    is followed, and the permissions of an old file are kept.

    >>> import tempfile
    >>> target = Path(tempfile.mkdtemp()) / "greeting.txt"
    >>> with write_atomic(target) as file:
    ...     _ = file.write(b"hello")
    >>> target.read_bytes()
    b'hello'
    """
    with temporary(Path(path).resolve()) as (file, name):
        yield file
        file.flush()
        os.fsync(file.fileno())
        target = Path(path).resolve()
        with contextlib.suppress(FileNotFoundError):
            name.chmod(target.stat().st_mode & 0o7777)
        name.replace(target)
        _sync_folder(target.parent)


@contextlib.contextmanager
def temporary(beside: Path) -> Iterator[tuple[BinaryIO, Path]]:
    """An open file in the folder of ``beside`` that is gone after the block."""
    sweep(beside.parent)
    owner = f"{_PREFIX}{socket.gethostname()}-{os.getpid()}-"
    name = beside.parent / f"{owner}{secrets.token_hex(4)}.tmp"
    try:
        with open(name, "x+b") as file:
            yield file, name
    finally:
        name.unlink(missing_ok=True)


def sweep(folder: Path) -> None:
    """Remove temporary files that dead processes of this machine have left in ``folder``."""
    host = socket.gethostname()
    ours = re.compile(re.escape(f"{_PREFIX}{host}-") + r"([0-9]{1,9})-[0-9a-f]+\.tmp")
    for leftover in folder.glob(f"{_PREFIX}*.tmp"):
        owner = ours.fullmatch(leftover.name)  # another host's name may begin like this one's
        if owner and not _alive(int(owner[1])):
            with contextlib.suppress(OSError):
                leftover.unlink()


def _alive(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except OSError:
        return True
    return True


def _sync_folder(folder: Path) -> None:
    """Make the rename last; not every system lets a folder be opened."""
    with contextlib.suppress(OSError):
        handle = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)
