"""The contract of passes, on the examples of the adapters whose models can give what they need."""

from __future__ import annotations

import contextlib
import functools
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import attrs
import numpy as np

from qsdk.errors import MissingExtraError, OptionError
from qsdk.interfaces import Adapter, Coding, FixedCodes, Model, ModelPass, Tuner
from qsdk.registry import registry
from qsdk.scheme import Scheme
from qsdk.storage import ArrayModel
from qsdk.testing.adapters import contents, encoded
from qsdk.testing.check import Case, Contract, NotApplicable, refused_with, require
from qsdk.testing.subject import Subject

# What this kit can give.
PROVIDED = frozenset({"graph", "run", "calibration", "reference", "codes"})
CODES = FixedCodes(scale=1 / 32, zero_point=128, scheme=Scheme(bits=8, signed=False))
OFF = 1e-3  # of the largest output, by which the new one of a pass that preserves may differ


@attrs.frozen
class Sample:
    """A pass, the model that it is tried on, and what it is given beside it."""

    pass_: ModelPass
    model: Model
    given: dict[str, Any]
    feeds: dict[str, Any]

    def apply(self) -> Model:
        return self.pass_.apply(self.model, **self.given)


@contextlib.contextmanager
def _sample(subject: Subject, adapter: Adapter) -> Iterator[Sample]:
    pass_: ModelPass = subject.build()
    with tempfile.TemporaryDirectory(prefix="qsdk-check-") as folder:
        try:
            model = adapter.open(type(adapter).example(Path(folder)))
            missing = (pass_.needs & {"graph", "run"}) - model.has
            if missing:
                raise NotApplicable(f"a {model.format} model has no {', '.join(sorted(missing))}")
            feeds = _noise(model) if "run" in model.has else {}
        except MissingExtraError as error:
            raise NotApplicable(str(error)) from None
        given: dict[str, Any] = {}
        if "calibration" in pass_.needs:
            given["calibration"] = [feeds, feeds]
        if "reference" in pass_.needs:
            given["reference"] = model
            model = _coded(pass_, model)
        yield Sample(pass_, model, given, feeds)


def _coded(pass_: ModelPass, model: Model) -> Model:
    """The model with codes for its weights, and for its tensors where a pass moves these too."""
    coding = Coding(encodings={layer.name: encoded(layer.weight) for layer in model.layers})
    if isinstance(pass_, Tuner):
        sites = model.sites([layer.name for layer in model.layers])
        tensors = [tensor for site in sites for tensor in site.tensors]
        coding = attrs.evolve(coding, codes=dict.fromkeys(tensors, CODES))
    return coding.applied(model)


def _noise(model: Model) -> dict[str, Any]:
    rng = np.random.default_rng(0)
    return {
        name: rng.standard_normal(zeros.shape).astype(zeros.dtype)
        for name, zeros in model.blank(3).items()
    }


def cases(subject: Subject) -> Iterator[Case]:
    """One for each adapter that has an example."""
    needs = frozenset(subject.target.needs) & PROVIDED
    for entry in registry.entries("adapter"):
        adapter = entry.target()
        yield Case(
            entry.name, f"on {entry.name}", functools.partial(_sample, subject, adapter), needs
        )


def declared(subject: Subject) -> frozenset[str]:
    return frozenset(subject.target.needs)


CONTRACT = Contract("pass", cases, declared)
promise = CONTRACT.promise


def _outputs(model: Model, feeds: dict[str, Any]) -> dict[str, Any]:
    if "run" not in model.has:
        raise NotApplicable(f"a {model.format} model cannot run")
    return model.run(feeds)


@promise()
def check_a_pass_leaves_its_model_unchanged(sample: Sample) -> None:
    """The model that it was given has the same weights afterwards, and computes the same bits."""
    before, outputs = contents(sample.model), _outputs(sample.model, sample.feeds)
    sample.apply()
    require(contents(sample.model) == before, "the weights of the model given were changed")
    for name, value in _outputs(sample.model, sample.feeds).items():
        same = value.tobytes() == outputs[name].tobytes()
        require(same, f"output {name!r} of the model given was changed")


@promise()
def check_a_pass_keeps_the_layers(sample: Sample) -> None:
    """The new model has layers of the same names and shapes, stored as before, in their order."""
    before, after = ([(la.name, la.shape, la.stored) for la in model.layers]
                     for model in (sample.model, sample.apply()))  # fmt: skip
    require(after == before, f"it turned layers {before} into {after}")


@promise()
def check_a_pass_gives_the_same_bits_twice(sample: Sample) -> None:
    """Two runs of it give models with the same weights and outputs."""
    first, second = sample.apply(), sample.apply()
    require(contents(first) == contents(second), "the second run gives other weights")
    expected = _outputs(first, sample.feeds)
    for name, value in _outputs(second, sample.feeds).items():
        same = value.tobytes() == expected[name].tobytes()
        require(same, f"output {name!r} is another after the second run")


@promise()
def check_a_pass_that_preserves_keeps_the_outputs(sample: Sample) -> None:
    """What declares ``preserves`` gives a model of the same outputs, up to rounding."""
    if not sample.pass_.preserves:
        raise NotApplicable("it does not say that it preserves what a model computes")
    expected = _outputs(sample.model, sample.feeds)
    for name, value in _outputs(sample.apply(), sample.feeds).items():
        off, largest = (float(np.abs(a).max(initial=0)) for a in (value - expected[name], value))
        require(off <= OFF * largest, f"output {name!r} is off by {off} of {largest}")


@promise()
def check_a_passs_model_can_be_written(sample: Sample) -> None:
    """The new model saves into a file, which opens again with the same weights."""
    model = sample.apply()
    with tempfile.TemporaryDirectory(prefix="qsdk-check-") as folder:
        path = Path(folder) / f"written{model.suffix}"
        model.save(path)
        readers = [e.target() for e in registry.entries("adapter")]
        again = next(reader for reader in readers if reader.accepts(path)).open(path)
        require(contents(again) == contents(model), "other weights came back from its file")


@promise()
def check_a_pass_refuses_what_lacks_its_needs(sample: Sample) -> None:
    """A model without what it needs is refused with OptionError before anything is done."""
    if not sample.pass_.needs & {"graph", "run", "reference"}:
        raise NotApplicable("it needs nothing that an array could lack")
    arrays = _Arrays({"w": np.ones((2, 3), np.float32)})
    refused_with(OptionError, "a model of arrays", sample.pass_.apply, arrays)


class _Arrays(ArrayModel):
    format = "arrays"


@promise()
def check_a_pass_is_frozen_and_has_defaults(sample: Sample) -> None:
    """Its options are attrs fields with defaults, and setting one raises AttributeError."""
    pass_ = sample.pass_
    for field in attrs.fields(type(pass_)):
        require(field.default is not attrs.NOTHING, f"option {field.name} has no default")
        value = getattr(pass_, field.name)
        refused_with(AttributeError, f"setting {field.name}", setattr, pass_, field.name, value)
    refused_with(AttributeError, "setting a new field", setattr, pass_, "no_such_field", 1)
