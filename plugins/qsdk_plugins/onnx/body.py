"""Bodies of functions and subgraphs, written down operator by operator."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import onnx.helper
from numpy.typing import ArrayLike


class Body:
    """Nodes in the order of their calls; values are known by their names.

    prefix : of all names made here: a subgraph's must differ from those around it
    """

    def __init__(self, prefix: str):
        self.nodes: list[onnx.NodeProto] = []
        self._prefix = prefix
        self._constants: dict[tuple[str, bytes, tuple[int, ...]], str] = {}

    def __call__(self, operation: str, *inputs: str, domain: str = "", **attributes: Any) -> str:
        """Add an operator; the name of its result."""
        return self.several(1, operation, *inputs, domain=domain, **attributes)[0]

    def several(
        self, count: int, operation: str, *inputs: str, domain: str = "", **attributes: Any
    ) -> list[str]:
        """Add an operator of ``count`` results."""
        first = f"{self._prefix}{len(self.nodes)}_{operation.lower()}"
        outputs = [first, *(f"{first}_{i}" for i in range(1, count))]
        # Named: onnxruntime before 1.26 calls what it fuses of nameless nodes by one name.
        self.nodes.append(
            onnx.helper.make_node(
                operation, inputs, outputs, name=first, domain=domain, **attributes
            )
        )
        return outputs

    def constant(self, values: ArrayLike, dtype: Any = np.int64) -> str:
        """A constant; equal ones stand in the body once."""
        array = np.array(values, dtype)
        key = (array.dtype.str, array.tobytes(), array.shape)
        if key not in self._constants:
            tensor = onnx.numpy_helper.from_array(array)
            self._constants[key] = self("Constant", value=tensor)
        return self._constants[key]

    def named(self, name: str, value: str) -> None:
        """Give ``value`` the name of an output."""
        self.nodes.append(onnx.helper.make_node("Identity", [value], [name]))
