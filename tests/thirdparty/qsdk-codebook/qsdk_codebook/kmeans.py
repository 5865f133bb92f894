"""K-means: the table of 2**bits values with the least squared error, found by Lloyd's iterations.

Source: Lloyd, "Least squares quantization in PCM", IEEE Trans. Inf. Theory 28 (1982).
"""

import attrs
import numpy as np

import qsdk
from qsdk_codebook.codebook import Codebook


@attrs.frozen(kw_only=True)
class KMeans(qsdk.Quantizer):
    """Each slice's weights become numbers of a table, whose values are the means of theirs.

    iterations : at most so many; fewer where they no longer change anything
    """

    name = "kmeans"
    capabilities = qsdk.Capabilities(bits=range(2, 9), granularity={"per_tensor", "per_channel"})

    scheme: qsdk.Scheme = attrs.field(factory=lambda: qsdk.Scheme(bits=4, signed=False))
    iterations: int = attrs.field(default=20, validator=attrs.validators.ge(1))

    def quantize(self, weight, *, layer=None):
        slices = qsdk.Slices(self.scheme, weight.shape)
        levels = 2**self.scheme.bits
        tables = np.zeros((*slices.params_shape, levels), np.float32)
        codes = np.zeros(weight.shape, np.uint8)
        for rows in slices.split(weight):  # one matrix, or none of an empty weight
            rows = rows.reshape(tables.size // levels, -1)
            found = [self._fit(row.astype(np.float64), levels) for row in rows]
            tables = np.stack(found).reshape(tables.shape)
            parts = [nearest(row, table) for row, table in zip(rows, found, strict=True)]
            codes = slices.join([np.stack(parts).astype(np.uint8)])
        return Codebook.from_codes(codes, tables, self.scheme)

    def _fit(self, row, levels):
        """The table of one row, ascending; it starts from quantiles."""
        table = np.sort(row)[(2 * np.arange(levels) + 1) * row.size // (2 * levels)]
        codes = None
        for _ in range(self.iterations):
            before, codes = codes, nearest(row, table)
            if before is not None and np.array_equal(before, codes):
                break
            # bincount adds one value after the other: the same bits on every CPU
            count, total = np.bincount(codes, None, levels), np.bincount(codes, row, levels)
            table = np.where(count > 0, total / np.maximum(count, 1), table)
        return table.astype(np.float32)


def nearest(row, table):
    """Numbers of the entries of the ascending ``table`` that are closest to the values."""
    table = table.astype(np.float64)
    return np.searchsorted((table[:-1] + table[1:]) / 2, row)


@qsdk.hookimpl
def qsdk_quantizers():
    return [KMeans]
