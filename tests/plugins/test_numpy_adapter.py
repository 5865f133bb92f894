"""Arrays in memory and .npz archives as models."""

from __future__ import annotations

import io
import zipfile

import ml_dtypes
import numpy as np
import pytest

import qsdk
from qsdk import registry
from qsdk.errors import FileRefusedError

WEIGHT = np.arange(12, dtype=np.float32).reshape(3, 4)


@pytest.fixture
def archive(tmp_path):
    path = tmp_path / "in.npz"
    np.savez_compressed(
        path, w=WEIGHT, b=WEIGHT[0], half=WEIGHT.astype(np.float16), n=np.eye(2, dtype=int)
    )
    return path


def test_floats_of_two_axes_or_more_are_the_layers():
    model = qsdk.load(
        {
            "w": WEIGHT,
            "conv": np.zeros((2, 1, 3, 3), np.float64),
            "bf16": WEIGHT.astype(ml_dtypes.bfloat16),
            "bias": WEIGHT[0],
            "number": np.float32(3),
            "ids": np.eye(2, dtype=int),
            "mask": np.eye(2, dtype=bool),
            "none": np.zeros((0, 3), np.float32),
        }
    )
    assert model.format == "numpy"
    assert {layer.name: layer.stored for layer in model.layers} == {
        "w": "float32",
        "conv": "float64",
        "bf16": "bfloat16",
    }


def test_a_layer_says_where_it_is_and_reads_its_weight(archive):
    layer = qsdk.load(archive).layers[0]
    assert (layer.name, layer.weight_name, layer.operation) == ("w", "w", "")
    assert (layer.shape, layer.nbytes, layer.is_float) == ((3, 4), 48, True)
    assert np.array_equal(layer.weight, WEIGHT)


def test_an_archive_opens_like_the_arrays_in_it(archive):
    model = qsdk.load(archive)
    assert [layer.name for layer in model.layers] == ["w", "half"]
    assert model.source == archive and list(model.files) == [archive]


def test_an_archive_is_written_as_a_container(archive, tmp_path):
    report = qsdk.quantize_file(archive, tmp_path / "out.safetensors", "rtn", bits=4)
    assert [row.name for row in report.layers] == ["w", "half"]
    container = qsdk.Container(tmp_path / "out.safetensors")
    assert sorted(container) == ["b", "half", "n", "w"]
    expected = registry.get("rtn", bits=4).quantize(WEIGHT)
    assert np.array_equal(container["w"].codes, expected.codes)


def test_names_that_are_no_texts_become_texts():
    assert [layer.name for layer in qsdk.load({0: WEIGHT, ("a", 1): WEIGHT}).layers] == [
        "0",
        "('a', 1)",
    ]


def test_lists_of_numbers_are_arrays():
    assert qsdk.load({"w": [[1.0, 2.0]]}).layers[0].shape == (1, 2)


def test_a_model_of_arrays_cannot_run():
    model = qsdk.load({"w": WEIGHT})
    assert "run" not in model.has and "graph" not in model.has
    with pytest.raises(TypeError, match="a numpy model cannot run: it holds weights and no graph"):
        model.run({})


def zipped(path, **members):
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in members.items():
            archive.writestr(f"{name}.npy", content)
    return path


def npy(array, **words):
    file = io.BytesIO()
    np.save(file, array, **words)
    return file.getvalue()


def test_a_pickled_array_is_never_unpickled(tmp_path):
    class Boom:
        def __reduce__(self):
            return (print, ("this was unpickled",))

    evil = npy(np.array([[Boom(), 1]], dtype=object), allow_pickle=True)
    path = zipped(tmp_path / "in.npz", w=evil)
    with pytest.raises(FileRefusedError, match=r"in.npz: 'w' cannot be read: .*pickle"):
        qsdk.load(path)


@pytest.mark.parametrize(
    "content", [b"", b"PK", b"not an archive", b"PK\x03\x04" + bytes(50), b"\x93NUMPY"]
)
def test_a_file_that_is_no_archive_is_refused(tmp_path, content):
    path = tmp_path / "in.npz"
    path.write_bytes(content)
    with pytest.raises(FileRefusedError, match=r"in.npz is no .npz archive of arrays"):
        qsdk.load(path)


def test_a_single_array_that_is_called_an_archive_is_refused(tmp_path):
    path = tmp_path / "in.npz"
    path.write_bytes(npy(WEIGHT))
    with pytest.raises(FileRefusedError, match=r"in.npz is no .npz archive of arrays"):
        qsdk.load(path)


def test_an_archive_that_was_cut_short_is_refused(archive, tmp_path):
    whole = archive.read_bytes()
    for length in range(0, len(whole), 37):
        archive.write_bytes(whole[:length])
        with pytest.raises(FileRefusedError, match=r"in\.npz"):
            qsdk.load(archive)


def test_a_member_with_damaged_bytes_is_refused_by_name(archive):
    whole = bytearray(archive.read_bytes())
    start = whole.index(b"w.npy") + 30
    whole[start : start + 8] = b"\xff" * 8
    archive.write_bytes(whole)
    with pytest.raises(FileRefusedError, match=r"in.npz: 'w' cannot be read"):
        qsdk.load(archive)


def test_a_member_that_claims_more_than_it_has_is_refused(tmp_path):
    header = npy(np.zeros((2, 2), np.float32)).replace(b"(2, 2)", b"(9, 9)")
    with pytest.raises(FileRefusedError, match="'w' cannot be read"):
        qsdk.load(zipped(tmp_path / "in.npz", w=header))


def test_an_archive_that_unpacks_to_far_more_than_it_is_is_refused(tmp_path):
    path = tmp_path / "in.npz"
    with (
        zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive,
        archive.open("w.npy", "w", force_zip64=True) as member,
    ):
        for _ in range(300):
            member.write(bytes(2**20))
    with pytest.raises(FileRefusedError, match=r"'w' cannot be read: it grows from .* like a bomb"):
        qsdk.load(path)


def test_no_file_stays_open(archive, recwarn):
    import gc

    for _ in range(3):
        qsdk.quantize_model(archive, "rtn")
    gc.collect()
    assert not [w for w in recwarn.list if issubclass(w.category, ResourceWarning)]
