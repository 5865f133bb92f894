"""The encoding that comes back: the same bits always, in no more bytes than it says."""

from __future__ import annotations

import os
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import attrs
import numpy as np

from qsdk import native
from qsdk.interfaces import Quantizer
from qsdk.scheme import Granularity, Slices
from qsdk.testing import corpus
from qsdk.testing.check import Array, NotApplicable, require
from qsdk.testing.quantizers.cases import (
    promise,
)
from qsdk.testing.same import require_same

THREADS = 4
SLACK_BYTES = 8  # per slice, for rows that an encoding pads
WITHOUT_NATIVE = "QSDK_DISABLE_NATIVE"


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
