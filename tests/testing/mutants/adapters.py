"""Wrong adapters: each has one fault."""

from __future__ import annotations

import itertools
import zipfile
from pathlib import Path
from typing import ClassVar

import attrs
import numpy as np

from qsdk import registry
from qsdk.errors import FileRefusedError
from qsdk.testing.adapters import encoded
from qsdk.testing.run import COVERAGE

from .base import caught_by

NumpyAdapter = registry.find("adapter:numpy").target
NumpyModel = type(NumpyAdapter().open({}))


class Good(NumpyAdapter):
    """What the mutants of adapters are derived from: it passes."""

    name: ClassVar[str] = "good"


class Opening(Good):
    """Good, with its models turned into ``opened``."""

    class opened(NumpyModel):
        pass

    def open(self, source):
        model = super().open(source)
        if isinstance(model, NumpyModel):
            model.__class__ = self.opened
        return model


class Changing(Good):
    """Good, with every layer passed through ``changed``."""

    def open(self, source):
        model = super().open(source)
        model._layers = tuple(type(self).changed(layer) for layer in model._layers)
        return model


@caught_by(COVERAGE)
class NoExample(Good):
    @classmethod
    def example(cls, folder):
        return None


# -- Opening


@caught_by("check_strangers_are_not_accepted")
class AcceptsAll(Good):
    def accepts(self, source):
        return True


@caught_by("check_the_example_is_accepted")
class SmallLettersOnly(Good):
    def accepts(self, source):
        return isinstance(source, Path) and source.suffix in self.suffixes


@caught_by("check_layer_names_are_unique")
class OneName(Changing):
    def changed(layer):
        return attrs.evolve(layer, name="weight")


@caught_by("check_weights_have_the_shape_of_their_layer")
class ShapeOfTheFile(Changing):
    def changed(layer):
        return attrs.evolve(layer, shape=layer.shape[::-1])


@caught_by("check_weights_can_be_read_again")
class ReadsOnwards(Changing):
    count: ClassVar = itertools.count()

    def changed(layer):
        return attrs.evolve(layer, read=lambda: layer.weight + next(ReadsOnwards.count))


@caught_by("check_writing_into_a_weight_changes_no_model")
class KeepsOneArray(Changing):
    def changed(layer):
        kept = layer.weight.copy()
        return attrs.evolve(layer, read=lambda: kept)


# -- Damaged files


@caught_by("check_a_file_that_is_no_model_is_refused")
class EmptyForSenseless(Good):
    def open(self, source):
        try:
            return super().open(source)
        except FileRefusedError:
            return NumpyModel({})


@caught_by("check_a_damaged_file_is_refused_or_read")
class LetsErrorsThrough(Good):
    def open(self, source):
        if isinstance(source, Path) and source.suffix == ".npz":
            zipfile.ZipFile(source).close()
        return super().open(source)


@caught_by("check_the_codes_of_a_layer_decode_to_its_weight")
class CodesOfAnother(Changing):
    @staticmethod
    def changed(layer):
        return attrs.evolve(layer, read_encoding=lambda: encoded(layer.weight * 2))


# -- Quantizing


@caught_by("check_with_encodings_gives_another_model")
class ChangesItself(Opening):
    class opened(NumpyModel):
        def with_encodings(self, encodings, metadata):
            other = super().with_encodings(encodings, metadata)
            self._items, self._layers = other._items, other._layers
            return other


@caught_by("check_what_is_written_is_quantized")
class WritesFloats(Opening):
    class opened(NumpyModel):
        def write(self, path, encodings=(), metadata=dict):
            list(encodings)
            return super().write(path, (), metadata)


@caught_by("check_a_model_saved_as_it_is_keeps_its_weights")
class RoundsWhenSaving(Opening):
    class opened(NumpyModel):
        def save(self, path):
            self.write(path, [(layer.name, encoded(layer.weight)) for layer in self.layers])


@caught_by("check_metadata_comes_back")
class NotesNothing(Opening):
    class opened(NumpyModel):
        def write(self, path, encodings=(), metadata=dict):
            return super().write(path, encodings, dict)


@caught_by("check_writing_leaves_nothing_beside_the_file")
class LeavesALog(Opening):
    class opened(NumpyModel):
        def write(self, path, encodings=(), metadata=dict):
            path.with_suffix(".log").write_text("done")
            return super().write(path, encodings, metadata)


@caught_by("check_a_write_that_fails_leaves_the_old_file")
class WritesInPlace(Opening):
    class opened(NumpyModel):
        def write(self, path, encodings=(), metadata=dict):
            path.write_bytes(np.zeros(8, np.uint8))
            return super().write(path, encodings, metadata)
