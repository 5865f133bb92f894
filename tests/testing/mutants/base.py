"""The list of all mutants, and the decorator that adds to it."""

from __future__ import annotations

from typing import Any

MUTANTS: list[tuple[str, Any]] = []  # (check, class or instance)


def caught_by(check: str):
    """Register the decorated class as a mutant that ``check`` has to name."""

    def register(mutant):
        MUTANTS.append((check, mutant))
        return mutant

    return register
