"""What a calibration found: one observer per site, to keep, to merge and to take codes from."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import attrs
import numpy as np
from numpy.typing import NDArray

from qsdk.calibration.coverage import Coverage
from qsdk.calibration.watch import Watch
from qsdk.errors import DataError, FileRefusedError
from qsdk.interfaces import FixedCodes, Observer
from qsdk.storage import TensorFile, write_tensors

SCHEMA_VERSION = 1
KEY = "qsdk-calibration"  # of the document in the file's header
DIGEST_BITS = 256


@attrs.define(eq=False)
class Calibration:
    """Statistics of a model's tensors, of a fixed size however much data was seen.

    watches, observers, coverage : by name of the site
    model : fingerprint of the model they were taken from
    batches, rows : how much was seen
    data : the digests of all batches added up, so that neither cut nor order of shards matters
    """

    watches: dict[str, Watch]
    observers: dict[str, Observer]
    coverage: dict[str, Coverage]
    model: str
    batches: int = 0
    rows: int = 0
    data: int = 0

    @classmethod
    def new(cls, watches: Sequence[Watch], model: str) -> Calibration:
        named = {watch.name: watch for watch in watches}
        observers = {name: watch.new() for name, watch in named.items()}
        return cls(named, observers, {name: Coverage() for name in named}, model)

    @property
    def nbytes(self) -> int:
        """Bytes of all statistics."""
        states = [observer.state().values() for observer in self.observers.values()]
        return sum(array.nbytes for arrays in states for array in arrays)

    @property
    def codes(self) -> dict[str, FixedCodes]:
        """Codes for every tensor of every site."""
        found: dict[str, FixedCodes] = {}
        for name, watch in self.watches.items():
            scale, zero_point = self.observers[name].params(watch.scheme)
            codes = FixedCodes(scale=float(scale), zero_point=int(zero_point), scheme=watch.scheme)
            found |= dict.fromkeys(watch.site.tensors, codes)
        return found

    @property
    def lines(self) -> dict[str, str]:
        """For each site what was seen, and whether that was enough."""
        return {name: str(coverage) for name, coverage in self.coverage.items()}

    @property
    def thin(self) -> list[str]:
        """Sites whose range may be much too narrow: the data looks too little for them."""
        return [name for name, found in self.coverage.items() if not found.is_enough]

    def merge(self, other: Calibration) -> Calibration:
        """What one pass over the data of both would have found, to the bit.

        Raises DataError for statistics of another model or of other observers, and where an
        observer's answer depends on the order of the batches.
        """
        self.check_made_for(other.model, list(other.watches.values()), "the other")
        return Calibration(
            self.watches,
            {name: seen.merge(other.observers[name]) for name, seen in self.observers.items()},
            {name: seen.merge(other.coverage[name]) for name, seen in self.coverage.items()},
            self.model,
            self.batches + other.batches,
            self.rows + other.rows,
            (self.data + other.data) % 2**DIGEST_BITS,
        )

    def check_made_for(self, model: str, watches: Sequence[Watch], what: str) -> None:
        """DataError unless these are statistics of this model, by these observers."""
        if self.model != model:
            raise DataError(
                f"{what} statistics belong to another model ({self.model[:12]}..., not "
                f"{model[:12]}...); calibrate anew, into another file"
            )
        ours = {name: watch.to_dict() for name, watch in self.watches.items()}
        theirs = {watch.name: watch.to_dict() for watch in watches}
        for name in [*ours, *theirs]:
            if ours.get(name) != theirs.get(name):
                raise DataError(
                    f"{what} statistics observe {name!r} with {ours.get(name)}, and wanted is "
                    f"{theirs.get(name)}; calibrate anew, into another file"
                )

    def save(self, path: str | Path) -> None:
        """Write a safetensors file, atomically: the same bytes for the same statistics."""
        document = {
            "schema_version": SCHEMA_VERSION,
            "model": self.model,
            "batches": self.batches,
            "rows": self.rows,
            "data": f"{self.data:064x}",
            "watches": [watch.to_dict() for watch in self.watches.values()],
        }
        with write_tensors(Path(path), {KEY: json.dumps(document, sort_keys=True)}) as writer:
            for i, name in enumerate(self.watches):
                for part, array in self.observers[name].state().items():
                    writer.add(f"{i}:observer:{part}", array)
                seen = self.coverage[name]
                writer.add(f"{i}:batches", np.array(seen.batches, np.int64))
                writer.add(f"{i}:low", seen.low)
                writer.add(f"{i}:high", seen.high)


def load_calibration(path: str | Path, watches: Sequence[Watch], model: str) -> Calibration:
    """What :meth:`Calibration.save` wrote, if it is of this model and these observers.

    Raises FileRefusedError for a file that is none, DataError for another model's.
    """
    file = TensorFile(path)
    try:
        document = json.loads(file.metadata[KEY])
        if document["schema_version"] != SCHEMA_VERSION:
            raise ValueError(f"schema_version is {document['schema_version']!r}")
        found = Calibration.new(watches, str(document["model"]))
        same = document["watches"] == json.loads(json.dumps([w.to_dict() for w in watches]))
        counts = [int(document[word]) for word in ("batches", "rows")]
        found.batches, found.rows = counts
        found.data = int(document["data"], 16)
    except (KeyError, TypeError, ValueError, RecursionError) as error:
        raise _refuse(file, f"its header cannot be read ({error!r})") from None
    name = Path(path).name
    found.check_made_for(model, watches, f"{name}'s")
    if not same:
        raise DataError(f"{name} was made with other observers; calibrate anew, into another file")
    for i, watch in enumerate(found.watches):
        parts = _parts(file, f"{i}:")
        try:
            found.coverage[watch] = Coverage(
                int(parts.pop("batches")), parts.pop("low"), parts.pop("high")
            )
            state = {part.removeprefix("observer:"): array for part, array in parts.items()}
            found.observers[watch].load_state(state)
        except (KeyError, TypeError, DataError) as error:
            raise _refuse(file, f"the statistics of {watch!r} are damaged: {error}") from None
    return found


def _parts(file: TensorFile, prefix: str) -> dict[str, NDArray[Any]]:
    names = [name for name in file.tensors if name.startswith(prefix)]
    return {name.removeprefix(prefix): np.array(file.read(name)) for name in names}


def _refuse(file: TensorFile, reason: str) -> FileRefusedError:
    return FileRefusedError(f"{file.path.name} holds no statistics of a calibration: {reason}")
