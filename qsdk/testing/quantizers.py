"""The contract of quantizers, for every width and granularity that one declares."""

from __future__ import annotations

import functools
import itertools
import os
import re
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import attrs
import ml_dtypes
import numpy as np

from qsdk import native
from qsdk.encodings import Encoding
from qsdk.errors import DataError, SchemeError
from qsdk.interfaces import Quantizer
from qsdk.metrics import sqnr_db
from qsdk.scheme import Granularity, Scheme, Slices
from qsdk.testing import corpus
from qsdk.testing.check import Array, Case, Contract, NotApplicable, refused_with, require
from qsdk.testing.same import bits_of, require_same
from qsdk.testing.subject import Subject

GROUP = 4  # values that share a scale where groups are declared: few, so that tails are met
THREADS = 4
SLACK_DB = 1.5  # by which one bit more may be worse on one weight
SLACK_BYTES = 8  # per slice, for rows that an encoding pads
WITHOUT_NATIVE = "QSDK_DISABLE_NATIVE"
SMALLEST = float(np.finfo(np.float32).tiny)
PROVIDED: frozenset[str] = frozenset()  # what of a layer this kit can give a quantizer


def schemes_of(subject: Subject) -> Iterator[Scheme]:
    """Every declared scheme that there is: width by width, granularity by granularity."""
    can = subject.target.capabilities
    for bits, granularity in itertools.product(sorted(can.bits), sorted(can.granularity)):
        group = GROUP if granularity is Granularity.PER_GROUP else None
        try:
            yield subject.scheme.replace(bits=bits, granularity=granularity, group_size=group)
        except SchemeError:
            continue  # what cannot exist is not exercised, and so is reported


def cases(subject: Subject) -> Iterator[Case]:
    needs = frozenset(subject.target.capabilities.needs)
    for scheme in schemes_of(subject):
        yield Case(
            label=f"{scheme.bits}bit-{scheme.granularity}",
            title=str(scheme),
            build=functools.partial(_built, subject, scheme, needs),
            exercises=frozenset({f"{scheme.bits} bits", str(scheme.granularity), *needs}),
            facts={"scheme": scheme, "subject": subject},
        )


def declared(subject: Subject) -> frozenset[str]:
    can = subject.target.capabilities
    bits = {f"{width} bits" for width in can.bits}
    return frozenset({*bits, *map(str, can.granularity), *can.needs})


def _built(subject: Subject, scheme: Scheme, needs: frozenset[str]) -> Quantizer:
    lacking = needs - PROVIDED
    if lacking:
        raise NotApplicable(f"this kit has no {', '.join(sorted(lacking))} of a layer to give")
    quantizer: Quantizer = subject.build(scheme=scheme)
    return quantizer


CONTRACT = Contract("quantizer", cases, declared)
promise = CONTRACT.promise


def _per_group(case: Case) -> bool:
    return bool(case.facts["scheme"].granularity == Granularity.PER_GROUP)


def _has_channels(case: Case) -> bool:
    return bool(case.facts["scheme"].granularity != Granularity.PER_TENSOR)


def _resolution(scheme: Scheme) -> float:
    """What one honest code may be off, as a share of the largest magnitude in its slice."""
    return 2.0 ** (1 - scheme.bits)


def _largest(weight: Array) -> float:
    return float(np.abs(weight.astype(np.float64)).max(initial=0))


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
    decoded, limit = quantizer.quantize(weight).dequantize(), 2 * _largest(weight) + 2 * SMALLEST
    require(
        _largest(decoded) <= limit,
        f"values up to {_largest(weight)} decode to values up to {_largest(decoded)}",
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
    error, limit = np.abs(decoded - weight), _resolution(quantizer.scheme) * _largest(weight)
    require(
        (error <= limit * (1 + 1e-6) + SMALLEST).all(),
        f"{_largest(weight)} comes back {error.max(initial=0)} off; allowed are {limit}",
    )


@promise(corpus.zeros)
def check_zeros_decode_to_exact_zeros(quantizer: Quantizer, weight: Array) -> None:
    """An array of zeros comes back as zeros."""
    if weight.any():
        raise NotApplicable("the array is not all zero")
    decoded = quantizer.quantize(weight).dequantize()
    require(not decoded.any(), f"zeros decode to {decoded[decoded != 0][:3]}")


@promise(corpus.some, when=_has_channels)
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
    limit = 2 * max(_largest(weight), SMALLEST)
    require(
        _largest(decoded) <= limit,
        f"values up to {_largest(weight)} decode to values up to {_largest(decoded)}",
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


@promise(_with_tail, when=_per_group)
def check_an_odd_group_tail_has_a_scale_of_its_own(quantizer: Quantizer, weight: Array) -> None:
    """A row that the group size does not divide ends in a shorter group."""
    for rows in Slices(quantizer.scheme, weight.shape).split(weight):
        if np.ptp(rows, axis=1).any():
            raise NotApplicable("a group is not constant")
    decoded = quantizer.quantize(weight).dequantize()
    off = np.abs(decoded - weight) / np.maximum(np.abs(weight), 1)
    limit = _resolution(quantizer.scheme) * (1 + 1e-6)
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


def tells(message: str, index: list[int]) -> bool:
    """Whether the numbers of ``index`` stand in the message, in their order."""
    numbers = [int(number) for number in re.findall(r"\d+", message)]
    return any(numbers[i : i + len(index)] == index for i in range(len(numbers) - len(index) + 1))


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


@promise(corpus.one, when=_has_channels)
def check_a_missing_axis_is_refused(quantizer: Quantizer, weight: Array) -> None:
    """An axis that the weight lacks is refused with SchemeError."""
    scheme = quantizer.scheme.replace(axis=weight.ndim)
    other = attrs.evolve(quantizer, scheme=scheme)
    refused_with(SchemeError, f"axis {weight.ndim} of {weight.shape}", other.quantize, weight)


# -- The same bits


@promise(corpus.nasty)
def check_the_same_input_gives_the_same_bits(quantizer: Quantizer, weight: Array) -> None:
    """One instance gives the same bits twice, and so does another of the same options."""
    first = quantizer.quantize(weight)
    require_same(quantizer.quantize(weight), first, "the second call and the first")
    require_same(attrs.evolve(quantizer).quantize(weight), first, "an equal quantizer and this")


@promise(corpus.some)
def check_threads_do_not_change_the_bits(quantizer: Quantizer, weight: Array) -> None:
    """One quantizer used by several threads at once gives each what it gives one."""
    others = [weight * np.float32(factor) for factor in range(1, 2 * THREADS + 1)]
    expected = [quantizer.quantize(other) for other in others]
    with ThreadPoolExecutor(THREADS) as threads:
        found = list(threads.map(quantizer.quantize, others))
    for ours, alone in zip(found, expected, strict=True):
        require_same(ours, alone, "a thread among others and one alone")


@promise(corpus.some)
def check_the_bits_need_no_extension(quantizer: Quantizer, weight: Array) -> None:
    """Without qsdk's C extension, as on a machine that lacks it, the bits are the same."""
    if not native.available():
        raise NotApplicable("the C extension is not in use")
    in_c = quantizer.quantize(weight)
    before = os.environ.get(WITHOUT_NATIVE)
    os.environ[WITHOUT_NATIVE] = "1"
    try:
        in_numpy = quantizer.quantize(weight)
    finally:
        del os.environ[WITHOUT_NATIVE]
        if before is not None:
            os.environ[WITHOUT_NATIVE] = before
    require_same(in_numpy, in_c, "without the C extension and with it")


# -- Size and form


@promise(corpus.nasty)
def check_nbytes_is_the_sum_of_the_arrays(quantizer: Quantizer, weight: Array) -> None:
    """What the encoding says it takes is what its arrays take."""
    encoding = quantizer.quantize(weight)
    held = sum(array.nbytes for array in encoding.arrays()[0].values())
    require(encoding.nbytes == held, f"nbytes is {encoding.nbytes}, and its arrays take {held}")


@promise()
def check_codes_take_no_more_than_their_bits(quantizer: Quantizer) -> None:
    """Twice as many values with the same number of slices take ``bits`` bits more for each."""
    short, long = (_nbytes_at(quantizer, length) for length in (256, 512))
    bits, values = quantizer.scheme.bits, 4 * 256
    slices = 4 * 256 // 64
    allowed = bits * values // 8 + SLACK_BYTES * slices
    require(
        long - short <= allowed,
        f"{values} values more take {long - short} bytes; {bits} bits each are "
        f"{bits * values // 8}",
    )


def _nbytes_at(quantizer: Quantizer, length: int) -> int:
    scheme = quantizer.scheme
    if scheme.granularity is Granularity.PER_GROUP:
        scheme = scheme.replace(group_size=length // 4)
    weight = np.moveaxis(corpus.normal(4, length), 0, scheme.axis)
    return attrs.evolve(quantizer, scheme=scheme).quantize(weight).nbytes


@promise(corpus.nasty)
def check_codes_fit_in_their_bits(quantizer: Quantizer, weight: Array) -> None:
    """Where an encoding shows its codes, they lie on the grid of the scheme."""
    encoding: Any = quantizer.quantize(weight)
    codes = getattr(encoding, "codes", None)
    if not isinstance(codes, np.ndarray):
        raise NotApplicable(f"{type(encoding).__name__} shows no codes")
    scheme = getattr(encoding, "scheme", quantizer.scheme)
    low, high = scheme.qmin, scheme.qmax
    if not codes.size:
        return
    require(
        low <= codes.min() and codes.max() <= high,
        f"codes reach [{codes.min()}, {codes.max()}] but {scheme.bits} bits hold [{low}, {high}]",
    )


@promise(corpus.some)
def check_a_slice_holds_no_more_values_than_codes(quantizer: Quantizer, weight: Array) -> None:
    """Weights that share a scale decode to at most ``2**bits`` different values."""
    decoded = quantizer.quantize(weight).dequantize()
    levels = 2**quantizer.scheme.bits
    whole = quantizer.scheme.granularity is Granularity.PER_TENSOR
    for rows in Slices(quantizer.scheme, weight.shape).split(decoded):
        for row in [rows] if whole else rows:
            count = np.unique(row).size
            require(count <= levels, f"a slice decodes to {count} values, and there are {levels}")


@promise(corpus.nasty)
def check_the_encoding_round_trips(quantizer: Quantizer, weight: Array) -> None:
    """``from_arrays(*arrays())`` gives the same encoding, and decodes to the same bits."""
    encoding = quantizer.quantize(weight)
    again = type(encoding).from_arrays(*encoding.arrays())
    require_same(again, encoding, "the encoding read back and the one written")


# -- A frozen value


@promise(once=True)
def check_the_quantizer_is_frozen(quantizer: Quantizer) -> None:
    """Setting a field raises AttributeError."""
    for field in attrs.fields(type(quantizer)):
        value = getattr(quantizer, field.name)
        what = f"setting {field.name}"
        refused_with(AttributeError, what, setattr, quantizer, field.name, value)


@promise(once=True)
def check_options_are_fields_with_defaults(quantizer: Quantizer) -> None:
    """The class takes no argument that is not a field, and none that must be given."""
    fields = [field for field in attrs.fields(type(quantizer)) if field.init]
    for field in fields:
        require(field.default is not attrs.NOTHING, f"option {field.name} has no default")
    type(quantizer)()


@promise(once=True)
def check_undeclared_schemes_are_refused(quantizer: Quantizer) -> None:
    """A width or a granularity outside ``capabilities`` raises SchemeError when built."""
    can = quantizer.capabilities
    others = [{"bits": bits} for bits in range(1, 9) if bits not in can.bits]
    words: list[dict[str, Any]] = [*others]
    for granularity in set(Granularity) - can.granularity:
        group = GROUP if granularity is Granularity.PER_GROUP else None
        words.append({"granularity": granularity, "group_size": group})
    if not words:
        raise NotApplicable("every scheme is declared")
    for word in words:
        try:
            scheme = quantizer.scheme.replace(**word)
        except SchemeError:
            continue
        changed = functools.partial(attrs.evolve, quantizer, scheme=scheme)
        refused_with(SchemeError, str(scheme), changed)


# -- Worth it


def _widths(quantizer: Quantizer) -> list[tuple[int, float]]:
    """(bits, SQNR in dB) on one Gaussian weight, for every width of this granularity."""
    weight = np.moveaxis(corpus.normal(8, 64), 0, quantizer.scheme.axis)
    found = []
    for bits in sorted(quantizer.capabilities.bits):
        try:
            scheme = quantizer.scheme.replace(bits=bits)
        except SchemeError:
            continue
        decoded = attrs.evolve(quantizer, scheme=scheme).quantize(weight).dequantize()
        found.append((bits, sqnr_db(weight, decoded)))
    return found


def _lowest_width(case: Case) -> bool:
    return bool(case.facts["scheme"].bits == min(case.facts["subject"].target.capabilities.bits))


@promise(when=_lowest_width)
def check_more_bits_are_not_worse(quantizer: Quantizer) -> None:
    """On Gaussian weights the SQNR does not fall as bits are added."""
    found = _widths(quantizer)
    if len(found) < 2:
        raise NotApplicable("only one width is declared")
    for (bits, before), (more, after) in itertools.pairwise(found):
        require(
            after >= before - SLACK_DB,
            f"{bits} bits give {before:.1f} dB, and {more} bits {after:.1f} dB",
        )


@promise(when=_lowest_width)
def check_the_highest_width_keeps_the_signal(quantizer: Quantizer) -> None:
    """On Gaussian weights the highest width gives 6 dB or more (2 bits 3 dB, 1 bit 0 dB)."""
    bits, found = _widths(quantizer)[-1]
    needed = min(3.0 * (bits - 1), 6.0)
    require(found >= needed, f"{bits} bits give {found:.1f} dB; {needed:.0f} are the least")
