"""The C functions against oracles in plain Python integers, which share no code with them."""

from __future__ import annotations

import os

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from qsdk import native
from qsdk.errors import NativeError

REQUIRED = os.environ.get("QSDK_REQUIRE_NATIVE") == "1"
pytestmark = pytest.mark.skipif(
    not native.available() and not REQUIRED, reason=f"no C extension: {native.reason()}"
)

ONE = 2**20
GRIDS = [(-8, 7), (-7, 7), (0, 15), (-2, 1), (0, 1), (-128, 127), (0, 255)]


# Oracles: one value at a time, Python's own integers and round(), which takes halves to even.


def steps_of(u, zero_point, qmin, qmax):
    return min(max(round(float(u)), qmin - zero_point), qmax - zero_point)


def quantize_oracle(x, scale, zero_point, qmin, qmax):
    return [[steps_of(v / s, z, qmin, qmax) + z for v in row]
            for row, s, z in zip(x, scale, zero_point.tolist(), strict=True)]  # fmt: skip


def error_of(u, steps, fraction_bits, limit):
    error = round(float(np.float32(steps) - u) * 2**fraction_bits)
    return min(max(error, -limit), limit)


def squared_error_oracle(x, scale, zero_point, qmin, qmax):
    return [sum(error_of(v / s, steps_of(v / s, z, qmin, qmax), 10, 2**20) ** 2 for v in row)
            for row, s, z in zip(x, scale, zero_point.tolist(), strict=True)]  # fmt: skip


class Row:
    """SQuant on one row, after the words of the header: lists, one sort per flip step."""

    def __init__(self, u, zero_point, qmin, qmax):
        steps = [steps_of(v, zero_point, qmin, qmax) for v in u]
        self.codes = [s + zero_point for s in steps]
        self.e = [error_of(v, s, 20, 2**30) for v, s in zip(u, steps, strict=True)]
        self.qmin, self.qmax = qmin, qmax

    def direction(self, i):
        if self.e[i] < 0 and self.codes[i] < self.qmax:
            return +1
        if self.e[i] > 0 and self.codes[i] > self.qmin:
            return -1
        return 0

    def flip(self, candidates, total):
        """Moves what the flip step moves; returns the order and how many of it moved."""
        direction = (total < 0) - (total > 0)
        order = [i for i in candidates if direction and self.direction(i) == direction]
        order.sort(key=lambda i: (-abs(self.e[i]), i))
        wanted = round(abs(total) / ONE)  # a float64 is exact here
        for i in order[:wanted]:
            self.codes[i] += direction
            self.e[i] += direction * ONE
        return order, min(wanted, len(order))

    def stage_k(self, kernel_size):
        """Returns the candidates left for stage C."""
        left = []
        for start in range(0, len(self.e), kernel_size):
            kernel = range(start, start + kernel_size)
            total = sum(self.e[i] for i in kernel)
            order, moved = self.flip(kernel, total)
            if total == 0:
                continue
            left += order[moved - 1 : moved] if moved * ONE >= abs(total) else order[moved:][:1]
        return left

    def stage_c(self, candidates):
        self.flip(candidates, sum(self.e))


def squant_oracle(x, kernel_size, scale, zero_point, qmin, qmax, stage_k, stage_c):
    codes = []
    for values, s, z in zip(x, scale, zero_point.tolist(), strict=True):
        row = Row(values / s, z, qmin, qmax)
        candidates = range(len(values))
        if stage_k and kernel_size > 1:
            candidates = row.stage_k(kernel_size)
        if stage_c:
            row.stage_c(candidates)
        codes.append(row.codes)
    return codes


# Inputs, in steps from zero_point. Quarters make exact zeros, halves and ties common; errors that
# differ by half a unit of 2^-20 make its rounding decide which code moves.

KINDS = {
    "normal": lambda rng, low, high, shape: (
        (low + high) / 2 + (high - low + 1) / 6 * rng.standard_normal(shape)
    ),
    "quarters": lambda rng, low, high, shape: (
        rng.integers(4 * low - 2, 4 * high + 2, shape, endpoint=True) / 4
    ),
    "errors of one sign": lambda rng, low, high, shape: (
        rng.integers(low, high, shape, endpoint=True) + rng.choice([0, 0.25, 0.25, 0.5], shape)
    ),
    "nearly equal errors": lambda rng, low, high, shape: (
        (100_000 + rng.integers(0, 8, shape) / 2) / ONE
    ),
    "clipped": lambda rng, low, high, shape: (
        np.where(rng.random(shape) < 0.3, low, high) + rng.choice([0, 0.25, -0.75, 3.5, 2e3], shape)
    ),
    "on the grid": lambda rng, low, high, shape: rng.integers(low, high, shape, endpoint=True),
    "zeros": lambda rng, low, high, shape: np.zeros(shape),
}


def rows_of(kind, shape, qmin, qmax, seed=0):
    """float32 rows, and for each a scale and a zero point."""
    rng = np.random.default_rng(seed)
    zero_point = rng.integers(qmin, qmax, shape[0], dtype=np.int32, endpoint=True)
    scale = np.float32(2.0) ** rng.integers(-6, 3, shape[0]).astype(np.float32)
    if kind == "normal":
        scale *= np.float32(1.1)  # no power of two: the division rounds
    low, high = (limit - zero_point[:, None] for limit in (qmin, qmax))
    u = KINDS[kind](rng, low, high, shape)
    return (u * scale[:, None]).astype(np.float32), scale, zero_point


on_every_grid = pytest.mark.parametrize("grid", GRIDS, ids=str)
on_every_kind = pytest.mark.parametrize("kind", KINDS)
with_stages = pytest.mark.parametrize(
    "stages",
    [{"stage_k": k, "stage_c": c} for k in (False, True) for c in (False, True)],
    ids=["E", "E+C", "E+K", "E+K+C"],
)


# Packing


def pack_oracle(codes, bits):
    stream = sum((code % 2**bits) << (i * bits) for i, code in enumerate(codes))
    return list(stream.to_bytes(-(-len(codes) * bits // 8), "little"))


def codes_of(bits, signed, count):
    dtype = np.int8 if signed else np.uint8
    half = 2**bits // 2 if signed else 0
    rng = np.random.default_rng(count)
    return rng.integers(-half, 2**bits - half, count).astype(dtype)


@pytest.mark.parametrize("signed", [False, True], ids=["unsigned", "signed"])
@pytest.mark.parametrize("bits", range(1, 9))
def test_packed_bytes_are_the_little_endian_stream_and_unpack_to_the_codes(bits, signed):
    for count in range(131):
        codes = codes_of(bits, signed, count)
        packed = native.pack(codes, bits)
        assert packed.tolist() == pack_oracle(codes.tolist(), bits)
        unpacked = native.unpack(packed, count, bits, signed)
        assert unpacked.dtype == codes.dtype
        assert unpacked.tolist() == codes.tolist()


@given(packed=st.binary(max_size=40), bits=st.integers(1, 8))
def test_any_bytes_unpack_and_pack_to_themselves(packed, bits):
    count = len(packed) * 8 // bits
    codes = native.unpack(np.frombuffer(packed, np.uint8), count, bits, signed=False)
    spare = len(packed) * 8 - count * bits
    kept = int.from_bytes(packed, "little") % 2 ** (count * bits)
    assert spare < bits
    assert int.from_bytes(native.pack(codes, bits).tobytes(), "little") == kept


def test_only_the_low_bits_of_a_code_are_packed():
    assert native.pack(np.uint8([0xF1, 0xE2, 0xD3]), bits=4).tolist() == [0x21, 0x03]


def test_four_bits_put_the_first_code_into_the_low_nibble():
    assert native.pack(np.int8([1, -1, 2]), bits=4).tolist() == [0xF1, 0x02]


@pytest.mark.parametrize("bits", range(1, 9))
def test_a_packed_buffer_one_byte_short_is_refused_and_nothing_is_written(bits):
    from qsdk._native import ffi, lib

    for count in (1, 7, 8, 9, 130):
        packed = native.pack(codes_of(bits, False, count), bits)[:-1].copy()
        with pytest.raises(NativeError, match=f"count is {count}; {packed.size} packed"):
            native.unpack(packed, count, bits, signed=False)
        codes = ffi.new("uint8_t[]", b"\x55" * count)
        packed_c = ffi.from_buffer("uint8_t[]", packed)
        assert lib.qsdk_unpack_portable(packed_c, len(packed_c), count, bits, 0, codes) == 1
        assert bytes(codes)[:count] == b"\x55" * count


def test_unpack_in_c_refuses_other_bits_and_a_count_that_would_overflow():
    from qsdk._native import ffi, lib

    packed, codes = ffi.new("uint8_t[]", 8), ffi.new("uint8_t[]", 8)
    for bits in (-1, 0, 9):
        assert lib.qsdk_unpack_portable(packed, 8, 1, bits, 0, codes) == 1
    largest = 2 ** (8 * ffi.sizeof("size_t")) - 1
    for bits in range(1, 9):
        assert lib.qsdk_unpack_portable(packed, 8, largest, bits, 0, codes) == 1


# Rounding to nearest


def test_halves_round_to_even():
    rows = np.float32([[0.5, 1.5, 2.5, -0.5, -1.5, -2.5, -0.0]])
    codes = native.quantize_rows(rows, np.float32([1]), np.int32([0]), -8, 7)
    assert codes.tolist() == [[0, 2, 2, 0, -2, -2, 0]]


def test_the_zero_point_is_added_after_rounding():
    codes = native.quantize_rows(np.float32([[0.5, 1.5]]), np.float32([1]), np.int32([1]), -8, 7)
    assert codes.tolist() == [[1, 3]]


def test_values_outside_the_grid_take_its_ends():
    rows = np.float32([[-1e38, -8.6, 7.6, 1e38, -np.inf, np.inf]])
    codes = native.quantize_rows(rows, np.float32([1e-3]), np.int32([3]), -8, 7)
    assert codes.tolist() == [[-8, -8, 7, 7, -8, 7]]


def test_the_division_is_no_multiplication_by_a_reciprocal():
    halves = np.arange(1, 250, 2, dtype=np.float32)[None] * np.float32(1.5)
    rows = np.concatenate([halves, np.nextafter(halves, np.float32(0))], axis=1)
    scale, zero_point = np.float32([3]), np.int32([0])
    assert (np.rint(rows / scale) != np.rint(rows * (1 / scale))).any(), "the data cannot tell"
    expected = quantize_oracle(rows, scale, zero_point, 0, 255)
    codes = native.quantize_rows(rows, scale, zero_point, 0, 255)
    assert codes.tolist() == expected
    codes = native.squant(rows, 1, scale, zero_point, 0, 255, stage_k=False, stage_c=False)
    assert codes.tolist() == expected


@on_every_kind
@on_every_grid
def test_quantize_rows_equals_exact_rounding(grid, kind):
    for length in (0, 1, 15, 16, 17, 130):
        rows, scale, zero_point = rows_of(kind, (3, length), *grid)
        codes = native.quantize_rows(rows, scale, zero_point, *grid)
        assert codes.dtype == (np.int8 if grid[0] < 0 else np.uint8)
        assert codes.tolist() == quantize_oracle(rows, scale, zero_point, *grid)


@on_every_kind
@on_every_grid
def test_squared_error_rows_equals_exact_integers(grid, kind):
    for length in (0, 1, 15, 16, 17, 130):
        rows, scale, zero_point = rows_of(kind, (3, length), *grid)
        error = native.squared_error_rows(rows, scale, zero_point, *grid)
        assert error.tolist() == squared_error_oracle(rows, scale, zero_point, *grid)


def test_a_quarter_of_a_step_is_256_and_a_far_value_counts_as_1024_steps():
    one, zero = np.float32([1]), np.int32([0])
    rows = np.float32([[0.25, -3]])
    assert native.squared_error_rows(rows, one, zero, -8, 7).tolist() == [256**2]
    rows = np.float32([[1e9, -np.inf]])
    assert native.squared_error_rows(rows, one, zero, -8, 7).tolist() == [2 * 2**40]


# SQuant


@with_stages
@on_every_kind
@pytest.mark.parametrize("kernel_size", [1, 3, 9, 25, 49, 300])
def test_squant_equals_the_words_of_the_header(kernel_size, kind, stages):
    for seed, grid in enumerate(GRIDS):
        kernels = 1 + (40 + 60 * (seed % 2)) // kernel_size
        rows, scale, zero_point = rows_of(kind, (2, kernels * kernel_size), *grid, seed)
        codes = native.squant(rows, kernel_size, scale, zero_point, *grid, **stages)
        expected = squant_oracle(rows, kernel_size, scale, zero_point, *grid, **stages)
        assert codes.dtype == (np.int8 if grid[0] < 0 else np.uint8)
        assert codes.tolist() == expected


@given(
    quarters=st.lists(st.integers(-34, 30), min_size=1, max_size=60),
    kernel_size=st.integers(1, 12),
    zero_point=st.integers(-8, 7),
    stages=st.fixed_dictionaries({"stage_k": st.booleans(), "stage_c": st.booleans()}),
)
def test_squant_breaks_ties_as_the_header_says(quarters, kernel_size, zero_point, stages):
    quarters = quarters[: len(quarters) // kernel_size * kernel_size]
    rows = np.float32([quarters]) / 4 - zero_point
    grid = (np.float32([1]), np.int32([zero_point]), -8, 7)
    codes = native.squant(rows, kernel_size, *grid, **stages)
    assert codes.tolist() == squant_oracle(rows, kernel_size, *grid, **stages)


@pytest.mark.parametrize("length", [16, 1000, 4099])
def test_of_equal_errors_the_first_move(length):
    rows = np.full((1, length), 1.25, np.float32)  # sum of errors: -length / 4
    codes = native.squant(
        rows, 1, np.float32([1]), np.int32([0]), -8, 7, stage_k=True, stage_c=True
    )
    raised = round(length / 4)
    assert codes.tolist() == [[2] * raised + [1] * (length - raised)]


def squant_of(kernels, **stages):
    """Codes on the grid -8..7 of one row of equal kernels, given in steps."""
    rows = np.float32(kernels).reshape(1, -1)
    one, zero = np.float32([1]), np.int32([0])
    codes = native.squant(rows, len(kernels[0]), one, zero, -8, 7, **stages)
    return codes.reshape(len(kernels), -1).tolist()


def test_one_kernel_worked_by_hand():
    # Errors -0.25 -0.375 -0.125 sum to -0.75: one code goes up, that of the largest error.
    assert squant_of([[1.25, 2.375, 3.125]], stage_k=True, stage_c=False) == [[1, 3, 3]]


def test_a_row_worked_by_hand():
    # Each kernel's errors sum to -0.375 and stay; those of the row to -1.125. So one code goes up,
    # the best of each kernel's best: -0.25 twice, of which the first.
    kernels = [[1.125, 1.25], [2.25, 2.125], [3.1875, 3.1875]]
    assert squant_of(kernels, stage_k=True, stage_c=True) == [[1, 2], [2, 2], [3, 3]]


def test_a_kernel_that_sums_to_zero_offers_its_last_move_back():
    # Kernels of four times -0.25: one goes up, the sum is 0, the code may come back down.
    # The last kernel, 0.5 down on two codes at the end of the grid, makes the row want that.
    kernels = [[1.25] * 4, [-9.0, -9.0, 0, 0]]
    assert squant_of(kernels, stage_k=True, stage_c=False) == [[2, 1, 1, 1], [-8, -8, 0, 0]]
    assert squant_of(kernels, stage_k=True, stage_c=True) == [[1, 1, 1, 1], [-8, -8, 0, 0]]


def test_a_far_value_moves_1024_others():
    rows = [[1e9] + [1 + 2**-20] * 3000]
    assert squant_of(np.transpose(rows), stage_k=False, stage_c=True) == (
        [[7]] + [[2]] * 1024 + [[1]] * 1976
    )


@on_every_grid
def test_stage_e_alone_is_round_to_nearest(grid):
    rows, scale, zero_point = rows_of("normal", (4, 90), *grid)
    arguments = (scale, zero_point, *grid)
    codes = native.squant(rows, 9, *arguments, stage_k=False, stage_c=False)
    assert codes.tolist() == native.quantize_rows(rows, *arguments).tolist()


def test_long_rows_and_many_kernels_equal_the_words_of_the_header():
    for shape, kernel_size in (((1, 5000), 1), ((1, 4500), 9), ((2, 3000), 1500)):
        rows, scale, zero_point = rows_of("normal", shape, -8, 7)
        arguments = (scale, zero_point, -8, 7, True, True)
        codes = native.squant(rows, kernel_size, *arguments[:-2], stage_k=True, stage_c=True)
        assert codes.tolist() == squant_oracle(rows, kernel_size, *arguments)


@with_stages
@pytest.mark.parametrize("shape", [(0, 0), (0, 9), (3, 0)])
def test_empty_arrays_give_empty_codes(shape, stages):
    rows, scale, zero_point = rows_of("zeros", shape, -8, 7)
    assert native.squant(rows, 9, scale, zero_point, -8, 7, **stages).shape == shape
    assert native.quantize_rows(rows, scale, zero_point, -8, 7).shape == shape
    assert native.squared_error_rows(rows, scale, zero_point, -8, 7).tolist() == [0] * shape[0]


@with_stages
def test_values_that_the_caller_should_have_refused_do_no_harm(stages):
    rows, scale, zero_point = rows_of("normal", (4, 90), -8, 7)
    rows[0, ::3], rows[1, ::2], rows[2] = np.nan, np.inf, -np.inf
    scale[3] = 0
    for kernel_size in (1, 9, 45):
        arguments = (scale, zero_point, -8, 7)
        assert native.squant(rows, kernel_size, *arguments, **stages).shape == rows.shape
    assert native.quantize_rows(rows, *arguments).max() <= 7
    assert native.squared_error_rows(rows, *arguments).min() >= 0


# The door


def good(**replaced):
    arguments = {
        "rows": np.zeros((2, 6), np.float32),
        "scale": np.ones(2, np.float32),
        "zero_point": np.zeros(2, np.int32),
        "qmin": -8,
        "qmax": 7,
    }
    return arguments | replaced


@pytest.mark.parametrize(
    ("replaced", "message"),
    [
        ({"rows": [[1.0]]}, r"rows is a list; give a C-contiguous float32 array"),
        ({"rows": np.zeros((2, 6))}, r"rows is float64 of shape \(2, 6\); give"),
        ({"rows": np.zeros((2, 6), ">f4")}, r"rows is >f4 of shape"),
        ({"rows": np.zeros(6, np.float32)}, r"shape \(6,\); .* of shape \[rows, length\]"),
        ({"rows": np.zeros((6, 2), np.float32).T}, r"not C-contiguous; give"),
        ({"rows": np.zeros((2, 12), np.float32)[:, ::2]}, r"not C-contiguous; give"),
        ({"scale": np.ones(3, np.float32)}, r"scale is float32 of shape \(3,\); .* \[2\]"),
        ({"scale": np.ones((2, 1), np.float32)}, r"scale is float32 of shape \(2, 1\)"),
        ({"scale": np.ones(2)}, r"scale is float64"),
        ({"zero_point": np.zeros(2, np.int64)}, r"zero_point is int64 .* int32"),
        ({"qmin": -129}, r"grid is -129..7; it must lie within -128..127 or 0..255"),
        ({"qmin": -8, "qmax": 128}, r"grid is -8..128"),
        ({"qmin": 0, "qmax": 256}, r"grid is 0..256"),
        ({"qmin": 3, "qmax": 2}, r"grid is 3..2"),
    ],
)
def test_rows_that_c_cannot_take_are_refused_with_what_was_given(replaced, message):
    for function, more in (
        (native.quantize_rows, {}),
        (native.squared_error_rows, {}),
        (native.squant, {"kernel_size": 3, "stage_k": True, "stage_c": True}),
    ):
        with pytest.raises(NativeError, match=message):
            function(**good(**replaced), **more)


@pytest.mark.parametrize("kernel_size", [-3, 0, 4, 7])
def test_kernels_that_do_not_divide_a_row_are_refused(kernel_size):
    with pytest.raises(NativeError, match=f"have 6 values; give kernels of {kernel_size}"):
        native.squant(**good(), kernel_size=kernel_size, stage_k=True, stage_c=True)


def test_rows_too_long_for_squant_are_refused():
    endless = good(
        rows=np.zeros((0, 2**31), np.float32),
        scale=np.ones(0, np.float32),
        zero_point=np.zeros(0, np.int32),
    )
    with pytest.raises(NativeError, match="have 2147483648 values"):
        native.squant(**endless, kernel_size=1, stage_k=True, stage_c=True)


def test_codes_that_c_cannot_take_are_refused_with_what_was_given():
    with pytest.raises(NativeError, match=r"codes is int64 .* int8 or uint8 array"):
        native.pack(np.zeros(3, np.int64), 4)
    with pytest.raises(NativeError, match=r"codes is int8 of shape \(1, 3\)"):
        native.pack(np.zeros((1, 3), np.int8), 4)
    with pytest.raises(NativeError, match=r"packed is int8 .* uint8 array"):
        native.unpack(np.zeros(3, np.int8), 1, 4, signed=True)
    for bits in (0, 9):
        with pytest.raises(NativeError, match=f"bits is {bits}; codes have 1 to 8"):
            native.pack(np.zeros(3, np.int8), bits)
        with pytest.raises(NativeError, match=f"bits is {bits}; codes have 1 to 8"):
            native.unpack(np.zeros(3, np.uint8), 1, bits, signed=False)
    with pytest.raises(NativeError, match="count is -1; 3 packed bytes hold 0 to 6 codes of 4"):
        native.unpack(np.zeros(3, np.uint8), -1, 4, signed=False)


def test_inputs_stay_as_they_were_and_may_be_read_only():
    rows, scale, zero_point = rows_of("normal", (2, 18), -8, 7)
    before = rows.copy()
    for array in (rows, scale, zero_point):
        array.flags.writeable = False
    native.squant(rows, 9, scale, zero_point, -8, 7, stage_k=True, stage_c=True)
    assert (rows == before).all()


def test_the_environment_switches_c_off_and_the_error_says_so(monkeypatch):
    assert native.available() and native.reason() == ""
    monkeypatch.setenv("QSDK_DISABLE_NATIVE", "1")
    assert not native.available()
    with pytest.raises(NativeError, match="not available: switched off by QSDK_DISABLE_NATIVE"):
        native.pack(np.zeros(3, np.int8), 4)


def test_an_extension_that_does_not_load_leaves_its_reason(monkeypatch):
    def fails(name):
        raise ImportError(f"no module named {name!r}, for the test")

    monkeypatch.setattr(native.importlib, "import_module", fails)
    native._extension.cache_clear()
    try:
        assert native.reason() == "no module named 'qsdk._native', for the test"
        with pytest.raises(NativeError, match="for the test"):
            native.pack(np.zeros(3, np.int8), 4)
    finally:
        native._extension.cache_clear()
