"""Deliberately wrong plugins: each has one fault, and names the check that has to catch it."""

from . import adapters, encodings, observers, quantizers
from .base import MUTANTS

GOOD = [quantizers.Good, observers.Good, encodings.Good, adapters.Good]

__all__ = ["GOOD", "MUTANTS"]
