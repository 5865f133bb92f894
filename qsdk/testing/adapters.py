"""The contract of adapters, on the source that the adapter's own ``example`` writes."""

from __future__ import annotations

import contextlib
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import attrs
import numpy as np

from qsdk.affine import quantize, scale_and_zero_point
from qsdk.encodings import Affine, Encoding
from qsdk.errors import FileRefusedError, MissingExtraError
from qsdk.interfaces import Adapter, Model
from qsdk.pipeline import load
from qsdk.scheme import Scheme
from qsdk.testing.check import (
    Array,
    Case,
    Contract,
    ContractBroken,
    Inputs,
    NotApplicable,
    refused_with,
    require,
)
from qsdk.testing.subject import Subject

SCHEME = Scheme(bits=8, granularity="per_tensor")
NOTED = {"made_by": "qsdk.testing", "numbers": [1, 2], "nested": {"text": "äöü"}}


@attrs.frozen
class Sample:
    """An adapter, a folder that is gone after the check, and the example in it."""

    adapter: Adapter
    folder: Path
    source: Any

    @property
    def file(self) -> Path:
        if not isinstance(self.source, Path):
            raise NotApplicable("its example is no file")
        return self.source

    def open(self) -> Model:
        return self.adapter.open(self.source)

    def written(self, model: Model, *, metadata: dict[str, Any] | None = None) -> Path:
        """The model in a new file, every layer quantized."""
        path = self.folder / f"written{model.suffix}"
        encodings = ((layer.name, encoded(layer.weight)) for layer in model.layers)
        model.write(path, encodings, lambda: metadata or {})
        return path

    def reopened(self, path: Path) -> Model:
        """What was written may be another adapter's kind of file."""
        return self.adapter.open(path) if self.adapter.accepts(path) else load(path)


@contextlib.contextmanager
def _sample(subject: Subject) -> Iterator[Sample]:
    with tempfile.TemporaryDirectory(prefix="qsdk-check-") as name:
        folder = Path(name)
        try:
            source = subject.target.example(folder)
        except MissingExtraError as error:
            raise NotApplicable(str(error)) from None
        if source is None:
            raise NotApplicable(f"{subject.target.__name__}.example gives no source to open")
        yield Sample(subject.build(), folder, source)


def cases(subject: Subject) -> Iterator[Case]:
    yield Case("", "", lambda: _sample(subject), frozenset({"example"}), {"subject": subject})


def declared(subject: Subject) -> frozenset[str]:
    return frozenset({"example"})


CONTRACT = Contract("adapter", cases, declared)
promise = CONTRACT.promise


def encoded(weight: Array) -> Encoding:
    """The weight in 8 bits, by the core's own functions."""
    floats = np.asarray(weight, np.float32)
    scale, zero = scale_and_zero_point(floats.min(initial=0), floats.max(initial=0), SCHEME)
    return Affine.from_codes(quantize(floats, scale, zero, SCHEME), scale, zero, SCHEME)


def contents(model: Model) -> list[tuple[str, tuple[int, ...], str, bytes]]:
    """Name, shape, format and bytes of every layer."""
    return [
        (layer.name, tuple(layer.shape), layer.stored, np.ascontiguousarray(layer.weight).tobytes())
        for layer in model.layers
    ]


# -- Opening


@promise()
def check_strangers_are_not_accepted(sample: Sample) -> None:
    """``accepts`` is False, and raises nothing, for other files and other objects."""
    strangers = [Path("weights.stranger"), Path("no-suffix"), Path(), 42, None, object(), "text"]
    for stranger in strangers:
        require(
            sample.adapter.accepts(stranger) is False, f"it accepts {stranger!r}, which is no model"
        )


@promise()
def check_the_example_is_accepted(sample: Sample) -> None:
    """``accepts`` is True for it, in capital letters as well, and it opens as a Model."""
    require(sample.adapter.accepts(sample.source) is True, "it does not accept its own example")
    model = sample.open()
    require(isinstance(model, Model), f"it opens as {type(model).__name__}, no Model")
    require(len(model.layers) >= 2, f"its example has {len(model.layers)} layers, not 2 or more")
    if isinstance(sample.source, Path):
        loud = sample.source.with_suffix(sample.source.suffix.upper())
        require(sample.adapter.accepts(loud) is True, f"it does not accept {loud.name}")


@promise()
def check_layer_names_are_unique(sample: Sample) -> None:
    """No two layers have one name, and none an empty one."""
    names = [layer.name for layer in sample.open().layers]
    require(all(names) and len(set(names)) == len(names), f"the layers are named {names}")


@promise()
def check_weights_have_the_shape_of_their_layer(sample: Sample) -> None:
    """Floats of ``layer.shape``, finite in the example."""
    for layer in sample.open().layers:
        weight = layer.weight
        require(
            weight.shape == tuple(layer.shape),
            f"{layer.name} has shape {layer.shape}, and its weight {weight.shape}",
        )
        require("float" in weight.dtype.name, f"the weight of {layer.name} is {weight.dtype}")
        require(np.isfinite(weight).all(), f"the weight of {layer.name} is not finite")


@promise()
def check_weights_can_be_read_again(sample: Sample) -> None:
    """Each reading gives the same bytes, and so does opening again."""
    model = sample.open()
    first = contents(model)
    require(contents(model) == first, "reading the weights again gives others")
    require(contents(sample.open()) == first, "opening again gives other layers")


@promise()
def check_writing_into_a_weight_changes_no_model(sample: Sample) -> None:
    """What a layer gives is read-only, or new at each reading."""
    model = sample.open()
    before = contents(model)
    for layer in model.layers:
        weight = layer.weight
        if weight.flags.writeable:
            weight[...] = 7
    require(contents(model) == before, "writing into a weight changed the model")


@promise()
def check_the_codes_of_a_layer_decode_to_its_weight(sample: Sample) -> None:
    """``encoding`` of a layer is None, or has its shape and the values of its weight."""
    model = sample.open()
    for layer in (*model.layers, *sample.reopened(sample.written(model)).layers):
        encoding, weight = layer.encoding, layer.weight
        if encoding is not None:
            decoded = encoding.dequantize()
            require(
                decoded.shape == weight.shape
                and np.array_equal(decoded.astype(weight.dtype), weight),
                f"{layer.name} of {weight.shape} has codes that decode to other values",
            )


# -- Damaged files


def _bytes_of_example(case: Case) -> bytes:
    with contextlib.ExitStack() as stack:
        try:
            sample = stack.enter_context(_sample(case.facts["subject"]))
            return sample.file.read_bytes()
        except Exception:
            return b""  # the check itself meets the same, and says so


def _no_model(case: Case) -> Inputs:
    """Files that are none, whatever the format."""
    rng = np.random.default_rng(0)
    yield "an empty file", np.zeros(0, np.uint8)
    yield "zeros", np.zeros(64, np.uint8)
    for size in (7, 64, 4096):
        yield f"{size} random bytes", rng.integers(128, 256, size).astype(np.uint8)


def _damaged(case: Case) -> Inputs:
    """The example cut short at several places, and with bytes changed."""
    data = np.frombuffer(_bytes_of_example(case), np.uint8)
    if not data.size:
        yield "an empty file", data
        return
    for share in (1, 2, 4, 8):
        yield f"cut at {share}/16", data[: len(data) * share // 16]
    yield "without its last byte", data[:-1]
    rng = np.random.default_rng(1)
    for seed in range(24):
        changed = data.copy()
        places = rng.integers(0, min(len(data), 2 ** (4 + seed % 9)), 1 + seed % 3)
        changed[places] ^= np.uint8(1 << seed % 8)
        yield f"damage {seed}", changed


def _read_all(sample: Sample, path: Path) -> None:
    model = sample.adapter.open(path)
    for layer in model.layers:
        _ = layer.weight
    _ = model.metadata, model.skipped


def _with_bytes(sample: Sample, data: Array) -> Path:
    path = sample.folder / f"damaged{sample.file.suffix}"
    path.write_bytes(data.tobytes())
    return path


@promise(_no_model)
def check_a_file_that_is_no_model_is_refused(sample: Sample, data: Array) -> None:
    """An empty file and random bytes raise FileRefusedError and nothing else."""
    path = _with_bytes(sample, data)
    what = f"a file of {data.size} senseless bytes"
    refused_with(FileRefusedError, what, _read_all, sample, path)


@promise(_damaged)
def check_a_damaged_file_is_refused_or_read(sample: Sample, data: Array) -> None:
    """The example cut short or changed anywhere is read, or raises FileRefusedError."""
    path = _with_bytes(sample, data)
    try:
        _read_all(sample, path)
    except FileRefusedError:
        pass
    except Exception as error:
        raise ContractBroken(
            f"a damaged file raised {type(error).__name__} ({error}), not FileRefusedError"
        ) from error


# -- Quantizing


@promise()
def check_with_encodings_gives_another_model(sample: Sample) -> None:
    """The named layers are quantized in the new model; the old one stays as it was."""
    model = sample.open()
    before = contents(model)
    first = model.layers[0]
    encoding = encoded(first.weight)
    other = model.with_encodings({first.name: encoding}, NOTED)
    require(contents(model) == before, "the first model changed")
    changed = next(layer for layer in other.layers if layer.name == first.name)
    require(not changed.is_float, f"{first.name} of the new model is {changed.stored}")
    require(
        np.array_equal(changed.weight, encoding.dequantize()),
        f"{first.name} of the new model does not have the encoding's values",
    )
    rest = [item for item in contents(other) if item[0] != first.name]
    require(rest == [item for item in before if item[0] != first.name], "other layers changed")


@promise()
def check_what_is_written_is_quantized(sample: Sample) -> None:
    """The file opens with the same layers, none of them float, decoded to the same values."""
    model = sample.open()
    again = sample.reopened(sample.written(model))
    names = [layer.name for layer in model.layers]
    found = [layer.name for layer in again.layers]
    require(found == names, f"layers {names} came back as {found}")
    for before, after in zip(model.layers, again.layers, strict=True):
        require(not after.is_float, f"{after.name} was written as {after.stored}")
        require(
            np.array_equal(after.weight, encoded(before.weight).dequantize()),
            f"{after.name} does not decode to the values of its encoding",
        )


@promise()
def check_a_model_saved_as_it_is_keeps_its_weights(sample: Sample) -> None:
    """``save`` without encodings loses and changes nothing."""
    model = sample.open()
    path = sample.folder / f"saved{model.suffix}"
    model.save(path)
    require(contents(sample.reopened(path)) == contents(model), "saving changed the layers")


@promise()
def check_metadata_comes_back(sample: Sample) -> None:
    """What a run notes is read from the file that it wrote, and is empty before."""
    model = sample.open()
    noted = sample.reopened(sample.written(model, metadata=NOTED)).metadata
    for word, value in NOTED.items():
        require(noted.get(word) == value, f"metadata {word!r} came back as {noted.get(word)!r}")


@promise()
def check_writing_leaves_nothing_beside_the_file(sample: Sample) -> None:
    """Writing leaves no temporary file, and the source as it was."""
    source = sample.file.read_bytes()
    before = set(sample.folder.rglob("*"))
    path = sample.written(sample.open())
    beside = {found.name for found in set(sample.folder.rglob("*")) - before - {path}}
    require(not beside, f"writing left {sorted(beside)}")
    require(sample.file.read_bytes() == source, "writing changed the source")


@promise()
def check_a_write_that_fails_leaves_the_old_file(sample: Sample) -> None:
    """When the encodings stop half way, the target stays as it was, with nothing beside it."""
    model = sample.open()
    path = sample.folder / f"target{model.suffix}"
    path.write_bytes(b"old")
    before = set(sample.folder.rglob("*"))
    first = model.layers[0]

    def breaks() -> Iterator[tuple[str, Encoding]]:
        yield first.name, encoded(first.weight)
        raise InterruptedError

    with contextlib.suppress(InterruptedError):
        model.write(path, breaks())
        require(False, "it took no notice of an error in the encodings")
    require(path.read_bytes() == b"old", "a write that failed changed the target")
    beside = {found.name for found in set(sample.folder.rglob("*")) - before}
    require(not beside, f"a write that failed left {sorted(beside)}")
