"""Planes of bits, 64 to a word, and the numbers that scale them."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

import qsdk
from qsdk.errors import EncodingError

Words = NDArray[np.uint64]
WORD = 64  # bits
VALUES = ("bits", "granularity", "axis", "group_size", "shape")


def by_channel(scheme: qsdk.Scheme, shape: tuple[int, ...]) -> qsdk.Slices:
    """How an array of ``shape`` is one matrix with a row per channel, whatever shares a scale."""
    if scheme.granularity is qsdk.Granularity.PER_GROUP:
        scheme = scheme.replace(granularity="per_channel")
    return qsdk.Slices(scheme, shape)


def matrix_shape(scheme: qsdk.Scheme, shape: tuple[int, ...]) -> tuple[int, int]:
    """(channels, values of a channel)."""
    channels, *others = by_channel(scheme, shape).channels_first
    return channels, math.prod(others)


def expand(alpha: NDArray[np.float32], scheme: qsdk.Scheme, length: int) -> NDArray[np.float32]:
    """``alpha`` (planes, ...) as (planes, channels or 1, length or 1)."""
    if scheme.granularity is qsdk.Granularity.PER_GROUP:
        assert scheme.group_size is not None
        return np.repeat(alpha, min(scheme.group_size, max(length, 1)), axis=2)[..., :length]
    return alpha.reshape(len(alpha), -1, 1)


def decode(
    digits: NDArray[np.int8],
    alpha: NDArray[np.float32],
    scheme: qsdk.Scheme,
    shape: tuple[int, ...],
) -> NDArray[np.float32]:
    """``sum over planes of alpha * digits``, rounded to float32 once.

    digits : -1, 0 or 1, (planes, channels, length)
    """
    scales = expand(alpha, scheme, digits.shape[2]).astype(np.float64)
    total = np.zeros(digits.shape[1:])
    for scale, digit in zip(scales, digits, strict=True):
        total += scale * digit
    if not total.size:
        return np.zeros(shape, np.float32)
    return by_channel(scheme, shape).join([total.astype(np.float32)])


def read_values(values: Mapping[str, Any]) -> tuple[qsdk.Scheme, tuple[int, ...]]:
    """Scheme and shape of an encoding's values; raises what reading them raises."""
    lengths = values["shape"]
    whole = isinstance(lengths, list | tuple) and all(type(n) is int and n >= 0 for n in lengths)
    if not whole or len(lengths) > 64 or math.prod(max(n, 1) for n in lengths) > 2**60:
        raise ValueError(f"no array has the shape {lengths!r}")
    scheme = qsdk.Scheme(
        bits=values["bits"],
        granularity=values["granularity"],
        axis=values["axis"],
        group_size=values["group_size"] or None,
    )
    qsdk.Slices(scheme, tuple(lengths))  # refuses an axis that does not exist
    return scheme, tuple(lengths)


def to_values(
    scheme: qsdk.Scheme, shape: tuple[int, ...]
) -> dict[str, int | float | str | list[int]]:
    """The inverse of :func:`read_values`."""
    return {
        "bits": scheme.bits,
        "granularity": str(scheme.granularity),
        "axis": scheme.axis,
        "group_size": scheme.group_size or 0,
        "shape": list(shape),
    }


def cut(
    alpha: NDArray[np.float32], scheme: qsdk.Scheme, shape: tuple[int, ...], start: int, stop: int
) -> NDArray[np.float32] | None:
    """``alpha`` of the channels start to stop; None unless channels are on axis 0."""
    if scheme.granularity is qsdk.Granularity.PER_TENSOR:
        return alpha
    return alpha[:, start:stop] if scheme.axis in (0, -len(shape)) else None


def plain(scheme: qsdk.Scheme) -> qsdk.Scheme:
    """Only the words of ``scheme`` that mean something without a grid."""
    words = {word: getattr(scheme, word) for word in VALUES[:4]}
    return qsdk.Scheme(**words)


def check_array(name: str, array: NDArray[Any], dtype: type[Any], shape: tuple[int, ...]) -> None:
    if array.dtype != dtype or array.shape != shape:
        raise EncodingError(
            f"{name} is {array.dtype} {array.shape}; "
            f"this scheme and shape have {np.dtype(dtype)} {shape}"
        )


def check_alpha(alpha: NDArray[np.float32], planes: int, slices: qsdk.Slices) -> None:
    """Normal form: finite, not negative, largest first, and their sum is a float32."""
    check_array("alpha", alpha, np.float32, (planes, *slices.params_shape))
    with np.errstate(over="ignore"):
        finite = np.isfinite(alpha).all() and np.isfinite(alpha.sum(axis=0)).all()
    if not finite or np.signbit(alpha).any() or (alpha[1:] > alpha[:-1]).any():
        raise EncodingError(
            "alpha must be finite and not negative, the largest of each slice first, "
            "with a finite sum; this one is not"
        )


def check_padding(name: str, words: Words, length: int) -> None:
    """Bits behind the last value are 0."""
    if length % WORD and words.size and (words[..., -1] >> np.uint64(length % WORD)).any():
        raise EncodingError(f"{name} has bits set behind the {length} values of a channel")


def read_only(array: NDArray[Any]) -> NDArray[Any]:
    view = array.view()
    view.flags.writeable = False
    return view
