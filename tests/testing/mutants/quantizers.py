"""Wrong quantizers: each has one fault."""

from __future__ import annotations

import time
from typing import ClassVar

import attrs
import numpy as np

import qsdk
from qsdk import Affine, native, registry
from qsdk.errors import SchemeError
from qsdk.testing.run import COVERAGE

from .base import MUTANTS, caught_by

RoundToNearest = registry.find("quantizer:rtn").target


def unguarded(quantize):
    """Keep the base class from putting its input policy in front."""
    quantize.__wrapped__ = quantize
    return quantize


def recast(encoding: Affine, target: type[Affine]) -> Affine:
    """The same affine encoding as a ``target``."""
    parts = (encoding.packed, encoding.scale, encoding.zero_point)
    return target(*parts, encoding.shape, encoding.scheme)


@attrs.frozen(kw_only=True)
class Good(RoundToNearest):
    """What the mutants of quantizers are derived from: it passes."""

    name: ClassVar[str] = "good"
    capabilities: ClassVar = qsdk.Capabilities(bits={2, 4})

    scheme: qsdk.Scheme = attrs.field(factory=lambda: qsdk.Scheme(bits=4))


class Storing(Good):
    """Good, with ``stored`` in the place of the affine encoding."""

    stored: ClassVar[type[Affine]] = Affine

    def quantize(self, weight, *, layer=None):
        return recast(super().quantize(weight), self.stored)


# -- What comes back


@caught_by("check_a_declared_scheme_is_taken")
class NotYetPerGroup(Good):
    def quantize(self, weight, *, layer=None):
        if self.scheme.group_size:
            raise SchemeError("groups come later")
        return super().quantize(weight)


@caught_by("check_the_result_is_an_encoding_of_the_weights_shape")
class OneAxisMore(Good):
    def quantize(self, weight, *, layer=None):
        return super().quantize(weight[..., np.newaxis])


@caught_by("check_the_result_is_an_encoding_of_the_weights_shape")
class GivesAnArray(Good):
    def quantize(self, weight, *, layer=None):
        return super().quantize(weight).dequantize()


@caught_by("check_decoded_values_are_finite_float32")
class Doubles(Storing):
    class stored(Affine):
        def dequantize(self):
            return super().dequantize().astype(np.float64)


@caught_by("check_decoded_values_are_finite_float32")
class Overflows(Storing):
    class stored(Affine):
        def dequantize(self):
            return super().dequantize() * np.float32(1e10)


@caught_by("check_decoded_values_keep_the_magnitude_of_the_weight")
class ThreeTimes(Storing):
    class stored(Affine):
        def dequantize(self):
            return super().dequantize() * np.float32(3)


# -- Ugly data


@caught_by("check_an_empty_array_gives_an_empty_encoding")
class NoEmptyArrays(Good):
    def quantize(self, weight, *, layer=None):
        weight.max()
        return super().quantize(weight)


@caught_by("check_a_single_element_comes_back")
class LosesSingles(Good):
    def quantize(self, weight, *, layer=None):
        return super().quantize(weight * 0 if weight.size == 1 else weight)


@caught_by("check_a_constant_comes_back")
class HalvesConstants(Good):
    def quantize(self, weight, *, layer=None):
        constant = weight.size > 1 and np.ptp(weight) == 0
        return super().quantize(weight / 2 if constant else weight)


@caught_by("check_zeros_decode_to_exact_zeros")
class NoZero(Good):
    def quantize(self, weight, *, layer=None):
        return super().quantize(weight if weight.any() else weight + np.float32(1e-5))


@caught_by("check_an_all_zero_channel_decodes_to_exact_zeros")
class Epsilon(Good):
    def quantize(self, weight, *, layer=None):
        return super().quantize(weight + (weight == 0) * np.float32(1e-3 * weight.any()))


@caught_by("check_denormals_decode_to_next_to_nothing")
class LiftsDenormals(Good):
    def quantize(self, weight, *, layer=None):
        tiny = np.abs(weight).max(initial=0) < 1e-37
        return super().quantize(weight * np.float32(1e10) if tiny else weight)


@caught_by("check_huge_values_keep_their_sign_and_size")
class WrapsAround(Good):
    def quantize(self, weight, *, layer=None):
        return super().quantize(-weight if np.abs(weight).max(initial=0) > 1e38 else weight)


@caught_by("check_an_odd_group_tail_has_a_scale_of_its_own")
class TailInTheGroupBefore(Good):
    def quantize(self, weight, *, layer=None):
        if self.scheme.group_size and weight.ndim == 2:
            tail = weight.shape[1] % self.scheme.group_size
            weight = weight.copy()
            weight[:, weight.shape[1] - tail :].clip(-1, 1, out=weight[:, weight.shape[1] - tail :])
        return super().quantize(weight)


@caught_by("check_nan_and_infinity_are_refused_with_the_position")
class TakesNan(Good):
    @unguarded
    def quantize(self, weight, *, layer=None):
        return super().quantize(np.nan_to_num(weight, posinf=0, neginf=0))


@caught_by("check_nan_and_infinity_are_refused_with_the_position")
class SaysNotWhere(Good):
    @unguarded
    def quantize(self, weight, *, layer=None):
        if np.isfinite(weight).all():
            return super().quantize(weight)
        raise qsdk.errors.DataError("there is a NaN in it")


@caught_by("check_arrays_without_floats_are_refused")
class TakesIntegers(Good):
    @unguarded
    def quantize(self, weight, *, layer=None):
        return super().quantize(np.real(weight) * np.float32(1))


@caught_by("check_any_float_type_is_taken")
class OnlySingles(Good):
    @unguarded
    def quantize(self, weight, *, layer=None):
        if weight.dtype != np.float32:
            raise TypeError(f"no {weight.dtype} here")
        return super().quantize(weight)


@caught_by("check_any_memory_layout_is_taken")
class ReadsMemoryInOrder(Good):
    @unguarded
    def quantize(self, weight, *, layer=None):
        return super().quantize(weight.ravel(order="K").reshape(weight.shape))


@caught_by("check_the_input_is_left_unchanged")
class WorksInPlace(Good):
    def quantize(self, weight, *, layer=None):
        weight.flags.writeable = True
        weight *= 2
        return super().quantize(weight / 2)


@caught_by("check_the_result_keeps_nothing_of_the_input")
class KeepsTheWeight(Good):
    class kept(Affine):
        def dequantize(self):
            return self.weight.copy()

    def quantize(self, weight, *, layer=None):
        encoding = recast(super().quantize(weight), self.kept)
        object.__setattr__(encoding, "weight", weight)
        return encoding


@caught_by("check_a_missing_axis_is_refused")
class AnyAxis(Good):
    @unguarded
    def quantize(self, weight, *, layer=None):
        weight = np.asarray(weight)
        axis = self.scheme.axis % max(weight.ndim, 1)
        return Good(scheme=self.scheme.replace(axis=axis)).quantize(weight)


# -- The same bits


@caught_by("check_the_same_input_gives_the_same_bits")
class Dithers(Good):
    calls: ClassVar = iter(range(10**9))

    def quantize(self, weight, *, layer=None):
        return super().quantize(weight * np.float32(1 + next(self.calls) % 2 / 64))


@caught_by("check_threads_do_not_change_the_bits")
class OneBuffer(Good):
    buffer: ClassVar = {}

    def quantize(self, weight, *, layer=None):
        self.buffer["weight"] = weight
        time.sleep(0.0005)
        return super().quantize(self.buffer["weight"])


@caught_by("check_the_bits_need_no_extension")
class OtherWithoutC(Good):
    def quantize(self, weight, *, layer=None):
        return super().quantize(weight if native.available() else weight * np.float32(0.9))


# -- Size and form


@caught_by("check_nbytes_is_the_sum_of_the_arrays")
class CountsCodesOnly(Storing):
    class stored(Affine):
        @property
        def nbytes(self):
            return self.packed.nbytes


@caught_by("check_codes_take_no_more_than_their_bits")
class OneByteEach(Storing):
    class stored(Affine):
        def arrays(self):
            arrays, values = super().arrays()
            return {**arrays, "packed": self.codes}, values


@caught_by("check_codes_fit_in_their_bits")
class CodesBeyondTheGrid(Storing):
    class stored(Affine):
        @property
        def codes(self):
            return super().codes - np.int8(1)


@caught_by("check_a_slice_holds_no_more_values_than_codes")
class KeepsARest(Storing):
    class stored(Affine):
        def dequantize(self):
            rest = np.linspace(0, 1e-3, int(np.prod(self.shape)), dtype=np.float32)
            return super().dequantize() * (1 + rest.reshape(self.shape))


@caught_by("check_the_encoding_round_trips")
class ForgetsTheZeroPoint(Storing):
    class stored(Affine):
        @classmethod
        def from_arrays(cls, arrays, values, decode=None):
            return super().from_arrays(
                {**arrays, "zero_point": np.zeros_like(arrays["zero_point"])}, values
            )


# -- A frozen value


@caught_by("check_the_quantizer_is_frozen")
class Changeable(Good):
    __setattr__ = object.__setattr__


@attrs.frozen(kw_only=True)
class NeedsAnOption(Good):
    must: int


MUTANTS.append(("check_options_are_fields_with_defaults", NeedsAnOption(must=1)))


@caught_by("check_undeclared_schemes_are_refused")
class TakesAnyWidth(Good):
    def __attrs_post_init__(self):
        pass


# -- Worth it


@caught_by("check_more_bits_are_not_worse")
class WorseAtFour(Good):
    def quantize(self, weight, *, layer=None):
        return super().quantize(np.sign(weight) / 8 if self.scheme.bits == 4 else weight)


@caught_by("check_the_highest_width_keeps_the_signal")
class Shrinks(Good):
    def quantize(self, weight, *, layer=None):
        return super().quantize(weight * np.float32(0.2))


# -- What is declared


@caught_by(COVERAGE)
class NineBits(Good):
    capabilities: ClassVar = qsdk.Capabilities(bits={4, 9})


@caught_by(COVERAGE)
class WantsLabels(Good):
    capabilities: ClassVar = qsdk.Capabilities(bits={4}, needs={"labels"})
