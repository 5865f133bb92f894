"""Safetensors files as models: plain ones, and those that qsdk wrote."""

from __future__ import annotations

import ml_dtypes
import numpy as np
import pytest

import qsdk
from qsdk import Recipe, TensorFile, registry, write_container
from qsdk.errors import DataError, FileRefusedError
from qsdk.storage import write_tensors

RNG = np.random.default_rng(0)
TENSORS = {
    "a.weight": RNG.standard_normal((6, 4, 3, 3)).astype(np.float32),
    "a.bias": np.zeros(6, np.float32),
    "b.weight": RNG.standard_normal((5, 6)).astype(ml_dtypes.bfloat16),
    "steps": np.arange(4).reshape(2, 2),
}


@pytest.fixture
def path(tmp_path):
    with write_tensors(tmp_path / "in.safetensors", {"format": "pt"}) as writer:
        for name, array in TENSORS.items():
            writer.add(name, array)
    return tmp_path / "in.safetensors"


def test_the_layers_are_the_float_tensors_of_two_axes_or_more(path):
    model = qsdk.load(path)
    assert model.format == "safetensors" and model.suffix == ".safetensors"
    assert {layer.name: (layer.stored, layer.shape) for layer in model.layers} == {
        "a.weight": ("float32", (6, 4, 3, 3)),
        "b.weight": ("bfloat16", (5, 6)),
    }
    assert model.metadata == {} and model.source == path


@pytest.mark.parametrize("name", ["in.safetensors", "IN.SafeTensors"])
def test_the_suffix_decides_whatever_its_case(path, name):
    there = path.rename(path.with_name(name))
    assert qsdk.load(there).format == "safetensors"
    assert qsdk.load(str(there)).format == "safetensors"


def test_a_model_stays_what_was_opened_when_its_file_is_replaced(path, tmp_path):
    model = qsdk.load(path)
    before = [layer.weight.copy() for layer in model.layers]
    qsdk.quantize_model(model, "rtn", bits=2).model.save(path)
    model.save(tmp_path / "copy.safetensors")
    for weight, layer in zip(before, qsdk.load(tmp_path / "copy.safetensors").layers, strict=True):
        np.testing.assert_array_equal(layer.weight, weight)


def test_texts_of_others_in_the_header_are_passed_on(path, tmp_path):
    qsdk.quantize_file(path, tmp_path / "out.safetensors", "rtn")
    assert TensorFile(tmp_path / "out.safetensors").metadata["format"] == "pt"


def test_an_encoding_for_no_layer_is_refused(path):
    model = qsdk.load(path)
    encoding = qsdk.registry.get("rtn").quantize(np.ones((2, 2)))
    with pytest.raises(DataError, match="no layer 'wieght'"):
        model.with_encodings({"wieght": encoding}, {})


def test_saving_a_model_as_it_is_keeps_every_tensor(path, tmp_path):
    qsdk.load(path).save(tmp_path / "copy.safetensors")
    copy = TensorFile(tmp_path / "copy.safetensors")
    assert list(copy.tensors) == list(TENSORS)
    for name, array in TENSORS.items():
        assert copy.read(name).tobytes() == array.tobytes()


def test_a_quantized_file_opens_with_its_encodings_decoded(path, tmp_path):
    output = tmp_path / "out.safetensors"
    qsdk.quantize_file(path, output, "squant", bits=4, group_size=9)
    model = qsdk.load(output)
    layers = {layer.name: layer for layer in model.layers}
    assert set(layers) == {"a.weight", "b.weight"}
    for name, layer in layers.items():
        expected = registry.get("squant", bits=4, group_size=9).quantize(TENSORS[name])
        assert layer.stored == "int4 per_group of 9" and not layer.is_float
        assert layer.nbytes == expected.nbytes and layer.shape == expected.shape
        assert np.array_equal(layer.weight, expected.dequantize())
    assert model.metadata["recipe"]["method"] == "squant"


def test_saving_a_quantized_model_again_gives_the_same_file(path, tmp_path):
    first, second = tmp_path / "1.safetensors", tmp_path / "2.safetensors"
    qsdk.quantize_file(path, first, Recipe(method="rtn", options={"bits": 3}))
    qsdk.load(first).save(second)
    assert sorted(TensorFile(first).tensors) == sorted(TensorFile(second).tensors)
    assert TensorFile(first).metadata == TensorFile(second).metadata
    third = tmp_path / "3.safetensors"
    qsdk.load(second).save(third)
    assert third.read_bytes() == second.read_bytes()


def test_a_file_that_was_cut_short_is_refused(path):
    whole = path.read_bytes()
    for length in [*range(0, 200, 13), len(whole) - 1]:
        path.write_bytes(whole[:length])
        with pytest.raises(FileRefusedError, match=r"in.safetensors is not a sound"):
            qsdk.load(path)


def test_an_encoding_of_every_width_survives_the_file(tmp_path):
    weight = TENSORS["a.weight"]
    items = {
        f"{bits}.{signed}": registry.get("rtn", bits=bits, signed=signed).quantize(weight)
        for bits in range(1, 9)
        for signed in (True, False)
    }
    write_container(tmp_path / "all.safetensors", items.items(), dict)
    for layer in qsdk.load(tmp_path / "all.safetensors").layers:
        assert np.array_equal(layer.weight, items[layer.name].dequantize())
