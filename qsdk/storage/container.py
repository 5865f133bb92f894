"""Encodings in a safetensors file: arrays under ``layer:array``, the rest as JSON in the header.

The header's text ``qsdk`` is one JSON document: ``schema_version``, what the run noted about
itself, and for each layer the encoding's name with its plain values.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from qsdk.encodings import Encoding
from qsdk.errors import EncodingError, FileRefusedError, UnknownNameError
from qsdk.registry import registry
from qsdk.storage.tensor_file import TensorFile, write_tensors

SCHEMA_VERSION = 1  # of what a file says of its making, be it a container or a model


def write_container(
    path: Path,
    items: Iterable[tuple[str, Encoding | NDArray[Any]]],
    metadata: Callable[[], Mapping[str, Any]],
    texts: Mapping[str, str] | None = None,
) -> None:
    """Write encodings and plain arrays, one at a time; ``metadata`` is called at the end.

    texts : more entries for the header, such as those of a source file
    """
    layers: dict[str, Any] = {}
    header = dict(texts or {})
    with write_tensors(path, header) as writer:
        for name, item in items:
            if not isinstance(item, Encoding):
                writer.add(name, np.asarray(item))
                continue
            arrays, values = item.arrays()
            layers[name] = {"encoding": item.name, "values": values, "arrays": sorted(arrays)}
            for part, array in arrays.items():
                writer.add(f"{name}:{part}", array)
        noted = dict(metadata())
        if layers or noted:
            document = {**noted, "schema_version": SCHEMA_VERSION, "encodings": layers}
            header["qsdk"] = json.dumps(document, sort_keys=True)


class Container(Mapping[str, "Encoding | NDArray[Any]"]):
    """A safetensors file as a mapping, with the encodings in it, if qsdk wrote any.

    metadata : the JSON document in the header; empty for files of others
    Everything is read when it is asked for; every invariant of an encoding is checked.
    """

    def __init__(self, path: Path):
        self.file = TensorFile(path)
        self.metadata = self._document()
        self._encodings: dict[str, Any] = self.metadata.get("encodings", {})
        named = [f"{n}:{part}" for n, e in self._encodings.items() for part in e["arrays"]]
        parts = set(named)
        missing = parts - set(self.file.tensors)
        if missing:
            raise self._refuse(f"it lacks {min(missing)!r}, which its header names")
        plain = [name for name in self.file.tensors if name not in parts]
        twice = set(plain) & set(self._encodings)
        if twice or len(named) > len(parts):
            raise self._refuse(f"its header names an array twice ({min(twice, default='a part')})")
        self._names = [*plain, *self._encodings]

    def __iter__(self) -> Iterator[str]:
        return iter(self._names)

    def __len__(self) -> int:
        return len(self._names)

    def __getitem__(self, name: str) -> Encoding | NDArray[Any]:
        if name not in self._encodings:
            return self.file.read(name)
        entry = self._encodings[name]
        arrays = {part: self.file.read(f"{name}:{part}") for part in entry["arrays"]}
        try:
            target = registry.encoding(entry["encoding"], self.metadata)
            return target.from_arrays(arrays, entry["values"])
        except (EncodingError, UnknownNameError) as error:
            raise self._refuse(f"{name!r}: {error}") from error

    def _refuse(self, reason: str) -> FileRefusedError:
        return FileRefusedError(f"{self.file.path.name} is refused: {reason}")

    def _document(self) -> dict[str, Any]:
        text = self.file.metadata.get("qsdk")
        if text is None:
            return {}
        try:
            document = json.loads(text)
            version = document["schema_version"]
            for entry in document["encodings"].values():
                if not (
                    isinstance(entry["encoding"], str)
                    and isinstance(entry["values"], dict)
                    and all(isinstance(part, str) for part in entry["arrays"])
                ):
                    raise ValueError("an encoding's entry is incomplete")
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
            raise self._refuse(f"its qsdk header cannot be read ({error})") from None
        if version != SCHEMA_VERSION:
            raise self._refuse(
                f"it has schema_version {version!r}, and this qsdk reads {SCHEMA_VERSION}; "
                "install the version that wrote it"
            )
        assert isinstance(document, dict)
        return document
