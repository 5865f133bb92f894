"""What a layer computes."""

from __future__ import annotations

import numpy as np

from qsdk.interfaces import InputForm
from qsdk.testing.check import Array, NotApplicable, require
from qsdk.testing.kernels import inputs
from qsdk.testing.kernels.bench import Bench, fitting, same_bits
from qsdk.testing.kernels.cases import promise
from qsdk.testing.kernels.expected import require_right


@promise(inputs.lengths)
def check_results_equal_the_reference(bench: Bench, x: Array) -> None:
    """At lengths beside those of blocks and instructions: integers, and floats where a reference
    is named, to the bit; other floats within the rounding of a sum. With bias and clipping."""
    operation, x = bench.job(x)
    y = bench.kernel.prepare(operation, threads=1)(x)
    require_right(bench.kernel, operation, x, y)


@promise(inputs.counts)
def check_any_number_of_rows_is_taken(bench: Bench, x: Array) -> None:
    """No row, one or many, with any axes in front: the shape is right, and so is each row."""
    operation, x = bench.job(x)
    layer = bench.kernel.prepare(operation, threads=1)
    y, shape, dtype = layer(x), layer.out_shape(x.shape), operation.output.dtype
    require(
        y.shape == shape and y.dtype == dtype,
        f"an input {x.shape} gives {y.dtype} {y.shape}, not {dtype} {shape}",
    )
    require_right(bench.kernel, operation, x, y)


@promise(inputs.extremes)
def check_extreme_codes_do_not_saturate(bench: Bench, x: Array) -> None:
    """Ends of both grids, all over and in turns: as exact as any, or the weight is refused."""
    operations = list(bench.extremes(x))
    if not operations:
        raise NotApplicable("it refuses the extreme weights")
    for operation in operations:
        given = fitting(operation, x)
        y = bench.kernel.prepare(operation, threads=1)(given)
        require_right(bench.kernel, operation, given, y)


@promise(inputs.some)
def check_what_is_not_finite_stays_in_its_row(bench: Bench, x: Array) -> None:
    """A row (conv: an image) with NaN or infinity in it is NaN where codes are made inside the
    call; fixed codes saturate, NaN as the lowest. Other rows keep their bits."""
    layer, x = bench.layer(x)
    if x.dtype != np.float32:
        raise NotApplicable("codes are finite")
    given, clean, row = layer.operation.activations, layer(x), 1
    for value in (np.nan, np.inf, -np.inf):
        y = layer(inputs.spoiled(x, row, value))
        for other in set(range(len(x))) - {row}:
            require(same_bits(y[other], clean[other]), f"{value} in row {row} changes row {other}")
        if given.is_fixed:
            saturated = layer(inputs.spoiled(x, row, 1e30 if value > 0 else -1e30))
            require(same_bits(y[row], saturated[row]), f"{value} does not saturate")
        elif given.form is not InputForm.FLOAT32:
            found = y[row].ravel()
            require(np.isnan(found).all(), f"a row with {value} in it is {found[:3]}, not NaN")
