"""Recipes by name: TOML files that lie beside this one."""

from __future__ import annotations

import functools
from importlib import resources

from qsdk.errors import UnknownNameError, did_you_mean
from qsdk.recipe import Recipe

WITH_DATA = "int8"  # what is used when there is calibration data and nothing else is said


@functools.cache
def names() -> tuple[str, ...]:
    """All recipes that have names, sorted."""
    files = resources.files(__name__).iterdir()
    return tuple(sorted(f.name.removesuffix(".toml") for f in files if f.name.endswith(".toml")))


def find(name: str) -> Recipe:
    """The recipe of that name; UnknownNameError with the nearest names."""
    return Recipe.from_text(text(name))


def text(name: str) -> str:
    """The recipe as it is written, comments included."""
    if name not in names():
        raise UnknownNameError(f"no recipe named {name!r}{did_you_mean(name, names())}")
    return (resources.files(__name__) / f"{name}.toml").read_text(encoding="utf-8")


def summary(name: str) -> str:
    """What the recipe is for: the comment that it begins with, in one line."""
    lines = []
    for line in text(name).splitlines():
        if not line.startswith("#"):
            break
        lines.append(line.removeprefix("#").strip())
    return " ".join(lines)
