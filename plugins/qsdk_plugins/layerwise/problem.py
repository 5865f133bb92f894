"""One weight on a grid, and the inputs it meets: what all methods here work on."""

from __future__ import annotations

from typing import Any, ClassVar, Self

import attrs
import numpy as np
from numpy.typing import NDArray

import qsdk
from qsdk.errors import DataError, SchemeError
from qsdk.interfaces import AffineQuantizer, Layer

Doubles = NDArray[np.float64]


@attrs.frozen(eq=False)
class Problem:
    """Arrays of (groups, rows, K): the rows of one convolution group meet the same inputs.

    weight : float64
    hessian : (groups, K, K), symmetric, the second moment of the inputs
    scale, zero_point : as the encoding has them, of ``slices.params_shape``
    """

    weight: Doubles
    hessian: Doubles
    scale: NDArray[np.float32]
    zero_point: NDArray[np.int32]
    slices: qsdk.Slices

    @classmethod
    def of(
        cls,
        weight: NDArray[np.float32],
        hessian: Doubles,
        scale: NDArray[np.float32],
        zero_point: NDArray[np.int32],
        slices: qsdk.Slices,
    ) -> Self:
        """Raises DataError where the hessian is not of this weight, or not finite."""
        channels = slices.channels_first[0]
        length = weight.size // channels
        given = np.asarray(hessian, np.float64)
        groups = given.shape[0] if given.ndim == 3 else 0
        if given.shape != (groups, length, length) or not groups or channels % groups:
            raise DataError(
                f"the hessian is {given.shape}; for a weight of shape {weight.shape} it is "
                f"(groups, {length}, {length}), with groups that divide {channels}"
            )
        if not np.isfinite(given).all():
            raise DataError("the hessian holds NaN or infinity; look for them in the inputs")
        rows = weight.reshape(groups, channels // groups, length).astype(np.float64)
        return cls(rows, given, scale, zero_point, slices)

    def spread(self, params: NDArray[Any]) -> Doubles:
        """``scale`` or ``zero_point``, once for each weight."""
        shape = self.slices.shape
        each = np.broadcast_to(self.slices.expand(params), shape)
        return each.reshape(self.weight.shape).astype(np.float64)

    def nearest(self) -> Doubles:
        """Codes of rounding to nearest: the same numbers that ``rtn`` gives."""
        return nearest(
            self.weight, self.spread(self.scale), self.spread(self.zero_point), self.slices.scheme
        )

    def decoded(self, codes: Doubles) -> Doubles:
        return self.spread(self.scale) * (codes - self.spread(self.zero_point))

    def loss(self, codes: Doubles) -> Doubles:
        """``e H e^T`` of each row: the mean squared error of that output; (groups, rows)."""
        error = self.decoded(codes) - self.weight
        return np.asarray(((error @ self.hessian) * error).sum(axis=2))


def nearest(weight: Doubles, scale: Doubles, zero_point: Doubles, scheme: qsdk.Scheme) -> Doubles:
    """``clip(rint(w / scale) + zero_point)``, divided as in float32; arguments broadcast."""
    with np.errstate(over="ignore"):  # far outside the grid: clipped
        steps = np.rint((weight / scale).astype(np.float32)).astype(np.float64)
    return np.asarray(np.clip(steps, scheme.qmin - zero_point, scheme.qmax - zero_point)
                      + zero_point)  # fmt: skip


@attrs.frozen(kw_only=True)
class LayerwiseQuantizer(AffineQuantizer):
    """Lays a grid by the range rule, then ``settle``s it and ``solve``s for the codes.

    Rows are output channels, so channels are on axis 0. The same bits on the same machine.
    """

    capabilities: ClassVar[qsdk.Capabilities] = qsdk.Capabilities(
        bits=range(2, 9), needs={"hessian"}
    )

    scheme: qsdk.Scheme = attrs.field(factory=lambda: qsdk.Scheme(bits=4))

    def quantize(self, weight: Any, *, layer: Layer | None = None) -> qsdk.Affine:
        if not weight.size:
            empty: qsdk.Affine = AffineQuantizer.quantize(self, weight, layer=layer)
            return empty
        scale, zero_point, slices = self.grids(weight)
        if not slices.in_order:
            raise SchemeError(
                f"{self.name} needs the output channels on axis 0, not {self.scheme.axis}; "
                "turn the array, and the encoding's axis afterwards"
            )
        assert layer is not None and layer.hessian is not None  # declared, so it was checked
        problem = Problem.of(weight, layer.hessian(), scale, zero_point, slices)
        problem = self.settle(problem)
        codes = self.solve(problem).astype(self.scheme.dtype).reshape(weight.shape)
        return qsdk.Affine.from_codes(codes, problem.scale, problem.zero_point, self.scheme)

    def settle(self, problem: Problem) -> Problem:
        """The problem on the grid to use."""
        return problem

    def solve(self, problem: Problem) -> Doubles:
        """The codes, (groups, rows, K)."""
        return problem.nearest()

    def round(
        self,
        rows: NDArray[np.float32],
        scale: NDArray[np.float32],
        zero_point: NDArray[np.int32],
        kernel_size: int,
    ) -> NDArray[Any]:
        """What codes are without inputs to weigh errors by."""
        return qsdk.quantize_rows(rows, scale, zero_point, self.scheme)
