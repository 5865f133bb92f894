"""What the fuzzing lane has found, by name, so that it is not found again."""

from __future__ import annotations

import struct
import zipfile

import numpy as np
import pytest

import qsdk
from qsdk.cli.data import load_arrays
from qsdk.errors import FileRefusedError, RecipeError


def test_a_recipe_with_a_number_of_too_many_digits_is_refused(tmp_path):
    (tmp_path / "recipe.toml").write_text(f"options.bits = {'9' * 5000}\n")
    with pytest.raises(RecipeError, match=r"recipe.toml is no TOML: .*digits"):
        qsdk.Recipe.from_file(tmp_path / "recipe.toml")


HEADERS = {
    "a bracket that does not close": "{'descr': '<f4', 'fortran_order': False, 'shape': (3",
    "a bracket too many": "{'descr': '<f4', 'fortran_order': False, 'shape': 3)}",
    "hostile depth": "-" * 3000 + "1",
    "more values than memory": "{'descr': '<f4', 'fortran_order': False, 'shape': (2**60,)}",
}


@pytest.mark.parametrize("case", HEADERS)
def test_an_archive_whose_header_is_no_python_is_refused(tmp_path, case):
    text = HEADERS[case].replace("2**60", str(2**60)).encode()
    member = b"\x93NUMPY\x01\x00" + struct.pack("<H", len(text) + 1) + text + b"\n" + bytes(12)
    path = tmp_path / "data.npz"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("x.npy", member)
    for read in (load_arrays, qsdk.load):
        with pytest.raises(FileRefusedError, match=r"data.npz: 'x' cannot be read"):
            read(path)


def test_an_archive_of_a_later_zip_version_is_refused(tmp_path):
    path = tmp_path / "data.npz"
    np.savez(path, x=np.zeros((2, 2), np.float32))
    content = bytearray(path.read_bytes())
    content[content.index(b"PK\x01\x02") + 6] = 163
    path.write_bytes(content)
    with pytest.raises(FileRefusedError, match=r"data.npz is no .npz archive .*version 16.3"):
        qsdk.load(path)


@pytest.mark.parametrize("location", [b"a\0b", b"\xff.bin"], ids=["a NUL", "no UTF-8"])
def test_external_data_in_a_file_without_a_proper_name_is_refused(tmp_path, location):
    onnx = pytest.importorskip("onnx")
    weight = onnx.numpy_helper.from_array(np.zeros((2, 3), np.float32), "w")
    weight.ClearField("raw_data")
    weight.data_location = weight.EXTERNAL
    weight.external_data.add(key="location", value="LOCATION")
    info = onnx.helper.make_tensor_value_info
    graph = onnx.helper.make_graph(
        [onnx.helper.make_node("MatMul", ["x", "w"], ["y"])],
        "g", [info("x", 1, (1, 2))], [info("y", 1, (1, 3))], [weight],
    )  # fmt: skip
    proto = onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 17)])
    padded = location.ljust(8, b"_")
    (tmp_path / "a.onnx").write_bytes(proto.SerializeToString().replace(b"LOCATION", padded))
    model = qsdk.load(tmp_path / "a.onnx")
    with pytest.raises(FileRefusedError, match="which is no name"):
        model.files  # noqa: B018
    with pytest.raises(FileRefusedError, match="which is no name"):
        model.layers[0].weight  # noqa: B018
