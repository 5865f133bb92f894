"""Quantizing slice by slice, each in double precision and in a fixed order of summation."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

import qsdk
from qsdk_plugins.binary.planes import by_channel, matrix_shape

LARGEST = float(np.finfo(np.float32).max) * (1 - 2.0**-20)
AT_ONCE = 2**20  # values that are held as doubles at a time, where slices are shorter

Digits = NDArray[np.int8]
Alphas = NDArray[np.float32]
# Rows (n, length) of doubles to alpha (planes, n) and digits (planes, n, length).
Code = Callable[[NDArray[np.float64]], tuple[Alphas, Digits]]


def code_slices(
    weight: NDArray[np.float32], scheme: qsdk.Scheme, planes: int, code: Code
) -> tuple[Digits, Alphas]:
    """What ``code`` makes of each slice: digits (planes, channels, length), alphas beside them."""
    slices = qsdk.Slices(scheme, weight.shape)
    channels, length = matrix_shape(scheme, weight.shape)
    if not weight.size:
        return np.zeros((planes, channels, length), np.int8), np.zeros(
            (planes, *slices.params_shape), np.float32
        )
    whole = scheme.granularity is qsdk.Granularity.PER_TENSOR
    alphas, digits = [], []
    for rows in slices.split(weight):
        alpha, digit = _in_parts(rows.reshape(1, -1) if whole else rows, planes, code)
        alphas.append(np.repeat(alpha, len(rows), axis=1) if whole else alpha)
        digits.append(digit.reshape(planes, *rows.shape))
    alpha = np.stack([slices.join_params([a[i] for a in alphas]) for i in range(planes)])
    joined = [slices.join([d[i] for d in digits]) for i in range(planes)]
    matrix = by_channel(scheme, weight.shape)
    return np.stack([matrix.split(plane)[0] for plane in joined]), alpha


def _in_parts(rows: NDArray[np.float32], planes: int, code: Code) -> tuple[Alphas, Digits]:
    count, length = rows.shape
    alpha, digits = np.empty((planes, count), np.float32), np.empty((planes, *rows.shape), np.int8)
    step = max(AT_ONCE // length, 1)
    for start in range(0, count, step):
        part = slice(start, start + step)
        found, digits[:, part] = code(rows[part].astype(np.float64))
        order = np.argsort(-found, axis=0, kind="stable")
        alpha[:, part] = held(np.take_along_axis(found, order, axis=0))
        digits[:, part] = np.take_along_axis(digits[:, part], order[..., None], axis=0)
    return alpha, digits


def held(alpha: NDArray[np.floating[Any]]) -> Alphas:
    """Scaled down where the sum is no float32; only the largest floats meet it."""
    total = alpha.sum(axis=0, dtype=np.float64)
    factor = LARGEST / np.maximum(total, LARGEST)
    return np.where(factor < 1, alpha * factor, alpha).astype(np.float32)
