"""Deliberately wrong plugins: each has one fault, and names the check that has to catch it."""

from . import adapters, encodings, kernels, observers, passes, quantizers
from .base import MUTANTS

GOOD = [
    quantizers.Good,
    observers.Good,
    encodings.Good,
    adapters.Good,
    kernels.Good,
    kernels.GoodConv,
    passes.Good,
]

__all__ = ["GOOD", "MUTANTS"]
