"""What a quantizer makes of weights, ordinary and ugly: the one policy for all."""

from __future__ import annotations

import itertools
from collections.abc import Iterator

import attrs
import ml_dtypes
import numpy as np

from qsdk.encodings import Encoding
from qsdk.errors import DataError, SchemeError
from qsdk.interfaces import Quantizer
from qsdk.scheme import Slices
from qsdk.testing import corpus
from qsdk.testing.check import Array, Case, NotApplicable, refused_with, require, tells
from qsdk.testing.quantizers.cases import (
    GROUP,
    has_channels,
    largest,
    per_group,
    promise,
    resolution,
)
from qsdk.testing.same import bits_of, require_same

SMALLEST = float(np.finfo(np.float32).tiny)


# -- What comes back


@promise(corpus.one)
def check_a_declared_scheme_is_taken(quantizer: Quantizer, weight: Array) -> None:
    """Whatever ``capabilities`` declares can be built and used, and the field keeps it."""
    quantizer.quantize(weight)
    refusal = quantizer.capabilities.refusal(quantizer.scheme)
    require(refusal is None, f"it was asked for a declared scheme and has {quantizer.scheme}")


@promise(corpus.shapes)
def check_the_result_is_an_encoding_of_the_weights_shape(
    quantizer: Quantizer, weight: Array
) -> None:
    """``quantize`` gives an Encoding whose shape is that of the weight."""
    encoding = quantizer.quantize(weight)
    require(isinstance(encoding, Encoding), f"it gives {type(encoding).__name__}, no Encoding")
    require(
        tuple(encoding.shape) == weight.shape,
        f"the encoding has shape {encoding.shape}, and the weight {weight.shape}",
    )


@promise(corpus.nasty)
def check_decoded_values_are_finite_float32(quantizer: Quantizer, weight: Array) -> None:
    """Any finite weight decodes to finite float32 of its shape."""
    decoded = quantizer.quantize(weight).dequantize()
    require(
        decoded.dtype == np.float32 and decoded.shape == weight.shape,
        f"{weight.shape} decodes to {decoded.dtype} {decoded.shape}",
    )
    require(np.isfinite(decoded).all(), f"it decodes to {decoded[~np.isfinite(decoded)][:3]}")


@promise(corpus.nasty)
def check_decoded_values_keep_the_magnitude_of_the_weight(
    quantizer: Quantizer, weight: Array
) -> None:
    """No decoded value is larger than twice the largest magnitude of the weight."""
    decoded, limit = quantizer.quantize(weight).dequantize(), 2 * largest(weight) + 2 * SMALLEST
    require(
        largest(decoded) <= limit,
        f"values up to {largest(weight)} decode to values up to {largest(decoded)}",
    )


# -- Ugly data


@promise(corpus.empty)
def check_an_empty_array_gives_an_empty_encoding(quantizer: Quantizer, weight: Array) -> None:
    """A length of 0 on any axis is no error; the shape comes back, through files as well."""
    encoding = quantizer.quantize(weight)
    again = type(encoding).from_arrays(*encoding.arrays())
    for form in (encoding, again):
        require(
            tuple(form.shape) == form.dequantize().shape == weight.shape,
            f"shape {weight.shape} comes back as {form.shape}, decoded {form.dequantize().shape}",
        )


@promise(corpus.single)
def check_a_single_element_comes_back(quantizer: Quantizer, weight: Array) -> None:
    """One value decodes to itself within the resolution of the width."""
    _require_close(quantizer, weight)


@promise(corpus.constants)
def check_a_constant_comes_back(quantizer: Quantizer, weight: Array) -> None:
    """Equal values decode to themselves within the resolution of the width."""
    _require_close(quantizer, weight)


def _require_close(quantizer: Quantizer, weight: Array) -> None:
    if np.unique(weight).size > 1:
        raise NotApplicable("the array is not constant")
    decoded = quantizer.quantize(weight).dequantize().astype(np.float64)
    error, limit = np.abs(decoded - weight), resolution(quantizer.scheme) * largest(weight)
    require(
        (error <= limit * (1 + 1e-6) + SMALLEST).all(),
        f"{largest(weight)} comes back {error.max(initial=0)} off; allowed are {limit}",
    )


@promise(corpus.zeros)
def check_zeros_decode_to_exact_zeros(quantizer: Quantizer, weight: Array) -> None:
    """An array of zeros comes back as zeros."""
    if weight.any():
        raise NotApplicable("the array is not all zero")
    decoded = quantizer.quantize(weight).dequantize()
    require(not decoded.any(), f"zeros decode to {decoded[decoded != 0][:3]}")


@promise(corpus.some, when=has_channels)
def check_an_all_zero_channel_decodes_to_exact_zeros(quantizer: Quantizer, weight: Array) -> None:
    """A channel of zeros stays so beside others; per tensor this asks for more than a grid has."""
    axis = quantizer.scheme.axis
    with_zeros = np.moveaxis(weight.copy(), axis, 0)
    with_zeros[-1] = 0
    decoded = quantizer.quantize(np.moveaxis(with_zeros, 0, axis)).dequantize()
    channel = np.take(decoded, -1, axis)
    require(not channel.any(), f"a channel of zeros decodes to {channel[channel != 0][:3]}")


@promise(corpus.denormals)
def check_denormals_decode_to_next_to_nothing(quantizer: Quantizer, weight: Array) -> None:
    """Values below the smallest normal float neither vanish in a division nor blow up."""
    decoded = quantizer.quantize(weight).dequantize()
    limit = 2 * max(largest(weight), SMALLEST)
    require(
        largest(decoded) <= limit,
        f"values up to {largest(weight)} decode to values up to {largest(decoded)}",
    )


@promise(corpus.huge)
def check_huge_values_keep_their_sign_and_size(quantizer: Quantizer, weight: Array) -> None:
    """Values up to the largest float decode to finite ones, none off by more than the range."""
    decoded = quantizer.quantize(weight).dequantize().astype(np.float64)
    wide = weight.astype(np.float64)
    error = np.abs(decoded - wide).max(initial=0)
    extent = max(wide.max(initial=0), 0) - min(wide.min(initial=0), 0)
    require(error <= 1.01 * extent, f"a value is off by {error}; all lie within {extent}")


def _with_tail(case: Case) -> Iterator[tuple[str, Array]]:
    """Two whole groups of ones in each channel, and a shorter group of large values."""
    weight = np.ones((3, 2 * GROUP + 1), np.float32)
    weight[:, -1] = 1000
    yield "ones, and 1000 in the tail", np.moveaxis(weight, 0, case.facts["scheme"].axis)


@promise(_with_tail, when=per_group)
def check_an_odd_group_tail_has_a_scale_of_its_own(quantizer: Quantizer, weight: Array) -> None:
    """A row that the group size does not divide ends in a shorter group."""
    for rows in Slices(quantizer.scheme, weight.shape).split(weight):
        if np.ptp(rows, axis=1).any():
            raise NotApplicable("a group is not constant")
    decoded = quantizer.quantize(weight).dequantize()
    off = np.abs(decoded - weight) / np.maximum(np.abs(weight), 1)
    limit = resolution(quantizer.scheme) * (1 + 1e-6)
    require(off.max(initial=0) <= limit, f"groups of one value are off by {off.max():.3g} of it")


@promise(corpus.one)
def check_nan_and_infinity_are_refused_with_the_position(
    quantizer: Quantizer, weight: Array
) -> None:
    """The first value that is not finite is refused with DataError, which tells its index."""
    for value, place in itertools.product((np.nan, np.inf, -np.inf), {0, weight.size - 1}):
        if not weight.size:
            continue
        spoiled = weight.copy()
        spoiled.flat[place] = value
        index = [int(i) for i in np.unravel_index(place, weight.shape)]
        what = f"{value} at {index}"
        message = refused_with(DataError, what, quantizer.quantize, spoiled)
        require(tells(message, index), f"{what} is refused without its index: {message}")


@promise(corpus.one)
def check_arrays_without_floats_are_refused(quantizer: Quantizer, weight: Array) -> None:
    """Integers, truth values and complex numbers are refused with DataError."""
    for dtype in (np.int8, np.int64, np.uint8, np.bool_, np.complex64):
        other = np.ones(weight.shape, dtype)
        refused_with(DataError, f"an array of {other.dtype}", quantizer.quantize, other)


@promise(corpus.some)
def check_any_float_type_is_taken(quantizer: Quantizer, weight: Array) -> None:
    """Half, double and bfloat16 give the bits of the same values in float32."""
    for dtype in (np.float16, np.float64, ml_dtypes.bfloat16):
        typed = weight.astype(dtype)
        require_same(
            quantizer.quantize(typed),
            quantizer.quantize(typed.astype(np.float32)),
            f"{np.dtype(dtype)} and float32 of the same values",
        )


@promise(corpus.some)
def check_any_memory_layout_is_taken(quantizer: Quantizer, weight: Array) -> None:
    """Order, strides, byte order, alignment and protection of the memory change no bit."""
    expected = quantizer.quantize(weight)
    for layout, same in corpus.layouts(weight).items():
        require_same(quantizer.quantize(same), expected, f"{layout} and C order")


@promise(corpus.some)
def check_the_input_is_left_unchanged(quantizer: Quantizer, weight: Array) -> None:
    """Neither the values nor the flags of the weight are touched."""
    given = weight.copy()
    quantizer.quantize(given)
    require(given.flags.writeable, "the input was made read-only")
    changed = np.flatnonzero(given.view(np.uint32) != weight.view(np.uint32))
    require(not changed.size, f"{changed.size} values of the input were changed")


@promise(corpus.some)
def check_the_result_keeps_nothing_of_the_input(quantizer: Quantizer, weight: Array) -> None:
    """Writing into the weight afterwards does not change the encoding."""
    given = weight.copy()
    encoding = quantizer.quantize(given)
    before = bits_of(encoding)
    given[...] = 7
    require(bits_of(encoding) == before, "the encoding changed with the weight it came from")


@promise(corpus.one, when=has_channels)
def check_a_missing_axis_is_refused(quantizer: Quantizer, weight: Array) -> None:
    """An axis that the weight lacks is refused with SchemeError."""
    scheme = quantizer.scheme.replace(axis=weight.ndim)
    other = attrs.evolve(quantizer, scheme=scheme)
    refused_with(SchemeError, f"axis {weight.ndim} of {weight.shape}", other.quantize, weight)
