"""The contract of kernels: what a prepared layer computes, and how it may be called."""

from qsdk.testing.kernels import calls, declared, memory, numbers
from qsdk.testing.kernels.cases import CONTRACT

__all__ = ["CONTRACT", "calls", "declared", "memory", "numbers"]
