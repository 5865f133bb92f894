"""Codebook: each value is a number into a table. No scale, no zero_point, no grid."""

import math

import attrs
import numpy as np

import qsdk
from qsdk.encodings import Encoding, pack, packed_size, unpack
from qsdk.errors import EncodingError
from qsdk_codebook.onnx import DEQUANTIZE_CODEBOOK


def _read_only(array):
    view = array.view()
    view.flags.writeable = False
    return view


@attrs.frozen(eq=False)
class Codebook(Encoding):
    """``value = table[code]``, with ``codes`` of 0 to 2**bits - 1.

    packed : uint8, the bit stream of the codes in C order (see qsdk.encodings.pack)
    table : float32, ascending, shape (2**bits,) per tensor or (channels, 2**bits)
    """

    name = "codebook"

    packed: np.ndarray = attrs.field(repr=False, converter=_read_only)
    table: np.ndarray = attrs.field(repr=False, converter=_read_only)
    shape: tuple[int, ...]
    scheme: qsdk.Scheme

    @classmethod
    def from_codes(cls, codes, table, scheme):
        return cls(pack(codes, scheme.bits), table, codes.shape, scheme)

    @property
    def codes(self):
        """One uint8 for each value, unpacked on every call."""
        count = math.prod(self.shape)
        return unpack(self.packed, count, self.scheme.bits, signed=False).reshape(self.shape)

    def dequantize(self):
        levels = self.table.shape[-1]
        first = levels * np.arange(self.table.size // levels).reshape(self.table.shape[:-1])
        slices = qsdk.Slices(self.scheme, self.shape)
        return self.table.reshape(-1)[self.codes + slices.expand(first)]

    def describe(self):
        return f"codebook of {self.scheme.bits} bits {self.scheme.granularity}"

    def arrays(self):
        values = {"bits": self.scheme.bits, "granularity": str(self.scheme.granularity)}
        values |= {"axis": self.scheme.axis, "shape": list(self.shape)}
        return {"packed": self.packed, "table": self.table}, values

    @classmethod
    def from_arrays(cls, arrays, values, decode=None):
        try:
            packed, table = arrays["packed"], arrays["table"]
            words = {word: values[word] for word in ("bits", "granularity", "axis")}
            scheme = qsdk.Scheme(signed=False, **words)
            shape = np.broadcast_to(np.uint8(), values["shape"]).shape  # what numpy can have
            expected = (*qsdk.Slices(scheme, shape).params_shape, 2**scheme.bits)
        except (KeyError, TypeError, ValueError) as error:
            raise EncodingError(f"not a codebook: {error!r}") from None
        size = packed_size(math.prod(shape), scheme.bits)
        if packed.dtype != np.uint8 or packed.shape != (size,):
            raise EncodingError(f"packed is {packed.dtype} {packed.shape}, not uint8 ({size},)")
        if table.dtype != np.float32 or table.shape != expected:
            raise EncodingError(f"table is {table.dtype} {table.shape}, not float32 {expected}")
        if not (np.isfinite(table).all() and (table[..., 1:] >= table[..., :-1]).all()):
            raise EncodingError("a table holds finite values in ascending order, and this does not")
        return cls(packed, table, shape, scheme)

    def onnx_function(self):
        """Channels must be on axis 0."""
        per_tensor = self.scheme.granularity == "per_tensor"
        return DEQUANTIZE_CODEBOOK if per_tensor or self.scheme.axis == 0 else None


@qsdk.hookimpl
def qsdk_encodings():
    return [Codebook]
