"""Slow, exact answers: Python's integers and fractions, one value at a time, no qsdk.

Python's ``round`` takes halves to the even neighbour, which is the rounding of the SDK.
"""

from __future__ import annotations

import itertools
from fractions import Fraction

ONE = 2**20  # a step of the grid, in SQuant's unit of the error


def float32(value: Fraction) -> Fraction:
    """The float32 nearest to ``value``, halves to even, as a fraction; no overflow."""
    value = Fraction(value)
    if value == 0:
        return value
    exponent = abs(value.numerator).bit_length() - value.denominator.bit_length()
    if abs(value) < Fraction(2) ** exponent:
        exponent -= 1
    unit = Fraction(2) ** (max(exponent, -126) - 23)
    return round(value / unit) * unit


def code(x: float, scale: float, zero_point: int, qmin: int, qmax: int) -> int:
    """Card 1.2: one float32 division, round, add the zero point, clip."""
    steps = round(float32(Fraction(float(x)) / Fraction(float(scale))))
    return min(max(steps + int(zero_point), qmin), qmax)


def grid(low, high, qmin: int, qmax: int, symmetric: bool) -> tuple[Fraction, int]:
    """Card 1.3: scale and zero point of a range, for magnitudes far from float32's ends."""
    low, high = min(Fraction(float(low)), 0), max(Fraction(float(high)), 0)
    if low == high:
        return Fraction(1), 0 if symmetric else min(max(0, qmin), qmax) if qmin > 0 else qmin
    if symmetric:
        return float32(max(-low, high) / qmax), 0
    scale = float32((high - low) / (qmax - qmin))
    return scale, min(max(qmin - round(float32(float32(low) / scale)), qmin), qmax)


def packed(codes, bits: int) -> list[int]:
    """The codes as one long number, cut into bytes, lowest first."""
    number = sum((int(c) % 2**bits) << (i * bits) for i, c in enumerate(codes))
    return list(number.to_bytes(-(-len(codes) * bits // 8), "little"))


def error_steps(x, scale, zero_point, qmin, qmax) -> Fraction:
    """How far the code lies from the value, in steps, as the float32 difference."""
    steps = float32(Fraction(float(x)) / Fraction(float(scale)))
    return float32(code(x, scale, zero_point, qmin, qmax) - int(zero_point) - steps)


def squared_error(row, scale, zero_point, qmin, qmax) -> int:
    """Sum of squared errors in 1/1024 of a step, each at most 1024 steps."""
    limit = 2**20
    errors = (round(error_steps(x, scale, zero_point, qmin, qmax) * 1024) for x in row)
    return sum(min(abs(e), limit) ** 2 for e in errors)


def squant_row(row, kernel_size, scale, zero_point, qmin, qmax, stages) -> list[int]:
    """SQuant by the words of card 2, on lists."""
    codes = [code(x, scale, zero_point, qmin, qmax) for x in row]
    error = [round(error_steps(x, scale, zero_point, qmin, qmax) * ONE) for x in row]
    error = [min(max(e, -(2**30)), 2**30) for e in error]

    def can(i: int, direction: int) -> bool:
        if direction > 0:
            return error[i] < 0 and codes[i] < qmax
        return error[i] > 0 and codes[i] > qmin

    def flip(candidates: set[int], total: int) -> tuple[list[int], int]:
        direction = 1 if total < 0 else -1
        order = sorted(
            (i for i in candidates if can(i, direction)), key=lambda i: (-abs(error[i]), i)
        )
        count = min(round(Fraction(abs(total), ONE)), len(order))
        for i in order[:count]:
            codes[i] += direction
            error[i] += direction * ONE
        return order, count

    candidates = set(range(len(codes)))
    if "K" in stages and kernel_size > 1:
        candidates = set()
        for start in range(0, len(codes), kernel_size):
            kernel = set(range(start, start + kernel_size))
            total = sum(error[i] for i in kernel)
            if total == 0:
                continue
            order, count = flip(kernel, total)
            if count * ONE >= abs(total):
                candidates.add(order[count - 1])
            elif count < len(order):
                candidates.add(order[count])
    if "C" in stages:
        total = sum(error)
        if total:
            flip(candidates, total)
    return codes


def best_kernel(x) -> tuple[float, float]:
    """Of all floor/ceil choices: the least |sum of errors|, and the least squares that reach it."""
    choices = [
        (abs(sum(e)), sum(v * v for v in e))
        for e in itertools.product(*([f - v, f + 1 - v] for v in x for f in [v // 1]))
    ]
    least = min(total for total, _ in choices)
    return least, min(squares for total, squares in choices if total <= least + 1e-9)


def quantile(values, share: Fraction) -> float:
    """The smallest value that at least ``share`` of all values do not exceed."""
    ordered = sorted(float(v) for v in values)
    needed = max(-(-share * len(ordered) // 1), 1)
    return ordered[int(needed) - 1]


def histogram(values, bins: int) -> tuple[int | None, dict[int, int], int]:
    """(k, count by bin, zeros) of card 4.4, all values at once."""
    exact = [Fraction(float(v)) for v in values]
    zeros = sum(v == 0 for v in exact)
    largest = max((abs(v) for v in exact), default=Fraction(0))
    if largest == 0:
        return None, {}, zeros
    k = 0
    while Fraction(2) ** k <= largest:
        k += 1
    while Fraction(2) ** (k - 1) > largest:
        k -= 1
    counts: dict[int, int] = {}
    for v in exact:
        if v != 0:
            place = int(v * bins / Fraction(2) ** k // 1) + bins
            counts[place] = counts.get(place, 0) + 1
    return k, counts, zeros
