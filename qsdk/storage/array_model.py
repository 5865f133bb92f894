"""A model without a graph: named arrays, some of them quantized."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from qsdk.encodings import Encoding
from qsdk.errors import DataError, did_you_mean
from qsdk.interfaces import Activations, FixedCodes, Layer, Model
from qsdk.storage.container import write_container
from qsdk.storage.tensor_file import held_as

Item = Any  # an Encoding, or an array: anything with shape, dtype and values for numpy


class ArrayModel(Model):
    """Named arrays and encodings; floats of two axes or more, and encodings, are the layers.

    texts : what else the source's header says, passed on
    items : taken by name when needed and not kept, so a mapping may lie over a file
    Written as a safetensors container; what is no layer passes through untouched.
    """

    format: ClassVar[str] = "arrays"
    suffix: ClassVar[str] = ".safetensors"

    def __init__(
        self,
        items: Mapping[str, Item],
        metadata: Mapping[str, Any] | None = None,
        texts: Mapping[str, str] | None = None,
    ):
        self._items = items
        self._metadata = dict(metadata or {})
        self._texts = dict(texts or {})
        self._layers = tuple(layer for name in items for layer in self._as_layer(name))

    @property
    def layers(self) -> Sequence[Layer]:
        return self._layers

    @property
    def metadata(self) -> Mapping[str, Any]:
        return self._metadata

    def _as_layer(self, name: str) -> Iterator[Layer]:
        item = self._items[name]
        if not isinstance(item, Encoding) and not (
            item.ndim >= 2 and item.size and "float" in item.dtype.name
        ):
            return
        yield Layer(
            name=name,
            weight_name=name,
            shape=tuple(item.shape),
            stored=item.describe() if isinstance(item, Encoding) else item.dtype.name,
            nbytes=item.nbytes,
            read=lambda: self._decoded(name),
            read_encoding=(lambda: self._items[name]) if isinstance(item, Encoding) else None,
        )

    def _decoded(self, name: str) -> NDArray[Any]:
        item = self._items[name]
        if isinstance(item, Encoding):
            return item.dequantize()
        weight = np.asarray(item).view()
        weight.flags.writeable = False  # the model's own: it is never changed
        return weight

    def write(
        self,
        path: Path,
        encodings: Iterable[tuple[str, Encoding]] = (),
        metadata: Callable[[], Mapping[str, Any]] = dict,
        activations: Mapping[str, Activations] | None = None,
        codes: Mapping[str, FixedCodes] | None = None,
    ) -> Sequence[str]:
        write_container(path, self._merged(iter(encodings)), metadata, self._texts)
        return ()

    def _merged(self, encodings: Iterator[tuple[str, Encoding]]) -> Iterator[tuple[str, Item]]:
        """All items in order, with the next encoding in the place of the array it stands for."""
        ahead = next(encodings, None)
        for name in self._items:
            if ahead is not None and ahead[0] == name:
                yield ahead
                ahead = next(encodings, None)
            else:
                yield name, self._items[name]
        if ahead is not None:
            raise DataError(f"{ahead[0]!r} is no layer of the model, or out of order")

    def obstacles(self, layers: Collection[str]) -> Sequence[str]:
        quantized, found = set(layers), []
        for name in self._items.keys() - quantized:
            item = self._items[name]
            whole = [name[:i] for i, letter in enumerate(name) if letter == ":"]
            taken = quantized.intersection(whole)
            if taken:
                found.append(
                    f"{name!r} is named like a part of the quantized {min(taken)!r}; "
                    "rename it, or leave that layer out"
                )
            if not isinstance(item, Encoding) and held_as(item.dtype) is None:
                found.append(f"{name!r} is {item.dtype}, which safetensors cannot hold")
        return sorted(found)

    def with_encodings(
        self,
        encodings: Mapping[str, Encoding],
        metadata: Mapping[str, Any],
        activations: Mapping[str, Activations] | None = None,
        codes: Mapping[str, FixedCodes] | None = None,
    ) -> ArrayModel:
        for name in encodings:
            if name not in self._items:
                raise DataError(f"the model has no layer {name!r}{did_you_mean(name, self._items)}")
        return ArrayModel(_Overlay(self._items, encodings), metadata, self._texts)


class _Overlay(Mapping[str, Item]):
    """Some items replaced, in the order of the others, without reading these."""

    def __init__(self, below: Mapping[str, Item], above: Mapping[str, Encoding]):
        self._below, self._above = below, above

    def __getitem__(self, name: str) -> Item:
        return self._above[name] if name in self._above else self._below[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._below)

    def __len__(self) -> int:
        return len(self._below)
