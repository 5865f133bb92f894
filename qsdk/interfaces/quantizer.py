"""What a quantizer is: a float array in, an encoding out."""

from __future__ import annotations

import abc
import functools
from collections.abc import Callable, Iterable
from typing import Any, ClassVar

import attrs
from numpy.typing import ArrayLike

from qsdk.encodings import Encoding
from qsdk.errors import DataError, OptionError, SchemeError, some
from qsdk.interfaces.finite import as_float32, finite_float32, not_finite
from qsdk.interfaces.model import Layer
from qsdk.interfaces.operation import Activations
from qsdk.scheme import Granularity, Scheme, Slices

CONTRACT = 1  # raised when an interface changes its meaning


def _widths(bits: Iterable[int]) -> frozenset[int]:
    return frozenset(bits)


def _granularities(words: Iterable[str]) -> frozenset[Granularity]:
    return frozenset(Granularity(word) for word in words)


def _words(words: Iterable[str]) -> frozenset[str]:
    return frozenset(words)


@attrs.frozen(kw_only=True)
class Capabilities:
    """What a quantizer accepts and needs, as data that others read instead of trying.

    bits : the widths it takes
    granularity : which slices may share a scale
    needs : what of a layer it reads beside the weight, by the names of Layer's fields: nothing for
        a data-free quantizer, ``{"hessian"}`` for one that must know the layer's inputs
    """

    bits: frozenset[int] = attrs.field(converter=_widths)
    granularity: frozenset[Granularity] = attrs.field(
        default=frozenset(Granularity), converter=_granularities
    )
    needs: frozenset[str] = attrs.field(default=frozenset(), converter=_words)

    def refusal(self, scheme: Scheme) -> str | None:
        """Why this scheme is not taken; None when it is."""
        if scheme.bits not in self.bits:
            return f"takes {_listed(self.bits)} bits, not {scheme.bits}"
        if scheme.granularity not in self.granularity:
            return f"takes {_listed(self.granularity)}, not {scheme.granularity}"
        return None


def _listed(values: Iterable[Any]) -> str:
    return ", ".join(str(value) for value in sorted(values))


class NotFinite(Exception):
    """Raised in a ``quantize`` that :func:`looks_itself`, for values that are not finite."""


def looks_itself(quantize: Callable[..., Any]) -> Callable[..., Any]:
    """Marks a ``quantize`` that finds values that are not finite on its own way through them.

    It raises NotFinite, and its caller sees the DataError of :func:`finite_float32`. It also
    refuses an axis that does not exist, as Slices does.
    """
    setattr(quantize, "looks_itself", True)  # noqa: B010 (mypy: a function)
    return quantize


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
    prepare = as_float32 if getattr(quantize, "looks_itself", False) else finite_float32

    @functools.wraps(quantize)
    def checked(self: Quantizer, weight: ArrayLike, *, layer: Layer | None = None) -> Encoding:
        what = layer.name if layer else "the weight"
        floats = prepare(weight, what)
        if prepare is finite_float32:
            Slices(self.scheme, floats.shape)  # refuses an axis that does not exist
        lacking = [need for need in self.capabilities.needs if getattr(layer, need, None) is None]
        if lacking:
            raise DataError(
                f"{self.name} needs {some(sorted(lacking))} of the layer: calibrate the model, or "
                "give layer=qsdk.Layer.of_inputs(weight, inputs)"
            )
        try:
            return quantize(self, floats, layer=layer)
        except NotFinite:
            raise not_finite(weight, floats, what) from None

    return checked
