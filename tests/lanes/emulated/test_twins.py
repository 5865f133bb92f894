"""Every native function against its numpy twin, every kernel, the whole job: for emulated CPUs.

Few imports and seeded inputs, for an emulator is fifteen times slower. Inputs are integers times
a power of two, so that nothing depends on the libm of the machine: the digest that is printed at
the end (``pytest -s``) must be the same on every CPU. The lanes look at it and at the count.
"""

from __future__ import annotations

import hashlib
import itertools
import json

import numpy as np
import pytest
from click.testing import CliRunner

import qsdk
from qsdk import native
from qsdk.encodings import pack, unpack
from qsdk.interfaces import Activations, Output

LENGTHS = [*range(10), 15, 16, 17, 31, 32, 33, 63, 64, 65, 257]
GRIDS = [{"bits": bits, "signed": signed} for bits in (1, 2, 3, 4, 8) for signed in (True, False)]

compared = {"inputs": 0}
digest = hashlib.sha256()


@pytest.fixture(autouse=True, scope="module")
def say_how_many():
    assert native.available(), native.reason()
    yield
    print(f"\ninputs {compared['inputs']}, digest {digest.hexdigest()[:16]}")


def with_c_and_with_numpy(function):
    """The result of C, which that of numpy must equal; counted."""
    with pytest.MonkeyPatch.context() as patch:
        assert native.available()
        ours = function()
        patch.setenv("QSDK_DISABLE_NATIVE", "1")
        assert not native.available()
        twin = function()
    assert ours.dtype == twin.dtype and ours.shape == twin.shape
    assert ours.tobytes() == twin.tobytes()
    compared["inputs"] += 1
    digest.update(ours.tobytes())
    return ours


def rows_of(seed, shape, scheme):
    """float32 rows with many ties and some far values; a scale and a zero point for each."""
    rng = np.random.default_rng(seed)
    zero_point = rng.integers(scheme.qmin, scheme.qmax, shape[0], dtype=np.int32, endpoint=True)
    scale = rng.integers(64, 128, shape[0]).astype(np.float32) * np.float32(2.0**-9)
    steps = rng.integers(8 * scheme.qmin - 9, 8 * scheme.qmax + 9, shape).astype(np.float32) / 8
    steps[rng.random(shape) < 0.02] *= 300
    return (steps - zero_point[:, None]).astype(np.float32) * scale[:, None], scale, zero_point


@pytest.mark.parametrize("signed", [True, False])
@pytest.mark.parametrize("bits", range(1, 9))
def test_packing(bits, signed):
    for count in LENGTHS:
        low = -(2 ** (bits - 1)) if signed else 0
        codes = np.random.default_rng(count).integers(low, low + 2**bits, count)
        codes = codes.astype(np.int8 if signed else np.uint8)
        packed = with_c_and_with_numpy(lambda codes=codes: pack(codes, bits))
        back = with_c_and_with_numpy(lambda p=packed, n=count: unpack(p, n, bits, signed=signed))
        assert back.tobytes() == codes.tobytes()


@pytest.mark.parametrize("words", GRIDS, ids=str)
def test_rounding_and_its_error(words):
    scheme = qsdk.Scheme(**words, symmetric=False)
    for length in LENGTHS:
        arguments = (*rows_of(length, (3, length), scheme), scheme)
        with_c_and_with_numpy(lambda a=arguments: qsdk.quantize_rows(*a))
        from qsdk.affine import squared_error_rows

        with_c_and_with_numpy(lambda a=arguments: squared_error_rows(*a))


@pytest.mark.parametrize("words", GRIDS, ids=str)
def test_squant(words):
    shapes = [(2, n * size, size) for n, size in itertools.product((1, 5), (1, 3, 9, 25))]
    for seed, (rows, length, kernel_size) in enumerate(shapes):
        for stages in ("EK", "EC", "EKC"):
            quantizer = qsdk.registry.get("squant", **words, symmetric=False, stages=stages)
            arguments = rows_of(seed, (rows, length), quantizer.scheme)
            with_c_and_with_numpy(lambda q=quantizer, a=arguments, k=kernel_size: q.round(*a, k))


@pytest.mark.parametrize("method", ["rtn", "squant"])
@pytest.mark.parametrize("range_rule", ["minmax", "mse"])
def test_the_whole_job(tmp_path, method, range_rule):
    rng = np.random.default_rng(0)
    shapes = {"conv": (8, 4, 3, 3), "fc": (10, 24)}
    weights = {n: rng.integers(-999, 999, s).astype(np.float32) / 256 for n, s in shapes.items()}
    np.savez(tmp_path / "net.npz", **weights)

    def quantized():
        output = tmp_path / "net.safetensors"
        qsdk.quantize_file(tmp_path / "net.npz", output, method, bits=4, range_rule=range_rule)
        return np.concatenate([layer.weight.ravel() for layer in qsdk.load(output).layers])

    decoded = with_c_and_with_numpy(quantized)
    whole = np.concatenate([weight.ravel() for weight in weights.values()])
    assert 0 < np.abs(decoded - whole).max() < 1


@pytest.mark.parametrize("activations", [None, "binary2"])
@pytest.mark.parametrize("cell", ["lstm", "gru"])
def test_recurrent_layers(cell, activations):
    rng, gates = np.random.default_rng(0), 4 if cell == "lstm" else 3
    quantizer = qsdk.registry.get("greedy", bits=2)
    for hidden in (1, 9, 35):
        shapes = [(2 * gates * hidden, 20), (2 * gates * hidden, hidden), (6, 3, 20)]
        w, r, x = (rng.integers(-999, 999, s).astype(np.float32) / 512 for s in shapes)
        w, r = quantizer.quantize(w), quantizer.quantize(r)

        def run(w=w, r=r, x=x):
            make = getattr(qsdk, cell)
            layer = make(w, r, direction="bidirectional", activations=activations)
            return layer(x, sequence_lens=[6, 1, 4])[0]

        with_c_and_with_numpy(run)


KERNELS = qsdk.registry.entries("kernel")


@pytest.mark.parametrize("entry", KERNELS, ids=lambda entry: entry.name)
def test_a_kernel_that_this_cpu_runs_equals_its_reference(entry):
    from qsdk.cli.kernel_trial import trial

    health, reason = trial(entry.full_name)
    print(f"\nkernel {entry.name}: {health}, {reason}")
    if health == "skipped":
        pytest.skip(reason)
    assert health == "ok"


def test_what_would_run_needs_nothing_that_this_cpu_lacks():
    from qsdk.cli.main import qsdk as group

    result = CliRunner().invoke(group, ["cpu", "--json"], catch_exceptions=False)
    document = json.loads(result.stdout)
    found = set(document["features"]["found"])
    print(f"\nfeatures: {', '.join(sorted(found))}")
    running = [kernel for kernel in document["kernels"] if kernel["runs"]]
    assert all(set(kernel["features"]) <= found for kernel in running)
    forms = {kernel["activations"] for kernel in running if kernel["operation"] == "linear"}
    assert {"float32", "int8", "uint8", "fixed_int8", "fixed_uint8"} <= forms


def test_integers_of_the_reference_are_the_same_on_every_cpu():
    scheme = qsdk.Scheme(bits=8)
    for seed, length in enumerate(LENGTHS):
        rows, scale, zero_point = rows_of(seed, (5, length), scheme)
        codes = qsdk.quantize_rows(rows, scale, zero_point, scheme)
        weight = qsdk.Affine.from_codes(codes, scale, zero_point, scheme)
        for form in ("fixed_int8", "fixed_uint8"):
            activations = Activations(form=form, scale=0.25, zero_point=3)
            for output in ("int32", Output(form="uint8", scale=2.0**7, zero_point=9)):
                words = {"bias": scale * 8, "activations": activations, "output": output}
                y = qsdk.linear(weight, kernel="linear-int8-reference", **words)(rows)
                compared["inputs"] += 1
                digest.update(y.tobytes())


def test_no_plugin_is_broken():
    names = {entry.name for entry in qsdk.registry.entries()}
    assert {"affine", "rtn", "squant", "minmax", "numpy", "onnx", "safetensors"} <= names
    broken = [plugin.name for plugin in qsdk.registry.plugins() if plugin.health == "broken"]
    assert not broken
