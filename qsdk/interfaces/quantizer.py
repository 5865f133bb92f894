"""What a quantizer is: a float array in, an encoding out."""

from __future__ import annotations

import abc
import functools
from collections.abc import Callable, Iterable
from typing import Any, ClassVar

import attrs
import numpy as np
from numpy.typing import ArrayLike, NDArray

from qsdk import native
from qsdk.encodings import Encoding
from qsdk.errors import DataError, OptionError, SchemeError
from qsdk.interfaces.model import Layer
from qsdk.interfaces.operation import Activations
from qsdk.scheme import Granularity, Scheme, Slices

CONTRACT = 1  # raised when an interface changes its meaning


def _widths(bits: Iterable[int]) -> frozenset[int]:
    return frozenset(bits)


def _granularities(words: Iterable[str]) -> frozenset[Granularity]:
    return frozenset(Granularity(word) for word in words)


@attrs.frozen(kw_only=True)
class Capabilities:
    """What a quantizer accepts and needs, as data that others read instead of trying.

    bits : the widths it takes
    granularity : which slices may share a scale
    needs : what of a layer it reads beside the weight: nothing yet for a data-free quantizer
    """

    bits: frozenset[int] = attrs.field(converter=_widths)
    granularity: frozenset[Granularity] = attrs.field(
        default=frozenset(Granularity), converter=_granularities
    )
    needs: frozenset[str] = attrs.field(default=frozenset(), converter=frozenset)

    def refusal(self, scheme: Scheme) -> str | None:
        """Why this scheme is not taken; None when it is."""
        if scheme.bits not in self.bits:
            return f"takes {_listed(self.bits)} bits, not {scheme.bits}"
        if scheme.granularity not in self.granularity:
            return f"takes {_listed(self.granularity)}, not {scheme.granularity}"
        return None


def _listed(values: Iterable[Any]) -> str:
    return ", ".join(str(value) for value in sorted(values))


def finite_float32(array: ArrayLike, what: str = "the array") -> NDArray[np.float32]:
    """``array`` as C-contiguous, read-only float32; the input is never written to.

    Any float dtype is taken. Raises DataError for other dtypes, and with the position of the
    first value that is NaN, infinite, or too large for float32.
    """
    floats = _as_float32(array, what)
    if not _all_finite(floats):
        raise _not_finite(array, floats, what)
    return floats


class NotFinite(Exception):
    """Raised in a ``quantize`` that :func:`looks_itself`, for values that are not finite."""


def looks_itself(quantize: Callable[..., Any]) -> Callable[..., Any]:
    """Marks a ``quantize`` that finds values that are not finite on its own way through them.

    It raises NotFinite, and its caller sees the DataError of :func:`finite_float32`. It also
    refuses an axis that does not exist, as Slices does.
    """
    setattr(quantize, "looks_itself", True)  # noqa: B010 (mypy: a function)
    return quantize


def _as_float32(array: ArrayLike, what: str) -> NDArray[np.float32]:
    given = np.asarray(array)
    if not _is_float(given.dtype):
        raise DataError(f"{what} is {given.dtype}; give floats (an integer array has no scale)")
    if given.dtype == np.float32:
        view = np.ascontiguousarray(given).reshape(given.shape).view(np.ndarray)
    else:
        with np.errstate(over="ignore"):
            view = np.array(given, np.float32, order="C").view()
    view.flags.writeable = False
    return view


def _all_finite(floats: NDArray[np.float32]) -> bool:
    if native.available():
        return native.range_rows(floats.reshape(1, -1))[2]
    return bool(np.isfinite(floats).all())


def _not_finite(array: ArrayLike, floats: NDArray[np.float32], what: str) -> DataError:
    given = np.asarray(array)
    first = np.unravel_index(int(np.argmin(np.isfinite(floats))), given.shape)
    position = "[" + ", ".join(str(int(i)) for i in first) + "]"
    return DataError(
        f"{what} holds {given[first]} at {position}; "
        "every value must be finite in float32: mend or exclude it first"
    )


def _is_float(dtype: np.dtype[Any]) -> bool:
    # bfloat16 and the float8 types of ml_dtypes are of kind "V" but convert as floats do.
    return dtype.kind == "f" or (dtype.kind == "V" and "float" in dtype.name)


@attrs.frozen(kw_only=True)
class Quantizer(abc.ABC):
    """A frozen value: its scheme and its options are fields, all validated when it is built.

    Subclasses are attrs classes with ``name``, ``capabilities`` and :meth:`quantize`. The
    policy for ugly data is the same for all of them, because it is here: ``quantize`` is handed
    a finite, C-contiguous, read-only float32 array whatever its caller gave.

    Deterministic: same input and options, same bits, on any machine.
    """

    name: ClassVar[str]
    paper: ClassVar[str] = ""
    capabilities: ClassVar[Capabilities]
    contract: ClassVar[int] = CONTRACT

    scheme: Scheme = attrs.field(factory=Scheme)

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        own = cls.__dict__.get("quantize")
        # attrs makes a slotted class a second time from the same body: wrap only once.
        if own is not None and not hasattr(own, "__wrapped__"):
            setattr(cls, "quantize", _with_input_policy(own))  # noqa: B010 (mypy: a method)

    def __attrs_post_init__(self) -> None:
        if not isinstance(self.scheme, Scheme):
            raise OptionError(f"scheme is {self.scheme!r}; give a Scheme, or its words: bits=4")
        refusal = self.capabilities.refusal(self.scheme)
        if refusal:
            raise SchemeError(f"{self.name} {refusal}")

    def activations(self) -> Activations:
        """The same method applied to the input of a layer, inside the call of its kernel.

        Raises OptionError where there is none.
        """
        raise OptionError(f"{self.name} quantizes weights; no kernel applies it to activations")

    @abc.abstractmethod
    def quantize(self, weight: ArrayLike, *, layer: Layer | None = None) -> Encoding:
        """Encode ``weight``: floats of any shape, channels on ``scheme.axis``.

        ``layer`` tells where the weight comes from, as far as ``capabilities.needs`` declares.
        Raises DataError for NaN, infinity and integers, SchemeError for an axis that is not there.
        """


def _with_input_policy(quantize: Callable[..., Encoding]) -> Callable[..., Encoding]:
    prepare = _as_float32 if getattr(quantize, "looks_itself", False) else finite_float32

    @functools.wraps(quantize)
    def checked(self: Quantizer, weight: ArrayLike, *, layer: Layer | None = None) -> Encoding:
        what = layer.name if layer else "the weight"
        floats = prepare(weight, what)
        if prepare is finite_float32:
            Slices(self.scheme, floats.shape)  # refuses an axis that does not exist
        try:
            return quantize(self, floats, layer=layer)
        except NotFinite:
            raise _not_finite(weight, floats, what) from None

    return checked
