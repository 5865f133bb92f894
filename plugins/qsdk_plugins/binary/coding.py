"""Weights through a coder of sign planes: every slice a row of it."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

import qsdk
from qsdk_plugins.binary.binary_coded import BinaryCoded
from qsdk_plugins.binary.planes import WORD, Words, matrix_shape
from qsdk_plugins.binary.slices import Alphas, held

Floats = NDArray[np.float32]
# Rows (n, length) to alpha (planes, n) and words of planes (planes, n, words), in normal form.
CodeRows = Callable[[Floats], tuple[Alphas, Words]]

FAR = 2.0**60  # alphas beyond it, or its inverse: sums may overflow, or lose their last bits


def code_weight(weight: Floats, scheme: qsdk.Scheme, code: CodeRows) -> BinaryCoded:
    """What ``code`` makes of the slices of ``weight``."""
    slices = qsdk.Slices(scheme, weight.shape)
    channels, length = matrix_shape(scheme, weight.shape)
    if not weight.size:
        words = np.zeros((scheme.bits, channels, -(-length // WORD)), np.uint64)
        alpha = np.zeros((scheme.bits, *slices.params_shape), np.float32)
        return BinaryCoded.from_planes(words, alpha, weight.shape, scheme)
    whole = scheme.granularity is qsdk.Granularity.PER_TENSOR
    parts = [rows.reshape(1, -1) if whole else rows for rows in slices.split(weight)]
    alphas, planes = zip(*(_scaled(rows, code) for rows in parts), strict=True)
    alpha = np.stack([slices.join_params([a[i] for a in alphas]) for i in range(scheme.bits)])
    words = _by_channel(list(planes), [rows.shape[1] for rows in parts], channels)
    return BinaryCoded.from_planes(words, alpha, weight.shape, scheme)


def _by_channel(planes: list[Words], lengths: list[int], channels: int) -> Words:
    """Words (planes, rows, words) of each part of a channel, as (planes, channels, words)."""
    count = len(planes[0])
    of_a_channel = [w.shape[1] * n // channels for w, n in zip(planes, lengths, strict=True)]
    whole = [n % WORD == 0 for n in [*of_a_channel[:-1], *lengths[:-1]]]
    last_fits = planes[-1].shape[1] == channels or not (of_a_channel[-1] | lengths[-1]) % WORD
    if all(whole) and last_fits:
        parts = [words.reshape(count, channels, -1) for words in planes]
        return parts[0] if len(parts) == 1 else np.concatenate(parts, axis=2)
    bits = [
        qsdk.unpack_words(words, length).reshape(count, channels, -1)
        for words, length in zip(planes, lengths, strict=True)
    ]
    return qsdk.pack_words(np.concatenate(bits, axis=2).astype(bool))


def _scaled(rows: Floats, code: CodeRows) -> tuple[Alphas, Words]:
    """``code``, with very large and very small rows brought to about 1 by a power of two."""
    alpha, planes = code(rows)
    far = ~((alpha[0] >= 1 / FAR) & (alpha[0] <= FAR))  # so is a sum that is NaN, or 0
    if far.any():
        exponent = np.frexp(np.abs(rows[far]).max(axis=1))[1]
        found, planes[:, far] = code(np.ldexp(rows[far], -exponent[:, None]))
        alpha[:, far] = held(np.ldexp(found.astype(np.float64), exponent))
    return held(alpha), planes
