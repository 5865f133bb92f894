"""Wrong encodings: each has one fault."""

from __future__ import annotations

import attrs
import numpy as np

from qsdk import Affine, Scheme
from qsdk.testing.run import COVERAGE

from .base import caught_by


class Good(Affine):
    """What the mutants of encodings are derived from: it passes."""

    @classmethod
    def example(cls):
        codes = np.arange(-8, 7, dtype=np.int8).reshape(3, 5)
        scale = np.float32([0.5, 1, 2])
        return cls.from_codes(codes, scale, np.int8([1, 0, -1]), Scheme(bits=4))


class Reading(Good):
    """Good, with ``mended`` put in the place of what ``from_arrays`` is given."""

    @classmethod
    def from_arrays(cls, arrays, values, decode=None):
        return super().from_arrays(*cls.mended(dict(arrays), dict(values)))


@caught_by(COVERAGE)
class NoSample(Affine):
    name = "nobody-makes-it"


# -- Decoding


@caught_by("check_it_decodes_to_float32_of_its_shape")
class Doubles(Good):
    def dequantize(self):
        return super().dequantize().astype(np.float64)


@caught_by("check_it_describes_itself")
class Verbose(Good):
    def describe(self):
        return "int4\nper channel"


@caught_by("check_nbytes_is_what_the_arrays_take")
class CountsCodesOnly(Good):
    @property
    def nbytes(self):
        return self.packed.nbytes


@caught_by("check_a_part_decodes_as_in_the_whole")
class KeepsTheScalesInFront(Good):
    def part(self, start, stop):
        scales = (a[: stop - start] for a in (self.scale, self.zero_point))
        return Affine.from_codes(self.codes[start:stop], *scales, self.scheme)


# -- Immutable


@caught_by("check_writing_into_what_it_gives_changes_nothing")
class DecodesOnce(Good):
    def dequantize(self):
        if "decoded" not in self.__dict__:
            self.__dict__["decoded"] = super().dequantize()
        return self.__dict__["decoded"]


@caught_by("check_writing_into_what_it_gives_changes_nothing")
class GivesItself(Good):
    def arrays(self):
        arrays, values = super().arrays()
        self.scale.base.flags.writeable = True
        return {**arrays, "scale": self.scale.base}, values


@caught_by("check_its_fields_cannot_be_set")
class Changeable(Good):
    __setattr__ = object.__setattr__


# -- Arrays and values


@caught_by("check_it_is_named_arrays_and_plain_values")
class KeepsATuple(Good):
    def arrays(self):
        arrays, values = super().arrays()
        return arrays, {**values, "note": ("a", None)}


@caught_by("check_from_arrays_inverts_arrays")
class ForgetsTheZeroPoint(Reading):
    def mended(arrays, values):
        if "zero_point" in arrays:
            arrays["zero_point"] = np.zeros_like(arrays["zero_point"])
        return arrays, values


@caught_by("check_a_container_brings_it_back")
class WritesIntoWhatItReads(Reading):
    def mended(arrays, values):
        if "scale" in arrays:
            arrays["scale"] *= 1
        return arrays, values


# -- What no quantizer writes


@caught_by("check_a_missing_array_is_refused")
class GuessesTheZeroPoint(Reading):
    def mended(arrays, values):
        return {"zero_point": np.int8([0, 0, 0]), **arrays}, values


@caught_by("check_a_missing_array_is_refused")
class RaisesKeyError(Reading):
    def mended(arrays, values):
        return {"scale": arrays["scale"], **arrays}, values


@caught_by("check_a_missing_value_is_refused")
class GuessesTheAxis(Reading):
    def mended(arrays, values):
        return arrays, {"axis": 0, **values}


@caught_by("check_a_value_of_another_type_is_refused")
class AnyAxis(Reading):
    def mended(arrays, values):
        return arrays, {**values, "axis": 0} if "axis" in values else values


@caught_by("check_a_shape_that_is_none_is_refused")
class TakesTheMemoryFirst(Reading):
    def mended(arrays, values):
        if isinstance(values.get("shape"), list):
            np.broadcast_to(np.int8(0), values["shape"]).copy()
        return arrays, values


def mending(word, mend):
    """A function for :class:`Reading` that changes one array."""

    def mended(arrays, values):
        return {**arrays, word: mend(arrays[word])} if word in arrays else arrays, values

    return staticmethod(mended)


@caught_by("check_an_array_of_another_type_is_refused")
class Casts(Reading):
    mended = mending("scale", np.float32)


@caught_by("check_an_array_of_more_axes_is_refused")
class Flattens(Reading):
    mended = mending("scale", np.ravel)


@caught_by("check_an_array_cut_short_is_refused")
class FillsUp(Reading):
    mended = mending("packed", lambda packed: np.resize(packed, max(packed.size, 8)))


@caught_by("check_an_array_too_long_is_refused")
class CutsOff(Reading):
    mended = mending("packed", lambda packed: packed[:8])


@caught_by("check_floats_that_are_not_finite_are_refused")
class TakesNan(Reading):
    mended = mending("scale", lambda scale: np.nan_to_num(scale, nan=1))


# -- ONNX


@caught_by("check_its_onnx_function_takes_its_arrays_and_values")
class AnotherName(Good):
    def onnx_function(self):
        return attrs.evolve(super().onnx_function(), name="Decode")


@caught_by("check_its_onnx_function_decodes_to_the_same_values")
class ForgetsTheScale(Good):
    def onnx_function(self):
        function = super().onnx_function()
        *nodes, multiply, last = function.nodes
        return attrs.evolve(function, nodes=(*nodes, attrs.evolve(multiply, operation="Add"), last))
