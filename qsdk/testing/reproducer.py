"""A failure in a file: the array, which check of what it broke, and how to run it again.

An ``.npz`` with the array and one JSON text; nothing is pickled.
"""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from qsdk.errors import FileRefusedError
from qsdk.storage import ZippedArrays, write_atomic
from qsdk.testing.check import KIT_VERSION, Array, Check

SHOWN = 12  # values of an array that a message shows


def save(folder: Path, check: Check, array: Array | None, message: str) -> Path:
    """Write the reproducer of one failure; returns its path."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / (re.sub(r"[^\w.-]+", "-", check.test_id) + ".npz")
    subject = check.subject
    document = {
        "kit_version": KIT_VERSION,
        "subject": subject.full_name or subject.target.__qualname__,
        "registered": bool(subject.full_name),
        "options": subject.plain_options(),
        "check": check.name,
        "case": check.case.label,
        "message": message,
        "replay": _lines(path, bool(subject.full_name)),
    }
    arrays: dict[str, NDArray[Any]] = {"qsdk": np.array(json.dumps(document))}
    if array is not None:
        arrays["array"] = array
    with write_atomic(path) as file:
        np.savez(file, **arrays)  # type: ignore[arg-type]  # no array is named allow_pickle
    return path


def _lines(path: Path, registered: bool) -> str:
    subject = "" if registered else ", subject=..."
    return f"import qsdk.testing\nqsdk.testing.replay({str(path)!r}{subject})"


def read(path: Path) -> tuple[dict[str, Any], Array | None]:
    """The document and the array of a reproducer."""
    try:
        held = ZippedArrays(path)
        document = json.loads(str(held["qsdk"].read()))
        array = held["array"].read() if "array" in held else None
        assert {"subject", "registered", "options", "check", "case"} <= set(document)
    except (ValueError, OSError, KeyError, EOFError, TypeError, AssertionError) as error:
        raise FileRefusedError(f"{path} is no reproducer of qsdk.testing: {error}") from None
    return document, array


def in_words(array: Array) -> str:
    """The array for a message, cut where it is long."""
    if array.size > SHOWN:
        first = ", ".join(f"{value:g}" for value in array.flat[:SHOWN])
        return f"{array.dtype} {array.shape}: {first}, ..."
    return f"{array.dtype} {array.shape}: {array.tolist()}"
