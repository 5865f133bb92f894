"""The contract of encodings, on samples from the quantizers that produce them.

A sample of an encoding that no registered quantizer produces is what the class's own
``example()`` gives, a class method without arguments.
"""

from __future__ import annotations

import contextlib
import functools
import json
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import attrs
import numpy as np
from numpy.typing import NDArray

from qsdk.encodings import Encoding, OnnxFunction
from qsdk.errors import EncodingError, QsdkError, SchemeError
from qsdk.plugins import Entry
from qsdk.registry import build, default_scheme, entries
from qsdk.scheme import Granularity, Scheme
from qsdk.storage import Container, write_container
from qsdk.testing import corpus
from qsdk.testing.check import Array, Case, Contract, Inputs, NotApplicable, refused_with, require
from qsdk.testing.onnx_decoding import evaluate
from qsdk.testing.same import bits_of, require_same
from qsdk.testing.subject import Subject

Make = Callable[[Array], Encoding]
GROUP = 4
DESCRIPTION = 60  # characters that a table has room for


def cases(subject: Subject) -> Iterator[Case]:
    """Its example, and what quantizers give: once for each of them, and once for each scheme."""
    sample = Case(label="", title="", build=lambda: None)
    met: set[str] = set()
    for label, make in makers(subject.target):
        fits = any(isinstance(_made(make, array), subject.target) for _, array in some(sample))
        quantizer, _, scheme = label.partition("-")
        if not fits or met >= (facts := {quantizer, scheme}):
            continue
        met |= facts
        yield Case(label, label, functools.partial(_itself, make), frozenset({"samples"}))


def declared(subject: Subject) -> frozenset[str]:
    return frozenset({"samples"})  # an encoding of which there is none is not shown to work


def makers(target: type[Any]) -> Iterator[tuple[str, Make]]:
    """What might give this encoding of a weight: its example, and every quantizer."""
    if hasattr(target, "example"):
        yield "example", lambda weight: target.example()
    for entry in entries("quantizer"):
        for scheme in _schemes(entry):
            with contextlib.suppress(QsdkError):
                quantizer = build(entry, {"scheme": scheme})
                yield f"{entry.name}-{scheme.bits}bit-{scheme.granularity}", quantizer.quantize


def _itself(make: Make) -> Make:
    return make


def _schemes(entry: Entry) -> list[Scheme]:
    """The quantizer's default in every granularity, and in every width."""
    start, can = default_scheme(entry.target), entry.target.capabilities
    found: dict[Scheme, None] = {}
    for granularity in sorted(can.granularity):
        group = GROUP if granularity is Granularity.PER_GROUP else None
        found[start.replace(granularity=granularity, group_size=group)] = None
    for bits in sorted(can.bits):
        with contextlib.suppress(SchemeError):
            found[start.replace(bits=bits)] = None
    return list(found)


def _made(make: Make, weight: Array) -> Encoding | None:
    """None where a quantizer is at fault: that is its own contract's business."""
    try:
        return make(weight)
    except Exception:
        return None


CONTRACT = Contract("encoding", cases, declared)
promise = CONTRACT.promise


def one(case: Case) -> Inputs:
    """One weight."""
    yield "normal", corpus.normal(3, 2, 3)


def some(case: Case) -> Inputs:
    """Weights of several shapes, one of them empty."""
    yield "normal", corpus.normal(3, 2, 3)
    yield "matrix", corpus.normal(4, 11)
    yield "vector", corpus.normal(5)
    yield "zeros", np.zeros((2, 9), np.float32)
    yield "empty", np.zeros((3, 0), np.float32)


# -- Decoding


@promise(some)
def check_it_decodes_to_float32_of_its_shape(make: Make, weight: Array) -> None:
    """``dequantize`` gives finite float32 of ``shape``, the same bits at each call."""
    encoding = make(weight)
    decoded = encoding.dequantize()
    require(
        decoded.dtype == np.float32 and decoded.shape == tuple(encoding.shape),
        f"shape {encoding.shape} decodes to {decoded.dtype} {decoded.shape}",
    )
    require(np.isfinite(decoded).all(), "it decodes to values that are not finite")
    again = encoding.dequantize()
    require(decoded.tobytes() == again.tobytes(), "it decodes differently the second time")


@promise(some)
def check_it_describes_itself(make: Make, weight: Array) -> None:
    """``describe`` gives one short line."""
    text = make(weight).describe()
    sound = isinstance(text, str) and 0 < len(text) <= DESCRIPTION and text.isprintable()
    require(sound, f"it describes itself as {text!r}")


@promise(some)
def check_nbytes_is_what_the_arrays_take(make: Make, weight: Array) -> None:
    """``nbytes`` is the sum of the arrays, which is what a file takes."""
    encoding = make(weight)
    held = sum(array.nbytes for array in encoding.arrays()[0].values())
    require(encoding.nbytes == held, f"nbytes is {encoding.nbytes}, and its arrays take {held}")


@promise(some)
def check_a_part_decodes_as_in_the_whole(make: Make, weight: Array) -> None:
    """``part`` gives None, or an encoding of these slices of axis 0, whole in itself."""
    encoding = make(weight)
    whole, length = encoding.dequantize(), weight.shape[0]
    for start, stop in ((0, length), (1, length), (0, length // 2), (length, length)):
        part = encoding.part(start, stop)
        if part is None:
            continue
        again = type(part).from_arrays(*part.arrays())
        expected = whole[start:stop]
        require(
            tuple(part.shape) == expected.shape and np.array_equal(again.dequantize(), expected),
            f"part({start}, {stop}) is not slices {start} to {stop} of what it decodes to",
        )


# -- Immutable


@promise(some)
def check_writing_into_what_it_gives_changes_nothing(make: Make, weight: Array) -> None:
    """Arrays given out are read-only or copies, values are copies, decoded values are new."""
    encoding = make(weight)
    before = bits_of(encoding)
    arrays, values = encoding.arrays()
    for array in (*arrays.values(), encoding.dequantize()):
        if array.flags.writeable and array.size:
            array[...] = np.zeros((), array.dtype) if array.any() else np.ones((), array.dtype)
    for value in values.values():
        if isinstance(value, list):
            value.append(7)
    values.clear()
    arrays.clear()
    require(bits_of(encoding) == before, "writing into what it gave out changed it")


@promise(one)
def check_its_fields_cannot_be_set(make: Make, weight: Array) -> None:
    """Setting ``shape``, or any field, raises AttributeError."""
    encoding: Any = make(weight)
    fields = attrs.fields_dict(type(encoding)) if attrs.has(type(encoding)) else {}
    for name in {"shape", *fields}:
        value = getattr(encoding, name)
        refused_with(AttributeError, f"setting {name}", setattr, encoding, name, value)


# -- Arrays and values


@promise(some)
def check_it_is_named_arrays_and_plain_values(make: Make, weight: Array) -> None:
    """Arrays by name, and values that are numbers, texts or lists of integers: also in JSON."""
    arrays, values = make(weight).arrays()
    for name, array in arrays.items():
        require(isinstance(array, np.ndarray), f"{name!r} is {type(array).__name__}, no array")
        require(not array.dtype.hasobject, f"{name!r} holds Python objects")
    for word, value in values.items():
        plain = type(value) in (int, float, str) or (
            type(value) is list and all(type(item) is int for item in value)
        )
        require(plain, f"value {word!r} is {value!r}; ONNX has no attribute of that type")
    require(json.loads(json.dumps(values)) == values, f"JSON changes the values {values}")


@promise(some)
def check_from_arrays_inverts_arrays(make: Make, weight: Array) -> None:
    """An encoding read back holds and decodes to the same bits."""
    encoding = make(weight)
    again = type(encoding).from_arrays(*encoding.arrays())
    require_same(again, encoding, "the encoding read back and the one written")


@promise(some)
def check_a_container_brings_it_back(make: Make, weight: Array) -> None:
    """Written into a file and read from it, the bits are the same."""
    encoding = make(weight)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "weights.safetensors"
        write_container(path, [("layer", encoding)], dict)
        container = Container(path)
        entry = container.metadata["encodings"]["layer"]
        arrays = {part: container.file.read(f"layer:{part}") for part in entry["arrays"]}
        again = type(encoding).from_arrays(arrays, entry["values"])
        require_same(again, encoding, "the encoding in the file and the one written")


# -- What no quantizer writes


def _refused(encoding: Encoding, what: str, arrays: Any, values: Any) -> None:
    refused_with(EncodingError, what, type(encoding).from_arrays, arrays, values)


@promise(one)
def check_a_missing_array_is_refused(make: Make, weight: Array) -> None:
    """Leaving out any array, or all, raises EncodingError."""
    encoding = make(weight)
    arrays, values = encoding.arrays()
    for missing in arrays:
        rest = {name: array for name, array in arrays.items() if name != missing}
        _refused(encoding, f"no {missing!r}", rest, values)
    _refused(encoding, "no array and no value", {}, {})


@promise(one)
def check_a_missing_value_is_refused(make: Make, weight: Array) -> None:
    """Leaving out any value raises EncodingError."""
    encoding = make(weight)
    arrays, values = encoding.arrays()
    for missing in values:
        rest = {word: value for word, value in values.items() if word != missing}
        _refused(encoding, f"no value {missing!r}", arrays, rest)


@promise(one)
def check_a_value_of_another_type_is_refused(make: Make, weight: Array) -> None:
    """A text for a number or a list, and a number for a text, raise EncodingError."""
    encoding = make(weight)
    arrays, values = encoding.arrays()
    for word, value in values.items():
        other = "nonsense" if not isinstance(value, str) else 7
        _refused(encoding, f"{word}={other!r}", arrays, {**values, word: other})


@promise(one)
def check_a_shape_that_is_none_is_refused(make: Make, weight: Array) -> None:
    """Negative and enormous lengths raise EncodingError, before memory is taken for them."""
    encoding = make(weight)
    arrays, values = encoding.arrays()
    if "shape" not in values:
        raise NotApplicable("it stores no value named shape")
    for shape in ([-1], [-1, -3], [2**40, 2**40], [2**62], [1] * 70):
        _refused(encoding, f"shape {shape}", arrays, {**values, "shape": shape})


@promise(one)
def check_an_array_of_another_type_is_refused(make: Make, weight: Array) -> None:
    """The same values in another dtype raise EncodingError."""
    encoding = make(weight)
    arrays, values = encoding.arrays()
    for name, array in arrays.items():
        other = array.astype(np.float64 if array.dtype != np.float64 else np.float32)
        _refused(encoding, f"{name!r} as {other.dtype}", {**arrays, name: other}, values)


def _spoiled(encoding: Encoding, spoil: Callable[[NDArray[Any]], NDArray[Any]]) -> None:
    arrays, values = encoding.arrays()
    for name, array in arrays.items():
        other = spoil(array)
        what = f"{name!r} of shape {other.shape} instead of {array.shape}"
        _refused(encoding, what, {**arrays, name: other}, values)


@promise(one)
def check_an_array_of_more_axes_is_refused(make: Make, weight: Array) -> None:
    """The same values with one axis more raise EncodingError."""
    _spoiled(make(weight), lambda array: array[np.newaxis])


@promise(one)
def check_an_array_cut_short_is_refused(make: Make, weight: Array) -> None:
    """One value fewer in any array raises EncodingError."""
    _spoiled(make(weight), lambda array: array[:-1] if array.ndim else array.repeat(0))


@promise(one)
def check_an_array_too_long_is_refused(make: Make, weight: Array) -> None:
    """One value more in any array raises EncodingError."""
    _spoiled(make(weight), lambda a: np.concatenate([a, a[-1:]]) if a.ndim else a.repeat(2))


@promise(one)
def check_floats_that_are_not_finite_are_refused(make: Make, weight: Array) -> None:
    """NaN and infinity raise EncodingError wherever the encoding stores floats."""
    encoding = make(weight)
    arrays, values = encoding.arrays()
    floats = [name for name, array in arrays.items() if array.dtype.kind == "f" and array.size]
    if not floats:
        raise NotApplicable("it stores no floats")
    for name in floats:
        for value in (np.nan, np.inf):
            other = arrays[name].copy()
            other.flat[-1] = value
            _refused(encoding, f"{value} in {name!r}", {**arrays, name: other}, values)


# -- ONNX


def _function(encoding: Encoding) -> OnnxFunction:
    function = encoding.onnx_function()
    if function is None:
        raise NotApplicable("it has no ONNX function for this")
    return function


@promise(some)
def check_its_onnx_function_takes_its_arrays_and_values(make: Make, weight: Array) -> None:
    """It is named ``Dequantize_<encoding>``; inputs are the arrays, attributes the values."""
    encoding = make(weight)
    function = _function(encoding)
    require(isinstance(function, OnnxFunction), f"it gives {type(function).__name__}")
    arrays, values = encoding.arrays()
    name = f"Dequantize_{encoding.name}"
    require(function.name == name, f"the function is named {function.name!r}, not {name!r}")
    require(set(function.inputs) == set(arrays), f"inputs {function.inputs} of {list(arrays)}")
    require(
        set(function.attributes) == set(values),
        f"attributes {function.attributes} of {list(values)}",
    )


@promise(some)
def check_its_onnx_function_decodes_to_the_same_values(make: Make, weight: Array) -> None:
    """What the reference evaluator of the onnx package computes is what ``dequantize`` gives."""
    encoding = make(weight)
    if not encoding.dequantize().size:
        return
    computed = evaluate(_function(encoding), encoding)
    expected = encoding.dequantize()
    require(
        computed.dtype == np.float32 and computed.shape == expected.shape,
        f"the function gives {computed.dtype} {computed.shape}, not float32 {expected.shape}",
    )
    off = np.abs(computed.astype(np.float64) - expected).max(initial=0)
    require(np.array_equal(computed, expected), f"the function's values are up to {off} off")
