"""Deliberately wrong plugins: each has one fault, and names the check that has to catch it."""

from . import adapters, encodings, kernels, observers, quantizers
from .base import MUTANTS

GOOD = [
    quantizers.Good,
    observers.Good,
    encodings.Good,
    adapters.Good,
    kernels.Good,
    kernels.GoodConv,
]

__all__ = ["GOOD", "MUTANTS"]
