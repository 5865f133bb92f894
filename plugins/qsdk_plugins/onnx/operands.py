"""What layers of a graph work on: weights that functions of qsdk decode, constants, inputs."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import attrs
import onnx
from numpy.typing import NDArray

from qsdk.encodings import Encoding
from qsdk.errors import DataError, EncodingError
from qsdk.interfaces import Activations, InputForm
from qsdk_plugins.onnx.coded_inputs import form_of, is_quantize, operation_of
from qsdk_plugins.onnx.constants import DOMAIN, Constants, attributes
from qsdk_plugins.onnx.layout import SLOTS, Layout

Array = NDArray[Any]


@attrs.frozen(eq=False)
class Source:
    """Where a layer takes its input from, and how that is coded.

    rows : of an embedding, as codes; then ``name`` is that of the numbers to look up
    """

    name: str
    form: Activations
    rows: Array | None = None

    def of(self, given: Array) -> Array:
        if self.rows is None:
            return given
        try:
            found: Array = self.rows[given]
        except IndexError as error:
            raise DataError(f"{self.name} is no row of the embedding: {error}") from None
        return found


class Operands:
    """The operands of nodes of a main graph; each weight is read once."""

    def __init__(self, constants: Constants):
        self.constants = constants
        self._encodings: dict[str, Encoding] = {}
        self._rows: dict[str, Array | None] = {}

    def encoding(self, node: onnx.NodeProto, slot: int) -> Encoding | None:
        """The weight at an input of a node, if it is what one of qsdk's functions decodes."""
        name = node.input[slot] if slot < len(node.input) else ""
        if name in self._encodings:
            return self._encodings[name]
        nodes = self.constants.slice(name)
        if not nodes or nodes[0].domain != DOMAIN:
            return None
        data_type, shape = self.constants.type_of(name)
        place = next(s for s in SLOTS[operation_of(node)] if s.index == slot)
        if data_type != onnx.TensorProto.FLOAT or not place.fits(shape):
            return None
        layout = place.layout(shape, attributes(node))
        encoding = self.constants.decode(nodes[0])
        if encoding.shape != layout.shape or not self._only_lays_out(nodes, layout):
            return None
        self._encodings[name] = encoding
        return encoding

    def _only_lays_out(self, nodes: list[onnx.NodeProto], layout: Layout) -> bool:
        """Whether what follows the function does no more than ``layout.to_file``."""
        expected: list[tuple[str, list[int]]] = []
        if layout.shape != layout.permuted_view:
            expected.append(("Reshape", list(layout.permuted_view)))
        if layout.order != tuple(range(len(layout.order))):
            expected.append(("Transpose", list(layout.inverse)))
        if layout.view != layout.file_shape:
            expected.append(("Reshape", list(layout.file_shape)))
        found = []
        for before, node in pairwise(nodes):
            if node.input[0] != before.output[0]:
                return False
            if node.op_type == "Reshape":
                found.append(("Reshape", self.constants.read(node.input[1]).tolist()))
            else:
                found.append((node.op_type, attributes(node).get("perm", [])))
        return found == expected

    def constant(self, name: str) -> Array | None:
        """A value that is known before the model runs."""
        known = self.constants.slice(name) is not None
        return self.constants.read(name) if known else None

    def source(self, name: str) -> Source:
        node = self.constants.producers.get(name)
        if node is None:
            return Source(name, Activations())
        if is_quantize(node):
            return Source(node.input[0], form_of(node))
        if operation_of(node) == "Gather" and not attributes(node).get("axis", 0):
            rows = self._table(node)
            if rows is not None:
                bits = rows.dtype["alpha"].shape[0]
                return Source(node.input[1], Activations(form=InputForm.BINARY, bits=bits), rows)
        return Source(name, Activations())

    def _table(self, gather: onnx.NodeProto) -> Array | None:
        """Rows of codes of an embedding, if it has some."""
        name = gather.input[0]
        if name not in self._rows:
            self._rows[name] = _rows_of(self.encoding(gather, 0))
        return self._rows[name]


def _rows_of(encoding: Any) -> Array | None:
    """An encoding that can give its rows as codes has a method for it."""
    try:
        rows: Array = encoding.rows()
    except (AttributeError, EncodingError):
        return None
    return rows
