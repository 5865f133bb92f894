"""Wrong passes: each has one fault."""

from __future__ import annotations

from typing import ClassVar

import attrs
import numpy as np

from qsdk.interfaces import Changes, ModelPass
from qsdk.testing.run import COVERAGE

from .base import caught_by


@attrs.frozen(kw_only=True)
class Good(ModelPass):
    """What the mutants of passes are derived from: it passes."""

    name: ClassVar[str] = "good"
    needs: ClassVar[frozenset[str]] = frozenset({"graph", "run"})
    preserves: ClassVar[bool] = True
    factor: float = 1.0

    def change(self, model, reference, calibration):
        return model.changed(self.changes(model))

    def changes(self, model):
        weights = {layer.name: layer.weight * np.float32(self.factor) for layer in model.layers}
        return Changes(weights=weights)


@caught_by(COVERAGE)
class NeedsTheUnknown(Good):
    needs: ClassVar[frozenset[str]] = frozenset({"graph", "gradients"})


@caught_by("check_a_pass_that_preserves_keeps_the_outputs")
class Scales(Good):
    def changes(self, model):
        return Changes(weights={model.layers[-1].name: model.layers[-1].weight * 2})


@caught_by("check_a_pass_leaves_its_model_unchanged")
class WritesIntoTheModel(Good):
    def change(self, model, reference, calibration):
        model.proto.graph.initializer[0].float_data[:] = []
        raw = np.frombuffer(model.proto.graph.initializer[0].raw_data, np.float32)
        model.proto.graph.initializer[0].raw_data = (raw * 2).tobytes()
        return model


@caught_by("check_a_pass_keeps_the_layers")
class Quantizes(Good):
    def change(self, model, reference, calibration):
        from qsdk.testing.adapters import encoded

        layer = model.layers[0]
        return model.with_encodings({layer.name: encoded(layer.weight)}, {})


@caught_by("check_a_pass_gives_the_same_bits_twice")
class Random(Good):
    def changes(self, model):
        layer = model.layers[0]
        noise = 1 + np.random.default_rng().standard_normal(layer.shape) * 1e-6
        return Changes(weights={layer.name: layer.weight * noise})


@caught_by("check_a_passs_model_can_be_written")
class Unwritable(Good):
    def change(self, model, reference, calibration):
        new = super().change(model, reference, calibration)
        kind = type(new)
        new.__class__ = type("Unwritable", (kind,), {"write": lambda *given: None})
        return new


@caught_by("check_a_pass_refuses_what_lacks_its_needs")
class TakesAnything(Good):
    def apply(self, model, *, reference=None, calibration=()):
        return model


@caught_by("check_a_pass_is_frozen_and_has_defaults")
@attrs.define(kw_only=True)
class Thawed(Good):
    __setattr__ = object.__setattr__
