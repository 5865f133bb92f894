"""``linear`` on a codebook: inputs are summed by code, and each sum multiplied once.

y = sum over codes c of table[c] * (sum of x[k] where code[k] == c) + bias

So a row of any length takes 2**bits multiplications. One 0/1 matrix does the sums of all codes.
"""

import numpy as np

import qsdk
from qsdk.interfaces import Prepared


class LinearCodebook(qsdk.Kernel):
    """Sums in float64, so that no order of summing shows in a float32 result's last digits."""

    name = "linear-codebook"
    operation = "linear"
    encoding = "codebook"
    activations = frozenset({"float32"})
    priority = 10

    def refusal(self, operation):
        reason = super().refusal(operation)
        scheme = getattr(operation.weight, "scheme", None)
        if not reason and scheme.granularity == "per_channel" and scheme.axis not in (0, -2):
            return f"takes a table for each output, and axis {scheme.axis} is not that of outputs"
        return reason

    def prepare(self, operation, *, threads=0):
        return _Prepared(self, operation)


class _Prepared(Prepared):
    def __init__(self, kernel, operation):
        super().__init__(kernel, operation)
        weight = operation.weight
        outs, levels = weight.shape[0], weight.table.shape[-1]
        self._table = np.broadcast_to(weight.table, (outs, levels)).astype(np.float64)
        self._has_code = weight.codes[:, :, None] == np.arange(levels, dtype=np.uint8)

    def run(self, x, out):
        rows = x.reshape(out.size // out.shape[-1], x.shape[-1]).astype(np.float64)
        y = np.empty((len(rows), out.shape[-1]))
        with np.errstate(invalid="ignore"):
            for channel, table in enumerate(self._table):
                sums = rows @ self._has_code[channel].astype(np.float64)  # (rows, codes)
                y[:, channel] = sums @ table
            if self.operation.bias is not None:
                y += self.operation.bias
            out[...] = np.clip(y, *self.operation.output.clip).reshape(out.shape)


@qsdk.hookimpl
def qsdk_kernels():
    return [LinearCodebook]
