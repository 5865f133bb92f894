"""What an encoding is: a quantized array as it is stored."""

from __future__ import annotations

import abc
from collections.abc import Callable, Mapping
from typing import Any, ClassVar, Self

import attrs
import numpy as np
from numpy.typing import NDArray

Arrays = dict[str, NDArray[Any]]
Values = dict[str, int | float | str | list[int]]


@attrs.frozen
class OnnxNode:
    """One standard ONNX operator; an attribute ``"@name"`` refers to one of the function's."""

    operation: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    attributes: Mapping[str, int | float | str | list[int]] = attrs.field(factory=dict)


@attrs.frozen
class OnnxFunction:
    """A dequantizer in standard ONNX operators: named arrays in, float32 weight out.

    Its inputs are named like :meth:`Encoding.arrays` and its attributes like the values beside
    them, so whoever knows the encoding can rebuild it from a call of the function.
    """

    name: str
    inputs: tuple[str, ...]
    attributes: tuple[str, ...]
    output: str
    nodes: tuple[OnnxNode, ...]
    opset: int


class Encoding(abc.ABC):
    """A quantized array. Immutable; packed as small as its width says.

    ``name`` is how files refer to the class; ``shape`` is that of the decoded array.
    """

    name: ClassVar[str]
    contract: ClassVar[int] = 1
    shape: tuple[int, ...]

    @abc.abstractmethod
    def dequantize(self) -> NDArray[np.float32]:
        """The array that the codes stand for: float32 of ``shape``."""

    @abc.abstractmethod
    def arrays(self) -> tuple[Arrays, Values]:
        """Named arrays and a few plain values, from which :meth:`from_arrays` builds it again."""

    @classmethod
    @abc.abstractmethod
    def from_arrays(
        cls,
        arrays: Mapping[str, NDArray[Any]],
        values: Mapping[str, Any],
        decode: Callable[..., Encoding] | None = None,
    ) -> Self:
        """The inverse of :meth:`arrays`; raises EncodingError for what no quantizer writes.

        ``decode`` resolves the arrays of an encoding that this one holds inside.
        """

    @abc.abstractmethod
    def describe(self) -> str:
        """The number format in a few words, such as ``int4 per_channel``."""

    def part(self, start: int, stop: int) -> Encoding | None:
        """The slices start to stop of axis 0, decoding as they do here; None if that cannot be."""
        return None

    def onnx_function(self) -> OnnxFunction | None:
        """How to decode in ONNX operators; None when this encoding cannot."""
        return None

    @property
    def nbytes(self) -> int:
        """Bytes of all arrays: what the encoding takes in a file."""
        return sum(array.nbytes for array in self.arrays()[0].values())
