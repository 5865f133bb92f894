"""The contract of quantizers."""

from qsdk.testing.quantizers import encoded, options, weights
from qsdk.testing.quantizers.cases import CONTRACT

__all__ = ["CONTRACT", "encoded", "options", "weights"]
