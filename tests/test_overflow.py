"""The proof of inspect: worst sums of real layers, and kernels that a sum excludes."""

from __future__ import annotations

import numpy as np
import pytest
from small_net import images, saved

import qsdk
from qsdk import cpu, native
from qsdk.dispatch import kernels
from qsdk.interfaces import Conv, FixedCodes, Layer, Linear
from qsdk.overflow import RUNTIMES, overflow_proof

CODES = FixedCodes(scale=0.5, zero_point=3, scheme=qsdk.Scheme(signed=False))
SIGNED = FixedCodes(scale=0.5, zero_point=-3, scheme=qsdk.Scheme())


def layer(codes, *, bias=None, bits=8, group_size=None, scale=1.0):
    codes = np.asarray(codes)
    scheme = qsdk.Scheme(bits=bits, granularity="per_tensor").replace(group_size=group_size)
    shape = qsdk.Slices(scheme, codes.shape).params_shape
    encoding = qsdk.Affine.from_codes(
        codes, np.full(shape, scale, np.float32), np.zeros(shape, int), scheme
    )
    return Layer(
        name="fc", operation="Gemm", weight_name="w", shape=codes.shape, stored="int8", nbytes=1,
        read=encoding.dequantize, read_encoding=lambda: encoding,
        read_bias=None if bias is None else lambda: np.float32(bias),
    )  # fmt: skip


def test_sums_worked_by_hand():
    """Codes 0 to 255 less 3: -3 to 252. 252 * 130 + 3 * 5 = 32775, in pairs 255 * 130 = 33150."""
    sums = overflow_proof(layer([[100, 30, -5]]), CODES)
    assert {x.worst for many in sums.values() for x in many if x.bits == 32} == {32775}
    pairs = {name: x for name, many in sums.items() for x in many if x.bits == 16}
    assert pairs["linear-int8-avx2-pairs"].worst == 255 * 130
    assert not pairs["linear-int8-avx2-pairs"].fits
    assert pairs["linear-int8-neon-pairs"].worst == 128 * 130
    assert pairs["linear-int8-neon-pairs"].fits
    assert pairs[RUNTIMES].worst == 255 * 130


def test_neighbours_are_what_a_kernel_pairs_and_any_two_what_others_may():
    sums = overflow_proof(layer([[100, 0, 0, 30]]), CODES)
    pairs = {name: x for name, many in sums.items() for x in many if x.bits == 16}
    assert pairs["linear-int8-avx2-pairs"].worst == 25500
    assert pairs[RUNTIMES].worst == 255 * 130


def test_runtimes_have_the_bias_in_their_sums():
    sums = overflow_proof(layer([[1, 1]], bias=[-2.0], scale=0.25), CODES)
    assert sums[RUNTIMES][0].worst == 2 * 252 + 16  # 2.0 / (0.5 * 0.25)
    assert sums["linear-int8-portable"][0].worst == 2 * 252


def test_signed_inputs_meet_no_pairs_of_unsigned_ones_in_runtimes():
    sums = overflow_proof(layer([[127, 127]]), SIGNED)
    assert [x.bits for x in sums[RUNTIMES]] == [32]
    assert sums["linear-int8-portable"][0].worst == 130 * 254  # codes up to 127 + 3


def test_sums_beyond_32_bits_are_told_by_every_kernel():
    long = np.full((1, 70_000), 127)
    sums = overflow_proof(layer(long), CODES)
    assert sums["linear-int8-avx2"][0].worst == 70_000 * 127 * 252 > 2**31
    assert not any(many[0].fits for name, many in sums.items() if name.startswith("linear-int8"))


@pytest.mark.parametrize(("bits", "count"), [(2, 16), (4, 8), (7, 1)])
def test_groups_are_added_by_themselves(bits, count):
    top = 2 ** (bits - 1) - 1
    sums = overflow_proof(layer(np.full((1, 64), top), bits=bits, group_size=32), None)
    unit = 2**bits - 1
    whole, pairs = sums["linear-groups-avx2"]
    assert whole.worst == 32 * 128 * unit
    assert pairs.worst == count * 2 * 128 * unit and pairs.fits
    assert [x.bits for x in sums["linear-groups-avxvnni"]] == [32]


def test_floats_need_no_proof():
    floats = Layer(
        name="fc", operation="Gemm", weight_name="w", shape=(1, 2), stored="float32", nbytes=8,
        read=lambda: np.ones((1, 2), np.float32),
    )  # fmt: skip
    assert overflow_proof(floats, CODES) == {}


def test_every_layer_of_a_network_is_proven(tmp_path):
    recipe = qsdk.Recipe(method="rtn", options={"bits": 7}, activations="minmax")
    batches = [images(8, seed) for seed in range(2)]
    model = qsdk.quantize_model(saved(tmp_path), recipe, calibration=batches).model
    codes = model.codes
    for found in model.layers:
        sums = overflow_proof(found, codes[found.input_name])
        kind = "linear" if found.operation == "Gemm" else "conv"
        assert {f"{kind}-int8-avx2", f"{kind}-int8-dotprod", RUNTIMES} <= set(sums)
        assert all(x.fits for many in sums.values() for x in many)


def operation_of(kernel, codes):
    activations = qsdk.Activations(form="uint8")
    if kernel.operation == "linear":
        return Linear(weight=layer(codes).encoding, activations=activations)
    return Conv(
        weight=layer(codes.reshape(*codes.shape, 1, 1)).encoding, activations=activations,
        stride=(1, 1), padding=(0,) * 4, dilation=(1, 1), groups=1,
    )  # fmt: skip


@pytest.mark.parametrize(
    "name", ["linear-int8-avx2-pairs", "linear-int8-neon-pairs", "conv-int8-avx2-pairs"]
)
def test_a_kernel_refuses_where_its_pairs_do_not_fit(name):
    """It looks at the weight when a layer is made; the proof must say the same."""
    kernel = next(found.kernel for found in kernels() if found.kernel.name == name)
    if not native.available() or cpu.why_not(kernel.features):
        pytest.skip(f"{name} cannot run here, and what cannot run looks at no weight")
    rng = np.random.default_rng(0)
    seen = set()
    for end in (60, 64, 65, 80, 128):
        for _ in range(20):
            codes = rng.integers(-end, end, (2, 5))
            operation = operation_of(kernel, codes)
            fits = all(x.fits for x in kernel.accumulators(operation))
            assert fits == (not kernel.refusal(operation)), codes
            seen.add(fits)
    assert seen == {True, False}
