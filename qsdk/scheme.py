"""The number format of a quantized array, and how an array is cut into slices of one scale."""

from __future__ import annotations

import enum
import math
from collections.abc import Sequence
from typing import Any

import attrs
import numpy as np
from numpy.typing import NDArray

from qsdk.errors import SchemeError, did_you_mean


class Granularity(enum.StrEnum):
    """Which weights share one scale."""

    PER_TENSOR = "per_tensor"
    PER_CHANNEL = "per_channel"
    PER_GROUP = "per_group"


def _granularity(word: str) -> Granularity:
    try:
        return Granularity(word)
    except ValueError:
        raise SchemeError(
            f"granularity {word!r} does not exist"
            f"{did_you_mean(str(word), [known.value for known in Granularity])}"
        ) from None


@attrs.frozen(kw_only=True)
class Scheme:
    """A number format: which integers there are, and which weights share a scale.

    bits : 1 to 8; the grid has 2**bits codes, one less when ``narrow_range``
    signed : codes from -2**(bits-1), else from 0
    symmetric : zero_point is 0, which needs a signed grid
    narrow_range : leave out the lowest signed code, so that the grid is symmetric around 0
    granularity : one scale per tensor, per index of ``axis``, or per ``group_size`` weights
    axis : the channel axis; groups run over the other axes, flattened in C order
    group_size : values that share one scale; the last group of a channel may be shorter

    >>> scheme = Scheme(bits=4)
    >>> scheme.qmin, scheme.qmax, str(scheme)
    (-8, 7, 'int4 per_channel')
    """

    bits: int = 8
    signed: bool = True
    symmetric: bool = False
    narrow_range: bool = False
    granularity: Granularity = attrs.field(default=Granularity.PER_CHANNEL, converter=_granularity)
    axis: int = 0
    group_size: int | None = None

    def __attrs_post_init__(self) -> None:
        for word in ("bits", "axis", "group_size"):
            value = getattr(self, word)
            if value is None and word == "group_size":
                continue
            if isinstance(value, bool) or not isinstance(value, int):
                raise SchemeError(f"{word} is {value!r}; give a whole number")
        for word in ("signed", "symmetric", "narrow_range"):
            if not isinstance(getattr(self, word), bool):
                raise SchemeError(f"{word} is {getattr(self, word)!r}; give true or false")
        if not 1 <= self.bits <= 8:
            raise SchemeError(f"bits is {self.bits}; codes have 1 to 8 bits")
        if self.symmetric and not self.signed:
            raise SchemeError("symmetric codes have zero_point 0, so they need signed=True")
        if self.narrow_range and not (self.signed and self.bits > 1):
            raise SchemeError("narrow_range leaves out the lowest signed code of 2 bits or more")
        if self.granularity is Granularity.PER_GROUP:
            if self.group_size is None:
                raise SchemeError(
                    "granularity is per_group but group_size is not given; "
                    "say how many values share one scale, e.g. group_size=64"
                )
            if self.group_size < 1:
                raise SchemeError(
                    f"group_size is {self.group_size}; give 1 or more, or granularity='per_channel'"
                )
        elif self.group_size is not None:
            raise SchemeError(
                f"group_size={self.group_size} needs granularity='per_group', "
                f"not {self.granularity}"
            )

    @property
    def qmin(self) -> int:
        """The lowest code."""
        return (-(2 ** (self.bits - 1)) if self.signed else 0) + self.narrow_range

    @property
    def qmax(self) -> int:
        """The highest code."""
        return int(2 ** (self.bits - 1) if self.signed else 2**self.bits) - 1

    @property
    def dtype(self) -> type[np.int8] | type[np.uint8]:
        """What one unpacked code is stored in."""
        return np.int8 if self.signed else np.uint8

    def replace(self, **words: Any) -> Scheme:
        """This scheme with other words; ``group_size`` alone means ``per_group``."""
        if words.get("group_size") is not None:
            words.setdefault("granularity", Granularity.PER_GROUP)
        elif "granularity" in words and words["granularity"] != Granularity.PER_GROUP:
            words["group_size"] = None
        return attrs.evolve(self, **words)

    def __str__(self) -> str:
        of = f" of {self.group_size}" if self.group_size else ""
        return (
            f"{'' if self.signed else 'u'}int{self.bits} {self.granularity}{of}"
            f"{' symmetric' if self.symmetric else ''}{' narrow' if self.narrow_range else ''}"
        )


SCHEME_WORDS = frozenset(attrs.fields_dict(Scheme))


@attrs.frozen
class Slices:
    """How a weight of ``shape`` falls into rows that share one scale.

    Rows are (n, length) matrices: one for per_tensor and per_channel, where a row is a channel;
    for per_group one of all whole groups, then one of the shorter last groups if there are any.

    >>> slices = Slices(Scheme(granularity="per_group", group_size=2), (1, 3))
    >>> [rows.tolist() for rows in slices.split(np.float32([[1, 2, 3]]))]
    [[[1.0, 2.0]], [[3.0]]]
    """

    scheme: Scheme
    shape: tuple[int, ...]
    _axis: int = attrs.field(init=False, eq=False, repr=False)
    channels_first: tuple[int, ...] = attrs.field(init=False, eq=False, repr=False)
    _length: int = attrs.field(init=False, eq=False, repr=False)

    @_axis.default
    def _whole_axis(self) -> int:
        # One scale for all needs no channels, but some quantizers want to know them.
        return self.scheme.axis % len(self.shape) if self._has_axis else 0

    @channels_first.default
    def _channels_first(self) -> tuple[int, ...]:
        """``shape`` with the channel axis moved to the front; never zero-dimensional."""
        if not self.shape:
            return (1,)
        axis = self._axis
        return (self.shape[axis], *self.shape[:axis], *self.shape[axis + 1 :])

    @_length.default
    def _row_length(self) -> int:
        return math.prod(self.channels_first[1:])

    def __attrs_post_init__(self) -> None:
        if self.scheme.granularity is not Granularity.PER_TENSOR and not self._has_axis:
            raise SchemeError(
                f"axis {self.scheme.axis} does not exist in shape {self.shape}; "
                "give an axis of the array, or granularity='per_tensor'"
            )

    @property
    def in_order(self) -> bool:
        """True when the rows one after the other are the array in C order."""
        return self._axis == 0

    @property
    def row_length(self) -> int:
        """Values in C order that share a scale, one such row after the other; 0 where rows differ
        in length, or lie otherwise."""
        if self.scheme.granularity is Granularity.PER_TENSOR:
            return math.prod(self.shape)
        if not self.in_order or self._length % self._group:
            return 0
        return min(self._group, self._length)

    @property
    def params_shape(self) -> tuple[int, ...]:
        """Shape of scale and zero_point: (), (channels,) or (channels, groups)."""
        channels, length = self.channels_first[0], self._length
        match self.scheme.granularity:
            case Granularity.PER_TENSOR:
                return ()
            case Granularity.PER_CHANNEL:
                return (channels,)
        return (channels, -(-length // self._group))

    @property
    def kernel_size(self) -> int:
        """Neighbours in a row that belong to one input channel; 1 where rows cut through them."""
        size = math.prod(self.channels_first[2:])
        return size if self._group % max(size, 1) == 0 else 1

    def split(self, array: NDArray[Any]) -> list[NDArray[Any]]:
        """The rows of ``array``: C-contiguous 2-D matrices, copied only where they must be."""
        matrix = np.moveaxis(array, self._axis, 0) if self._axis else array
        matrix = matrix.reshape(self.channels_first[0], self._length)
        whole = self._length // self._group * self._group
        parts = [matrix[:, :whole].reshape(-1, self._group), matrix[:, whole:]]
        return [np.ascontiguousarray(part) for part in parts if part.size]

    def join(self, rows: Sequence[NDArray[Any]]) -> NDArray[Any]:
        """The inverse of :meth:`split`."""
        channels = self.channels_first[0]
        parts = [part.reshape(channels, -1) for part in rows]
        matrix = parts[0] if len(parts) == 1 else np.concatenate(parts, axis=1)
        array = matrix.reshape(self.channels_first)
        if self.in_order:
            return array.reshape(self.shape)
        return np.ascontiguousarray(np.moveaxis(array, 0, self._axis)).reshape(self.shape)

    def join_params(self, params: Sequence[NDArray[Any]]) -> NDArray[Any]:
        """One value per row, for each matrix of :meth:`split`, as ``params_shape``."""
        if self.scheme.granularity is Granularity.PER_TENSOR:
            return params[0][:1].reshape(())
        channels = self.channels_first[0]
        columns = [part.reshape(channels, -1) for part in params]
        whole = columns[0] if len(columns) == 1 else np.concatenate(columns, axis=1)
        joined: NDArray[Any] = whole.reshape(self.params_shape)
        return joined

    def expand(self, params: NDArray[Any]) -> NDArray[Any]:
        """``scale`` or ``zero_point`` in a shape that broadcasts against the array."""
        if self.scheme.granularity is Granularity.PER_TENSOR:
            return params
        if self.scheme.granularity is Granularity.PER_CHANNEL:
            beside = len(self.shape) - 1 - self._axis
            return params.reshape(-1, *(1,) * beside)
        each = np.repeat(params, self._group, axis=1)[:, : self._length]
        return np.moveaxis(each.reshape(self.channels_first), 0, self._axis)

    @property
    def _has_axis(self) -> bool:
        return -len(self.shape) <= self.scheme.axis < len(self.shape)

    @property
    def _group(self) -> int:
        length = max(self._length, 1)
        return min(self.scheme.group_size or length, length)
