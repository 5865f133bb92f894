"""qsdk's side of a case: what the public API gives on this CPU."""

from __future__ import annotations

import itertools
from typing import Any

import attrs
import numpy as np

import qsdk
from qsdk.bench.cases import Form
from qsdk.bench.timing import Call
from qsdk.bench.works import Convolution, Product, Values, Weights, Work


@attrs.frozen(eq=False)
class Ours:
    """A call to time.

    name : of the kernel, or the plugin
    nbytes : of the encoded weights, 0 where there are none
    """

    name: str
    call: Call
    nbytes: int = 0


def ours(form: Form, work: Work, threads: int) -> Ours:
    """Raises QsdkError when there is no such plugin, or no kernel that takes this."""
    if isinstance(work, Weights):
        return _quantize(form, work)
    if isinstance(work, Values):
        return _observe(form, work)
    return _layer(form, work, threads)


def _layer(form: Form, work: Product | Convolution, threads: int) -> Ours:
    weight = qsdk.registry.get(f"quantizer:{form.plugin}", **form.options).quantize(work.w)
    words: dict[str, Any] = {
        "activations": _activations(form), "output": form.output, "threads": threads,
    }  # fmt: skip
    if isinstance(work, Convolution):
        words |= attrs.asdict(work, filter=lambda field, _: field.name in _CONV_WORDS)
    prepare = qsdk.conv if isinstance(work, Convolution) else qsdk.linear
    layers = itertools.cycle([prepare(weight, **words) for _ in range(form.copies)])
    layer = next(layers)
    x = work.codes_x if form.output == "int32" and isinstance(work, Product) else work.x
    y = np.empty(work.out_shape, form.output)
    call = (lambda: layer(x, out=y)) if form.copies == 1 else (lambda: next(layers)(x, out=y))
    return Ours(layer.kernel.name, call, weight.nbytes)


_CONV_WORDS = ("stride", "padding", "dilation", "groups")


def _activations(form: Form) -> Any:
    given = form.activations
    return given if isinstance(given, str) else qsdk.Activations(**given)


def _quantize(form: Form, work: Weights) -> Ours:
    quantizer = qsdk.registry.get(f"quantizer:{form.plugin}", **form.options)
    return Ours(form.plugin, lambda: [quantizer.quantize(weight) for weight in work.arrays])


def _observe(form: Form, work: Values) -> Ours:
    """The same batch again and again: what a stream of batches costs each."""
    observer = qsdk.registry.get(f"observer:{form.plugin}", **form.options)
    values = work.array
    return Ours(form.plugin, lambda: observer.observe(values))
