"""Opening ONNX files that may be damaged or hostile: every reference out of the file is checked.

The checker of the onnx package lets lengths past the end through, and runtimes follow links that
lead elsewhere, so external data is resolved and bounded here, before anybody else sees the file.
"""

from __future__ import annotations

import mmap
import os
import stat
from pathlib import Path
from typing import Any

import attrs
import numpy as np
import onnx
import onnx.checker
import onnx.numpy_helper
from numpy.typing import NDArray

from qsdk.errors import FileRefusedError
from qsdk_plugins.onnx.skeleton import all_tensors, is_external, nbytes, without_data

FILE_LIMIT = 2**31 - 1  # what protobuf can hold; larger models keep their weights outside


def read_proto(path: Path) -> onnx.ModelProto:
    """The model of a file, external data still outside, its structure checked."""
    size = path.stat().st_size
    if size > FILE_LIMIT:
        raise FileRefusedError(f"{path.name} has {size} bytes; an ONNX file has at most 2 GiB")
    try:
        proto = onnx.ModelProto()
        with open(path, "rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
            proto.ParseFromString(memoryview(data))
        if not proto.graph.node and not proto.graph.initializer:
            raise ValueError("it holds no graph")
        _check_names(proto.graph)
        _check_tensors(proto.graph)
        onnx.checker.check_model(without_data(proto)[0])
    except Exception as error:  # protobuf and the checker raise types of their own
        reason = " ".join(str(error).split())[:200]
        raise FileRefusedError(f"{path.name} is no sound ONNX model: {reason}") from None
    return proto


def _check_tensors(graph: onnx.GraphProto) -> None:
    for inside, tensor in all_tensors(graph):
        nbytes(tensor)  # raises for an element type that does not exist
        if inside and is_external(tensor):
            raise ValueError(f"tensor {tensor.name!r} inside a {inside} has its data outside")


def _check_names(graph: onnx.GraphProto) -> None:
    """protobuf hands out a text that is not UTF-8 as bytes, which nothing here expects."""
    named = (*graph.node, *graph.initializer, *graph.input, *graph.output)
    names = [item.name for item in named]
    for node in graph.node:
        names += [node.op_type, node.domain, *node.input, *node.output]
        names += [attribute.name for attribute in node.attribute]
    wrong = next((name for name in names if not isinstance(name, str)), None)
    if wrong is not None:
        raise ValueError(f"the name {wrong!r} is not UTF-8")


@attrs.frozen
class TensorReader:
    """Reads tensors of one model, wherever their data lies."""

    path: Path | None

    def read(self, tensor: onnx.TensorProto) -> NDArray[Any]:
        """The values; refuses data that does not fit the shape."""
        try:
            if is_external(tensor):
                outside = onnx.TensorProto()
                outside.CopyFrom(tensor)
                outside.ClearField("external_data")
                outside.data_location = tensor.DEFAULT
                outside.raw_data = self.external_bytes(tensor)
                tensor = outside
            if min(tensor.dims, default=0) < 0:
                raise ValueError(f"a length of {list(tensor.dims)} is negative")
            return np.asarray(onnx.numpy_helper.to_array(tensor))
        except (ValueError, TypeError, KeyError) as error:
            raise self._refuse(tensor.name, str(error)) from None

    def external_bytes(self, tensor: onnx.TensorProto) -> bytes:
        """The data of a tensor outside the file, from within the file's folder only."""
        file, offset, length = self.locate(tensor)
        with open(file, "rb") as data:
            data.seek(offset)
            return data.read(length)

    def locate(self, tensor: onnx.TensorProto) -> tuple[Path, int, int]:
        """(file, offset, length) of external data, checked against the file and the shape."""
        if self.path is None:
            raise self._refuse(tensor.name, "its data lies outside, and the model is in memory")
        entry = {pair.key: pair.value for pair in tensor.external_data}
        file = self._inside(tensor.name, entry.get("location", ""))
        size, needed = file.stat().st_size, nbytes(tensor)
        try:
            offset = int(entry.get("offset", 0))
            length = int(entry.get("length", needed))
        except ValueError:
            raise self._refuse(tensor.name, "its offset or length is no number") from None
        if offset < 0 or length != needed or offset + length > size:
            raise self._refuse(
                tensor.name,
                f"it takes {needed} bytes, and claims {length} at offset {offset} "
                f"of a file of {size}",
            )
        return file, offset, length

    def _inside(self, name: str, location: str) -> Path:
        """The file of that relative name, if it and what it links to stay in the folder.

        A cache that keeps models as links into a store is fine: then data may lie beside what
        the model's own link points to.
        """
        assert self.path is not None
        folder = self.path.parent
        if not isinstance(location, str) or "\0" in location:  # protobuf gives bytes if no UTF-8
            raise self._refuse(name, f"its data is said to lie in {location!r}, which is no name")
        if not location or Path(location).is_absolute() or ".." in Path(location).parts:
            raise self._refuse(name, f"its data is said to lie in {location!r}, outside the folder")
        file = Path(os.path.realpath(folder / location))
        stores = [folder.resolve()]
        if self.path.is_symlink():
            stores.append(self.path.resolve().parent)
        if not any(file.is_relative_to(store) for store in stores):
            raise self._refuse(name, f"its data {location!r} is a link that leaves the folder")
        try:
            status = file.stat()
        except OSError:
            raise self._refuse(name, f"its data file {location!r} is not there") from None
        if not stat.S_ISREG(status.st_mode):
            raise self._refuse(name, f"its data {location!r} is not a plain file")
        if status.st_nlink > 1 and not self.path.is_symlink():
            raise self._refuse(name, f"its data file {location!r} has a second name elsewhere")
        return file

    def _refuse(self, name: str, reason: str) -> FileRefusedError:
        where = self.path.name if self.path else "the model"
        return FileRefusedError(f"{where}: tensor {name!r} is refused: {reason}")
