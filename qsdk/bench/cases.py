"""Which work is measured: operations, the forms of each, and their shapes, as data.

The shapes are those of the papers and networks that qsdk's goals speak of.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import attrs

from qsdk.bench.works import Convolution, Product, Values, Weights, Work
from qsdk.errors import OptionError, did_you_mean

INT32_SCALE = {"form": "fixed_uint8", "scale": 0.05, "zero_point": 64}
UNIT_SCALE = {"form": "fixed_uint8", "scale": 0.04, "zero_point": 128}  # normal data, +-5 sigma


@attrs.frozen(kw_only=True)
class Form:
    """One way of doing an operation.

    name : of the form, inside its operation
    plugin : quantizer of the weights, or the observer
    options : what the plugin is given
    activations, output : as :func:`qsdk.linear` takes them; a table of fields for an Activations
    copies : layers used in turn, so that the weights do not stay in a near cache
    """

    operation: str
    name: str
    plugin: str
    options: Mapping[str, Any] = attrs.field(factory=dict)
    activations: str | Mapping[str, Any] = ""
    output: str = "float32"
    copies: int = 1


@attrs.frozen
class Case:
    """A form of an operation, on one shape."""

    form: Form
    work: Work
    is_quick: bool = False

    def __str__(self) -> str:
        return f"{self.form.operation} {self.form.name} {self.work}"


def _binary(bits: int, copies: int = 1) -> Form:
    name = f"W{bits}A{bits}" + (f" {copies} in turn" if copies > 1 else "")
    return Form(operation="linear-binary", name=name, plugin="greedy", options={"bits": bits},
                activations=f"binary{bits}", copies=copies)  # fmt: skip


_RTN8 = {"bits": 8, "symmetric": True}
INT8_CODES = Form(operation="linear-int8", name="int32 out", plugin="rtn", options=_RTN8,
                  activations=INT32_SCALE, output="int32")  # fmt: skip
INT8 = Form(operation="linear-int8", name="float in, float out", plugin="rtn", options=_RTN8,
            activations="int8")  # fmt: skip
BINARY2, BINARY3 = _binary(2), _binary(3)
CONV_STATIC = Form(operation="conv-int8", name="static", plugin="rtn", options=_RTN8,
                   activations=UNIT_SCALE)  # fmt: skip
CONV_DYNAMIC = Form(operation="conv-int8", name="dynamic", plugin="rtn", options=_RTN8,
                    activations="uint8")  # fmt: skip


def int4(group_size: int) -> Form:
    return Form(operation="linear-int4", name=f"groups of {group_size}", plugin="rtn",
                options={"bits": 4, "group_size": group_size}, activations="int8")  # fmt: skip


def _quantize(name: str, plugin: str, bits: int) -> Form:
    options = {"bits": bits, "symmetric": True}
    return Form(operation="quantize", name=name, plugin=plugin, options=options)


def _observe(name: str, options: Mapping[str, Any]) -> Form:
    return Form(operation="observe", name=name, plugin=name, options=options)


def resnet50_shapes() -> tuple[tuple[int, ...], ...]:
    """The 54 weights of ResNet-50: 25.5 million values."""
    shapes: list[tuple[int, ...]] = [(64, 3, 7, 7)]
    channels = 64
    for width, blocks in ((64, 3), (128, 4), (256, 6), (512, 3)):
        for block in range(blocks):
            shapes += [(width, channels, 1, 1), (width, width, 3, 3), (4 * width, width, 1, 1)]
            if block == 0:
                shapes.append((4 * width, channels, 1, 1))
            channels = 4 * width
    return (*shapes, (1000, 2048))


PAPER = [Product(m, n, 1024) for n in (4096, 42000) for m in (1, 4, 16, 64)]
PRODUCTS = [Product(1, 4096, 4096), Product(16, 4096, 4096), Product(128, 4096, 4096),
            Product(512, 1024, 1024), Product(3136, 64, 576), Product(49, 512, 4608)]  # fmt: skip
FEW_ROWS = [Product(1, 4096, 4096), Product(8, 4096, 4096), Product(16, 4096, 4096),
            Product(1, 14336, 4096)]  # fmt: skip
RESNET20 = [(16, 32, 16, 3, 1, 1), (32, 16, 32, 3, 1, 1), (64, 8, 64, 3, 1, 1),
            (16, 32, 32, 3, 2, 1)]  # fmt: skip
MOBILENET = [(3, 224, 32, 3, 2, 1), (128, 56, 128, 3, 1, 128), (128, 56, 128, 1, 1, 1),
             (512, 14, 512, 3, 1, 512), (512, 14, 512, 1, 1, 1)]  # fmt: skip
CONVOLUTIONS = [Convolution.square(batch, *layer) for batch in (1, 32)
                for layer in (*RESNET20, *MOBILENET)]  # fmt: skip
RESNET50 = Weights("ResNet-50, 54 weights", resnet50_shapes())
A_FEW = Weights("four of ResNet-50", resnet50_shapes()[1:5])

# form -> (works, how many of them, from the first, are quick)
TABLE: list[tuple[Form, Sequence[Work], int]] = [
    (BINARY2, PAPER, 2),
    (_binary(2, copies=24), PAPER[:1], 0),
    (BINARY3, PAPER, 1),
    (_binary(3, copies=24), PAPER[:1], 0),
    (INT8_CODES, PRODUCTS, 1),
    (INT8, PRODUCTS, 2),
    (int4(32), FEW_ROWS, 1),
    (int4(128), FEW_ROWS, 1),
    (CONV_STATIC, CONVOLUTIONS, 2),
    (CONV_DYNAMIC, CONVOLUTIONS, 1),
    (_quantize("squant, 4 bits", "squant", 4), [A_FEW, RESNET50], 1),
    (_quantize("rtn per channel, 8 bits", "rtn", 8), [A_FEW, RESNET50], 1),
    (_observe("minmax", {}), [Values(1 << 20), Values(1 << 26)], 1),
    (_observe("histogram", {"bins": 1024}), [Values(1 << 20), Values(1 << 26)], 1),
]

OPERATIONS = tuple(dict.fromkeys(form.operation for form, _, _ in TABLE))


def cases(
    operation: str | None = None, shapes: Iterable[Work] = (), quick: bool = False
) -> list[Case]:
    """What to measure, in order.

    shapes : instead of the table's own, wherever they are of the operation's kind
    Raises OptionError for an operation that is none, and shapes that fit nothing.
    """
    if operation is not None and operation not in OPERATIONS:
        raise OptionError(f"no operation {operation!r}{did_you_mean(operation, OPERATIONS)}")
    given = list(shapes)
    found = [case for case in _all(given) if operation in (None, case.form.operation)]
    if not found:
        raise OptionError(
            f"no case of {operation or 'any operation'} has shapes like "
            f"{', '.join(map(str, given))}; products take MxNxK"
        )
    return found if given or not quick else [case for case in found if case.is_quick]


def _all(shapes: list[Work]) -> Iterator[Case]:
    for form, works, quick in TABLE:
        fitting = [work for work in shapes if work.kind == works[0].kind]
        for number, work in enumerate(fitting if shapes else works):
            yield Case(form, work, is_quick=number < quick)
