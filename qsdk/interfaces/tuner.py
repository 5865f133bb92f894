"""A pass that moves the codes and scales of a quantized model, of several layers together."""

from __future__ import annotations

import abc
from collections.abc import Iterable, Mapping
from typing import Any, ClassVar

import attrs

from qsdk.encodings import Encoding
from qsdk.interfaces.model import Model
from qsdk.interfaces.model_pass import Feeds, ModelPass
from qsdk.interfaces.operation import Activations, InputForm
from qsdk.interfaces.site import FixedCodes


@attrs.frozen(kw_only=True, eq=False)
class Coding:
    """All codes of a model: with its float model that is the whole of it.

    encodings : of weights, by layer
    activations : of inputs whose codes are made in the run, by layer
    codes : that are fixed, by tensor
    """

    encodings: Mapping[str, Encoding]
    activations: Mapping[str, Activations] = attrs.field(factory=dict)
    codes: Mapping[str, FixedCodes] = attrs.field(factory=dict)

    @classmethod
    def of(cls, quantized: Model) -> Coding:
        """What a quantized model holds; of weights those whose codes can be read."""
        read = ((layer, layer.encoding) for layer in quantized.layers if not layer.is_float)
        found = {layer.name: (layer, encoding) for layer, encoding in read if encoding is not None}
        return cls(
            encodings={name: encoding for name, (_, encoding) in found.items()},
            activations={
                name: layer.activations
                for name, (layer, _) in found.items()
                if layer.activations.form != InputForm.FLOAT32
            },
            codes=quantized.codes,
        )

    def applied(self, model: Model, metadata: Mapping[str, Any] | None = None) -> Model:
        """The float model with these codes. Adapters without coded inputs are not asked for them"""
        coding: dict[str, Any] = {}
        if self.activations:
            coding["activations"] = self.activations
        if self.codes:
            coding["codes"] = self.codes
        return model.with_encodings(self.encodings, metadata or {}, **coding)


@attrs.frozen(kw_only=True)
class Tuner(ModelPass):
    """Comes before other passes on the quantized model: it is made anew from its codes, so that
    what else was changed in it is lost.
    """

    needs: ClassVar[frozenset[str]] = frozenset({"graph", "run", "calibration", "reference"})

    def change(self, model: Model, reference: Model | None, calibration: Iterable[Feeds]) -> Model:
        assert reference is not None  # needed, so it was checked
        tuned = self.tune(reference, Coding.of(model), calibration)
        return tuned.applied(reference, model.metadata)

    @abc.abstractmethod
    def tune(self, model: Model, coding: Coding, calibration: Iterable[Feeds]) -> Coding:
        """Other codes of the same forms: same layers, same tensors, same schemes.

        model : the float one
        """
