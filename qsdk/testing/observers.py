"""The contract of observers: a stream of batches is one array, cut along its first axis."""

from __future__ import annotations

import functools
import itertools
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import attrs
import ml_dtypes
import numpy as np
from numpy.typing import NDArray

from qsdk.errors import DataError
from qsdk.interfaces import Observer
from qsdk.scheme import Scheme
from qsdk.storage.tensor_file import NAMES
from qsdk.testing import corpus
from qsdk.testing.check import (
    Array,
    Case,
    Contract,
    Inputs,
    NotApplicable,
    refused_with,
    require,
    tells,
)
from qsdk.testing.same import Bits, array_bits
from qsdk.testing.subject import Subject

New = Callable[[], Observer]
GROWTH = 1.5  # by which the state may be larger after many batches than after one
SLACK_BYTES = 1024
SCHEMES = (
    Scheme(bits=8, signed=False, granularity="per_tensor"),
    Scheme(bits=4, granularity="per_tensor"),
    Scheme(bits=8, symmetric=True, granularity="per_tensor"),
)


def cases(subject: Subject) -> Iterator[Case]:
    merging = {"mergeable"} if subject.target.mergeable else {"not mergeable"}
    for label, axis in (("whole", None), ("by-axis", 0)):
        yield Case(
            label=label,
            title="one range" if axis is None else f"axis {axis}",
            build=functools.partial(functools.partial, subject.build, axis=axis),
            exercises=frozenset({label, *merging}),
            facts={"axis": axis, "mergeable": bool(subject.target.mergeable)},
        )


def declared(subject: Subject) -> frozenset[str]:
    return frozenset({"mergeable" if subject.target.mergeable else "not mergeable", "whole"})


CONTRACT = Contract("observer", cases, declared)
promise = CONTRACT.promise


def _mergeable(case: Case) -> bool:
    return bool(case.facts["mergeable"])


def _by_axis(case: Case) -> bool:
    return case.facts["axis"] is not None


def seen_by(new: New, *batches: Array) -> Observer:
    """A new observer that has seen these batches."""
    observer = new()
    for batch in batches:
        observer.observe(batch)
    return observer


def state_of(observer: Observer) -> Bits:
    return array_bits(observer.state())


def require_same(ours: Observer, theirs: Observer, what: str) -> None:
    here, there = state_of(ours), state_of(theirs)
    names = [name for name in here.keys() | there.keys() if here.get(name) != there.get(name)]
    require(not names, f"{what} differ in state {min(names, default='')!r}")


# -- Streams: (batches, channels, values)


def stream(case: Case) -> Inputs:
    """One stream of four batches."""
    yield "normal", corpus.normal(4, 3, 5)


def streams(case: Case) -> Inputs:
    """Gaussian, one-sided, growing, shrinking, sparse, tiny, huge, and powers of two."""
    normal = corpus.normal(6, 3, 5)
    growth = np.ldexp(np.float32(1), np.arange(-12, 12, 4)).reshape(6, 1, 1)
    yield "normal", normal
    yield "positive", np.maximum(normal, 0)
    yield "growing", (normal * growth).astype(np.float32)
    yield "shrinking", (normal * growth[::-1]).astype(np.float32)
    yield "powers of two", np.ldexp(np.sign(normal), np.arange(90).reshape(6, 3, 5) - 45)
    yield (
        "zeros of both signs",
        normal * np.array([0, -0.0, 0, 0, 1, 1], np.float32).reshape(6, 1, 1),
    )
    yield "all zero", normal * 0
    yield "denormals", (normal * 1e-40).astype(np.float32)
    yield "huge", normal / np.abs(normal).max() * np.finfo(np.float32).max
    for seed in itertools.count():
        rng = np.random.default_rng(seed)
        shape = tuple(rng.integers(1, 6, 3))
        spread = rng.standard_normal(shape) * 2.0 ** rng.integers(-20, 20, shape)
        yield f"random {seed}", (spread * rng.integers(0, 2, shape)).astype(np.float32)


# -- What goes in


@promise(stream)
def check_batches_are_left_unchanged(new: New, batches: Array) -> None:
    """Neither the values of a batch nor its flags are touched."""
    given = batches.copy()
    seen_by(new, *given)
    require(given.flags.writeable, "the batch was made read-only")
    require(given.tobytes() == batches.tobytes(), "the batch was changed")


@promise(stream)
def check_any_float_type_is_observed(new: New, batches: Array) -> None:
    """Half, double and bfloat16 give the state of the same values in float32."""
    for dtype in (np.float16, np.float64, ml_dtypes.bfloat16):
        typed = batches.astype(dtype)
        what = f"{np.dtype(dtype)} and float32 of the same values"
        require_same(seen_by(new, *typed), seen_by(new, *typed.astype(np.float32)), what)


@promise(stream)
def check_any_memory_layout_is_observed(new: New, batches: Array) -> None:
    """Order, strides, byte order, alignment and protection of the memory change no bit."""
    for batch in batches:
        expected = seen_by(new, batch)
        for layout, same in corpus.layouts(batch).items():
            require_same(seen_by(new, same), expected, f"{layout} and C order")


@promise(stream)
def check_an_empty_batch_changes_nothing(new: New, batches: Array) -> None:
    """A batch without values changes no bit of the state, before others and after them."""
    channels = batches.shape[1]
    empty = np.zeros((channels, 0), np.float32)
    with_empty = seen_by(new, empty, *batches, empty)
    require_same(with_empty, seen_by(new, *batches), "with empty batches and without")


@promise(stream)
def check_nan_and_infinity_leave_the_state_alone(new: New, batches: Array) -> None:
    """They raise DataError, which tells the index, and nothing of the batch is taken in."""
    observer = seen_by(new, *batches)
    before = state_of(observer)
    for value in (np.nan, np.inf, -np.inf):
        spoiled = batches[0].copy()
        spoiled.flat[-1] = value
        index = [int(i) for i in np.unravel_index(spoiled.size - 1, spoiled.shape)]
        what = f"{value} at {index}"
        message = refused_with(DataError, what, observer.observe, spoiled)
        require(tells(message, index), f"{what} is refused without its index: {message}")
        require(state_of(observer) == before, f"{what} changed the state")


@promise(once=True)
def check_batches_without_floats_are_refused(new: New) -> None:
    """Integers, truth values and complex numbers are refused with DataError."""
    for dtype in (np.int8, np.int64, np.bool_, np.complex64):
        batch = np.ones((2, 3), dtype)
        refused_with(DataError, f"a batch of {batch.dtype}", new().observe, batch)


@promise(stream, when=_by_axis)
def check_a_batch_of_other_channels_is_refused(new: New, batches: Array) -> None:
    """A batch with another length of the axis raises DataError and changes nothing."""
    observer = seen_by(new, *batches)
    before = state_of(observer)
    other = np.ones((batches.shape[1] + 1, 2), np.float32)
    refused_with(DataError, f"{len(other)} channels", observer.observe, other)
    require(state_of(observer) == before, "a batch that was refused changed the state")


@promise(when=_by_axis)
def check_an_axis_that_a_batch_lacks_is_refused(new: New) -> None:
    """A batch that lacks the axis raises DataError."""
    refused_with(DataError, "a batch without axes", new().observe, np.float32(1))


# -- What comes out


@promise()
def check_nothing_observed_is_an_error(new: New) -> None:
    """Before the first value there is no range: DataError."""
    observer = new()
    refused_with(DataError, "the range of nothing", observer.range)
    observer.observe(np.zeros((3, 0), np.float32))
    refused_with(DataError, "the range of an empty batch", observer.range)


@promise(streams)
def check_the_range_is_ordered_and_no_wider_than_the_data(new: New, batches: Array) -> None:
    """Finite float32 ends, low before high, neither farther from 0 than any value seen."""
    low, high = (np.asarray(end) for end in seen_by(new, *batches).range())
    require(low.dtype == high.dtype == np.float32, f"the ends are {low.dtype} and {high.dtype}")
    require(np.isfinite(low).all() and np.isfinite(high).all(), f"range [{low}, {high}]")
    require((low <= high).all(), f"the range [{low}, {high}] is not ordered")
    limit = np.abs(batches).max(axis=(0, 2) if low.ndim else None)
    outside = np.maximum(np.abs(low), np.abs(high)) > limit
    require(not outside.any(), f"range [{low}, {high}] of values up to {limit}")


@promise(stream)
def check_the_range_has_one_entry_per_channel(new: New, batches: Array) -> None:
    """The ends have shape () without an axis, (channels,) with one."""
    observer = seen_by(new, *batches)
    shape = () if observer.axis is None else (batches.shape[1],)
    for end in observer.range():
        require(np.shape(end) == shape, f"an end has shape {np.shape(end)}, not {shape}")


@promise(streams)
def check_params_lie_on_the_grid(new: New, batches: Array) -> None:
    """The scale is finite and above 0, the zero_point a code of the scheme."""
    observer = seen_by(new, *batches)
    shape = np.shape(observer.range()[0])
    for scheme in SCHEMES:
        scale, zero = (np.asarray(part) for part in observer.params(scheme))
        require(scale.shape == zero.shape == shape, f"params have shape {scale.shape}")
        require((np.isfinite(scale) & (scale > 0)).all(), f"scale {scale} for {scheme}")
        on_grid = (scheme.qmin <= zero) & (zero <= scheme.qmax)
        require(on_grid.all(), f"zero_point {zero} is no code of {scheme}")


@promise(streams)
def check_the_same_stream_gives_the_same_state(new: New, batches: Array) -> None:
    """Two observers that saw the same are equal to the bit."""
    require_same(seen_by(new, *batches), seen_by(new, *batches), "two that saw the same")


# -- State


@promise(stream)
def check_the_state_can_be_stored(new: New, batches: Array) -> None:
    """The state is named arrays, of types that a safetensors file holds."""
    for observer in (new(), seen_by(new, *batches)):
        for name, array in observer.state().items():
            require(isinstance(name, str), f"a part of the state is named {name!r}")
            held = isinstance(array, np.ndarray) and array.dtype in NAMES
            require(held, f"{name!r} of the state is {getattr(array, 'dtype', type(array))}")


@promise(streams)
def check_the_state_round_trips(new: New, batches: Array) -> None:
    """A new observer that loads a state equals the old one, now and after going on."""
    half = len(batches) // 2
    for cut in (0, half):
        old, loaded = seen_by(new, *batches[:cut]), new()
        loaded.load_state(old.state())
        require_same(loaded, old, "the one that loaded a state and the one that gave it")
        for batch in batches[cut:]:
            old.observe(batch)
            loaded.observe(batch)
        require_same(loaded, old, "both after going on")


def _overwrite(arrays: Mapping[str, NDArray[Any]]) -> None:
    for array in arrays.values():
        if array.flags.writeable:
            array[...] = np.ones((), array.dtype)


@promise(stream)
def check_a_state_given_out_is_a_copy(new: New, batches: Array) -> None:
    """Writing into a state does not reach the observer, and observing on does not reach it."""
    observer = seen_by(new, *batches)
    kept = observer.state()
    before = array_bits(kept)
    observer.observe(batches[0] * 8)
    require(array_bits(kept) == before, "a state given out changed as the observer went on")
    now = state_of(observer)
    _overwrite(observer.state())
    require(state_of(observer) == now, "writing into a state given out changed the observer")


@promise(stream)
def check_a_state_taken_in_is_copied(new: New, batches: Array) -> None:
    """Writing into the arrays that were loaded does not reach the observer."""
    arrays = {name: array.copy() for name, array in seen_by(new, *batches).state().items()}
    observer = new()
    observer.load_state(arrays)
    before = state_of(observer)
    _overwrite(arrays)
    require(state_of(observer) == before, "writing into the arrays it loaded changed the observer")


def _wrong_states(arrays: Mapping[str, NDArray[Any]]) -> Iterator[tuple[str, dict[str, Any]]]:
    """What no observer gave: a part missing, a part more, another dtype, another shape, a NaN."""
    for name, array in arrays.items():
        if len(arrays) > 1:  # without any part it is the state of a new observer
            yield f"a state without {name!r}", {k: v for k, v in arrays.items() if k != name}
        yield f"{name!r} as complex numbers", {**arrays, name: array.astype(np.complex64)}
        yield f"{name!r} with an axis more", {**arrays, name: array[..., np.newaxis]}
        if array.dtype.kind == "f" and array.size:
            yield f"{name!r} with a NaN", {**arrays, name: np.full_like(array, np.nan)}
    yield "a state with a part more", {**arrays, "unknown": np.zeros(1, np.float32)}


@promise(stream)
def check_a_state_of_no_observer_is_refused(new: New, batches: Array) -> None:
    """Parts missing, added, of other dtype or shape, or NaN: DataError, and nothing changes."""
    arrays = seen_by(new, *batches).state()
    observer = seen_by(new, batches[0])
    before = state_of(observer)
    for what, wrong in _wrong_states(arrays):
        refused_with(DataError, what, observer.load_state, wrong)
        require(state_of(observer) == before, f"{what} was refused, and changed the observer")


@promise(stream)
def check_memory_is_bounded(new: New, batches: Array) -> None:
    """The state after many batches, of any magnitude, is no larger than after one."""
    observer = seen_by(new, batches[0])
    first = _nbytes(observer)
    for i in range(50):
        observer.observe(np.ldexp(batches[i % len(batches)], i - 25))
    limit = GROWTH * first + SLACK_BYTES
    require(_nbytes(observer) <= limit, f"a state of {first} bytes grew to {_nbytes(observer)}")


def _nbytes(observer: Observer) -> int:
    return sum(array.nbytes for array in observer.state().values())


# -- Many at once


@promise(stream)
def check_many_at_once_are_as_one_by_one(new: New, batches: Array) -> None:
    """``observe_each`` gives each observer its tensor, one of them two, as ``observe`` does."""
    several = [new() for _ in batches]
    given = [*several, several[0]], [*batches, batches[0] * 64]
    found = type(several[0]).observe_each(*given)
    for extent, tensor in zip(found, given[1], strict=True):
        ends = float(tensor.min()), float(tensor.max())
        require(extent == ends, f"of {ends} it gave {extent}")
    alone = [seen_by(new, batch) for batch in batches]
    alone[0].observe(batches[0] * 64)
    for i, (ours, theirs) in enumerate(zip(several, alone, strict=True)):
        require_same(ours, theirs, f"observer {i} of {len(several)} at once, and alone,")


@promise(stream)
def check_many_at_once_tell_what_each_refuses(new: New, batches: Array) -> None:
    """``observe_each`` gives the error of a tensor in its place; the others are observed."""
    several = [new(), new(), new()]
    bad = batches[0].copy()
    bad[-1, -1] = np.nan
    found = type(several[0]).observe_each(several, [batches[0], bad, batches[1]])
    require(isinstance(found[1], DataError), f"of NaN it gave {found[1]!r} and no DataError")
    require(not isinstance(found[0] or found[2], DataError), "a good tensor was refused")
    require_same(several[1], new(), "an observer that was given NaN, and a new one,")
    for ours, batch in ((several[0], batches[0]), (several[2], batches[1])):
        require_same(ours, seen_by(new, batch), "an observer beside one of NaN, and alone,")


# -- Merging


@promise(streams, when=_mergeable)
def check_merging_equals_one_pass(new: New, batches: Array) -> None:
    """Wherever a stream is cut, merging what saw its parts gives what saw it all."""
    everything = seen_by(new, *batches)
    for cut in range(len(batches) + 1):
        first, second = seen_by(new, *batches[:cut]), seen_by(new, *batches[cut:])
        require_same(first.merge(second), everything, f"merged at {cut}, and one pass,")


@promise(streams, when=_mergeable)
def check_merging_is_commutative(new: New, batches: Array) -> None:
    """a with b and b with a are equal to the bit."""
    first, second = seen_by(new, *batches[::2]), seen_by(new, *batches[1::2])
    require_same(first.merge(second), second.merge(first), "a with b and b with a")


@promise(streams, when=_mergeable)
def check_merging_is_associative(new: New, batches: Array) -> None:
    """(a with b) with c and a with (b with c) are equal to the bit."""
    a, b, c = (seen_by(new, *batches[start::3]) for start in range(3))
    require_same(a.merge(b).merge(c), a.merge(b.merge(c)), "(ab)c and a(bc)")


@promise(streams, when=_mergeable)
def check_a_new_observer_is_neutral(new: New, batches: Array) -> None:
    """Merging with one that saw nothing changes nothing, on either side."""
    observer = seen_by(new, *batches)
    require_same(observer.merge(new()), observer, "merged with nothing, and alone,")
    require_same(new().merge(observer), observer, "nothing merged with it, and alone,")


@promise(stream, when=_mergeable)
def check_merging_leaves_both_unchanged(new: New, batches: Array) -> None:
    """Merging changes neither of the two, also when the merged one goes on."""
    first, second = seen_by(new, *batches[::2]), seen_by(new, *batches[1::2] * 8)
    before = state_of(first), state_of(second)
    merged = first.merge(second)
    merged.observe(batches[0] * 1024)
    _overwrite(merged.state())
    require((state_of(first), state_of(second)) == before, "merging changed what was merged")


@promise(stream, when=lambda case: not _mergeable(case))
def check_merging_raises_where_order_matters(new: New, batches: Array) -> None:
    """An observer that is not mergeable says so when it is merged."""
    first, second = seen_by(new, *batches[::2]), seen_by(new, *batches[1::2])
    try:
        first.merge(second)
    except Exception:
        return
    require(False, "it is declared not to merge, and merged without an error")


@promise(once=True)
def check_an_observer_has_defaults(new: New) -> None:
    """Every option is a field with a default, so that a name is enough to build one."""
    target = type(new())
    if not attrs.has(target):
        raise NotApplicable("it is no attrs class")
    for field in attrs.fields(target):
        require(
            not field.init or field.default is not attrs.NOTHING,
            f"option {field.name} has no default",
        )
