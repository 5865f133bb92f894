"""Wrong kernels: each has one fault."""

from __future__ import annotations

import itertools
import time
from typing import ClassVar

import numpy as np

import qsdk
from qsdk.errors import DataError, KernelError
from qsdk.interfaces import Accumulator, Kernel, Prepared, code_rows
from qsdk.testing.run import COVERAGE

from .base import caught_by


def matrix(x):
    return x.reshape(int(np.prod(x.shape[:-1])), x.shape[-1])


class GoodLayer(Prepared):
    def __init__(self, kernel, operation, threads):
        super().__init__(kernel, operation)
        weight, self.threads = operation.weight, threads
        outs = weight.shape[0]
        zero = np.broadcast_to(weight.zero_point, outs).astype(np.int64)
        self.scale = np.broadcast_to(weight.scale, outs).astype(np.float32)
        beside = (1,) * (len(weight.shape) - 1)
        self.steps = weight.codes.astype(np.int64) - zero.reshape(-1, *beside)

    def run(self, x, out):
        rows = self.coded(matrix(x))
        out[...] = self.result(self.sums(rows.steps), rows.scale).reshape(out.shape)

    def coded(self, rows):
        return code_rows(rows, self.operation.activations)

    def sums(self, steps):
        return steps @ self.steps.T

    def result(self, sums, scale):
        output = self.operation.output
        if output.form == "int32":
            return sums
        if output.is_requantized:
            return self.requantized(sums)
        y = sums.astype(np.float32) * (scale[:, None] * self.scale)
        if self.operation.bias is not None:
            y = y + self.operation.bias
        return np.clip(y, *np.float32(output.clip))

    def requantized(self, sums):
        output, form = self.operation.output, self.operation.activations
        step = np.float64(np.float32(form.scale)) * self.scale
        if self.operation.bias is not None:
            sums = sums + np.rint(self.operation.bias / step).astype(np.int64)
        fixed = qsdk.fixed_multiplier(step / np.float32(output.scale))
        scheme, point = output.scheme, output.zero_point
        limits = qsdk.clip_codes(output.clip, output.scale, point, scheme.qmin, scheme.qmax)
        return np.clip(self.rounded(sums, *fixed) + point, *limits)

    def rounded(self, sums, mantissa, shift):
        return qsdk.requantize(sums, mantissa, shift)


class Good(Kernel):
    """What the mutants of kernels are derived from: it passes."""

    name = "good"
    operation = "linear"
    encoding = "affine"
    bits = frozenset({8})
    granularity = frozenset({"per_channel", "per_tensor"})
    activations: ClassVar = frozenset({"int8", "fixed_uint8"})
    outputs = frozenset({"float32", "int32", "uint8"})
    priority = 5
    reference = "linear-int8-reference"
    layer: ClassVar = GoodLayer

    def prepare(self, operation, *, threads=0):
        return self.layer(self, operation, threads)


class GoodConvLayer(GoodLayer):
    """im2col, place by place."""

    def run(self, x, out):
        operation = self.operation
        codes = code_rows(x.reshape(len(x), -1), operation.activations)
        image = codes.steps.reshape(x.shape)
        axes = len(operation.stride)
        edges = list(zip(operation.padding[:axes], operation.padding[axes:], strict=True))
        image = np.pad(image, [(0, 0), (0, 0), *edges], constant_values=self.padding())
        total = np.zeros(out.shape, np.int64)
        for place in itertools.product(*map(range, self.steps.shape[2:])):
            window = tuple(
                slice(at * dilation, at * dilation + (length - 1) * stride + 1, stride)
                for at, dilation, stride, length in zip(
                    place, operation.dilation, operation.stride, out.shape[2:], strict=True
                )
            )
            pixels = np.moveaxis(image[(..., *window)], 1, -1)
            self.add(np.moveaxis(total, 1, -1), pixels, self.steps[(..., *place)])
        scale = (codes.scale[:, None] * self.scale).reshape(*total.shape[:2], *(1,) * axes)
        y = total.astype(np.float32) * scale
        if operation.bias is not None:
            y = y + operation.bias.reshape(-1, *(1,) * axes)
        out[...] = (
            total if out.dtype == np.int32 else np.clip(y, *np.float32(operation.output.clip))
        )

    def add(self, total, pixels, steps):
        """``total`` (..., out) grows by ``pixels`` (..., in) times ``steps`` (out, in)."""
        groups = self.operation.groups
        parts = zip(np.split(pixels, groups, -1), np.split(steps, groups), strict=True)
        total += np.concatenate([mine @ ours.T for mine, ours in parts], axis=-1)

    def padding(self):
        return 0


class GoodConv(Good):
    """What those of convolutions are derived from."""

    name = "good-conv"
    operation = "conv"
    outputs = frozenset({"float32", "int32"})
    reference = ""
    backend = "reference"
    layer: ClassVar = GoodConvLayer


def kernel_of(check, base=Good, **words):
    """Decorate a layer: a kernel with such layers is a mutant, named after the layer."""

    def register(layer):
        body = {"__module__": __name__, "layer": layer, **words}
        caught_by(check)(type(layer.__name__, (base,), body))
        return layer

    return register


# -- Declared


@caught_by("check_its_declaration_is_sound")
class FeatureOfNoCpu(Good):
    features = frozenset({"avx1024"})


@caught_by("check_its_declaration_is_sound")
class PriorityInWords(Good):
    priority = "high"


@caught_by("check_its_declaration_is_sound")
class UnavailableIsNone(Good):
    def unavailable(self):
        return None


@caught_by(COVERAGE)
class CodesOfFloats(Good):
    activations: ClassVar = frozenset({"int8"})


@caught_by(COVERAGE)
class RefusesAWidthThatItDeclares(Good):
    bits = frozenset({4, 8})

    def refusal(self, operation):
        narrow = operation.weight.scheme.bits == 4
        return "takes no 4 bits after all" if narrow else super().refusal(operation)


@caught_by("check_what_it_does_not_declare_is_refused")
class TakesEverything(Good):
    def refusal(self, operation):
        return ""


@caught_by("check_what_it_does_not_declare_is_refused")
class RefusesWithoutAReason(Good):
    def refusal(self, operation):
        return bool(super().refusal(operation))


@caught_by("check_what_it_does_not_refuse_is_prepared")
class AcceptsWithoutText(Good):
    def refusal(self, operation):
        return super().refusal(operation) or None


@caught_by("check_what_it_does_not_refuse_is_prepared")
class CannotPrepareWhatIsEmpty(Good):
    def prepare(self, operation, *, threads=0):
        if 0 in operation.weight.shape:
            raise KernelError("an empty weight cannot be packed")
        return super().prepare(operation)


@caught_by("check_what_it_does_not_refuse_is_prepared")
class ForgetsItsOperation(Good):
    def prepare(self, operation, *, threads=0):
        layer = super().prepare(operation)
        layer.kernel = Good()
        return layer


@caught_by("check_what_it_does_not_refuse_cannot_overflow")
class TakesWhatOverflows(Good):
    def accumulators(self, operation):
        top = int(np.abs(operation.weight.codes.astype(int)).max(initial=0))
        return [Accumulator(bits=16, worst=2 * 255 * top, adds="pairs")]


# -- Numbers

RIGHT = "check_results_equal_the_reference"


@caught_by(RIGHT)
class NamesAReferenceThatThereIsNot(Good):
    reference = "linear-int9-reference"


@kernel_of(RIGHT)
class IgnoresTheBias(GoodLayer):
    def __init__(self, kernel, operation, threads):
        super().__init__(kernel, operation, threads)
        if operation.bias is not None:
            self.operation = type(operation)(
                weight=operation.weight, activations=operation.activations, output=operation.output
            )


@kernel_of(RIGHT)
class DropsTheTail(GoodLayer):
    def sums(self, steps):
        whole = steps.shape[1] // 16 * 16
        return steps[:, :whole] @ self.steps[:, :whole].T


@kernel_of(RIGHT)
class RoundsTwice(GoodLayer):
    def rounded(self, sums, mantissa, shift):
        return qsdk.requantize_twice(sums, mantissa, shift)


@kernel_of(RIGHT, reference="")
class TruncatesBesideNoNamedReference(GoodLayer):
    def rounded(self, sums, mantissa, shift):
        return np.floor(sums * (mantissa * 2.0 ** (shift - 31))).astype(np.int64)


@kernel_of(RIGHT, reference="", backend="reference")
class ReferenceThatTruncates(GoodLayer):
    def rounded(self, sums, mantissa, shift):
        return np.floor(sums * (mantissa * 2.0 ** (shift - 31))).astype(np.int64)


@kernel_of(RIGHT, reference="", backend="reference")
class ReferenceOffByOne(GoodLayer):
    def sums(self, steps):
        return super().sums(steps) + 1


@kernel_of(RIGHT)
class MultipliesInAnotherOrder(GoodLayer):
    def result(self, sums, scale):
        if self.operation.output.form == "float32" and self.operation.bias is None:
            y = sums.astype(np.float32) * scale[:, None] * self.scale
            return np.clip(y, *np.float32(self.operation.output.clip))
        return super().result(sums, scale)


@kernel_of(RIGHT, GoodConv)
class PadsWithCodeZero(GoodConvLayer):
    def padding(self):
        return -self.operation.activations.zero_point


@kernel_of(RIGHT, GoodConv)
class IgnoresGroups(GoodConvLayer):
    def add(self, total, pixels, steps):
        total += pixels[..., : steps.shape[1]] @ steps.T


@kernel_of("check_any_number_of_rows_is_taken")
class FourRowsAtATime(GoodLayer):
    def run(self, x, out):
        whole = len(matrix(x)) // 4 * 4
        if len(matrix(x)) > 16:
            out[...] = 0
            return super().run(matrix(x)[:whole], matrix(out)[:whole])
        return super().run(x, out)


@kernel_of("check_any_number_of_rows_is_taken")
class FlattensTheRows(GoodLayer):
    def __call__(self, x, out=None):
        y = super().__call__(x, out)
        return matrix(y) if y.ndim == 3 else y


@kernel_of("check_extreme_codes_do_not_saturate")
class SaturatesPairs(GoodLayer):
    """As vpmaddubsw does."""

    def sums(self, steps):
        length = steps.shape[1] // 2 * 2
        pairs = [
            np.clip(steps[:, i : i + 2] @ self.steps[:, i : i + 2].T, -(2**15), 2**15 - 1)
            for i in range(0, length, 2)
        ]
        return sum(pairs) + steps[:, length:] @ self.steps[:, length:].T


@kernel_of("check_what_is_not_finite_stays_in_its_row")
class TakesNanForZero(GoodLayer):
    def coded(self, rows):
        return super().coded(np.nan_to_num(rows) if rows.dtype == np.float32 else rows)


@kernel_of("check_what_is_not_finite_stays_in_its_row")
class SpoilsTheWholeBatch(GoodLayer):
    def result(self, sums, scale):
        return super().result(sums, np.full_like(scale, np.nan) if np.isnan(scale).any() else scale)


# -- Calls


@kernel_of("check_a_layer_takes_any_memory_layout")
class IgnoresStrides(GoodLayer):
    def __call__(self, x, out=None):
        x = np.asarray(x)
        return super().__call__(x.ravel(order="K").reshape(x.shape), out)


@kernel_of("check_a_layer_takes_any_float_type")
class RoundsDoublesToHalf(GoodLayer):
    def __call__(self, x, out=None):
        x = np.asarray(x)
        return super().__call__(x.astype(np.float16) if x.dtype == np.float64 else x, out)


@kernel_of("check_a_layer_leaves_its_input_unchanged")
class CodesInPlace(GoodLayer):
    def run(self, x, out):
        if x.flags.writeable and x.dtype == np.float32:
            np.clip(x, -1, 1, out=x)
        super().run(x, out)


@kernel_of("check_a_wrong_input_is_refused")
class CastsIntegers(GoodLayer):
    def __call__(self, x, out=None):
        x = np.asarray(x)
        return super().__call__(x.astype(np.float32) if x.dtype == np.int64 else x, out)


@kernel_of("check_a_wrong_input_is_refused")
class CutsWhatIsTooLong(GoodLayer):
    def __call__(self, x, out=None):
        x = np.asarray(x)
        return super().__call__(x[..., : self.steps.shape[1]] if x.ndim else x, out)


@kernel_of("check_out_is_filled_and_returned")
class GivesACopyOfOut(GoodLayer):
    def __call__(self, x, out=None):
        return super().__call__(x, out).copy()


@kernel_of("check_out_is_filled_and_returned")
class GivesTheSameArrayEachTime(GoodLayer):
    def __call__(self, x, out=None):
        y = super().__call__(x, out)
        if out is not None:
            return y
        kept = self.__dict__.setdefault("kept", {}).setdefault(y.shape, y)
        kept[...] = y
        return kept


@kernel_of("check_a_wrong_out_is_refused")
class TakesAnyOut(GoodLayer):
    def __call__(self, x, out=None):
        y = super().__call__(x)
        if out is None:
            return y
        np.copyto(out, y, casting="unsafe")
        return out


@kernel_of("check_a_wrong_out_is_refused")
class RefusesOutWithoutSayingWhy(GoodLayer):
    def _check_out(self, out, shape):
        try:
            super()._check_out(out, shape)
        except DataError:
            raise DataError("out does not fit") from None


@kernel_of("check_each_call_gives_the_same_bits")
class Dithers(GoodLayer):
    calls = 0

    def sums(self, steps):
        self.calls += 1
        return super().sums(steps) + self.calls % 2


@kernel_of("check_two_threads_may_call_at_once")
class OneScratchForAll(GoodLayer):
    def sums(self, steps):
        self.scratch = steps
        time.sleep(0.0003)
        return super().sums(self.scratch)


@kernel_of("check_the_number_of_threads_changes_no_bit")
class SumsByThread(GoodLayer):
    def result(self, sums, scale):
        if self.threads == 2 and self.operation.output.form == "float32":
            half = sums // 2
            return super().result(half, scale) + super().result(sums - half, scale)
        return super().result(sums, scale)


@kernel_of("check_the_weight_is_left_unchanged")
class BiasInPlace(GoodLayer):
    def __init__(self, kernel, operation, threads):
        super().__init__(kernel, operation, threads)
        if operation.bias is not None:
            operation.bias[...] = np.rint(operation.bias)


# -- Memory


@kernel_of("check_nothing_beside_the_input_is_read")
class ReadsWholeBlocks(GoodLayer):
    def coded(self, rows):
        if (
            rows.dtype != np.float32
            or rows.shape[1] % 16 != 15
            or self.operation.activations.is_fixed
        ):
            return super().coded(rows)
        flat = np.lib.stride_tricks.as_strided(rows, (rows.size + 1,), (4,))
        largest = max(np.nan_to_num(np.abs(flat)).max(), 0)
        return super().coded(np.minimum(rows, largest) * (largest < 1e3))


@kernel_of("check_nothing_beside_the_output_is_written")
class WritesWholeBlocks(GoodLayer):
    def run(self, x, out):
        super().run(x, out)
        if out.base is not None and out.base.nbytes > out.nbytes + 4:  # not into strange memory
            np.lib.stride_tricks.as_strided(out, (out.size + 1,), (out.itemsize,))[-1] = 0


@kernel_of("check_nothing_beside_the_output_is_written")
class AddsToWhatIsInOut(GoodLayer):
    def run(self, x, out):
        before = out.copy()
        super().run(x, out)
        if out.dtype == np.int32 and not before.max(initial=0) < 2**30:
            out += 1
