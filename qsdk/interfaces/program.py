"""A model made ready to run."""

from __future__ import annotations

import abc
from collections.abc import Mapping, Sequence
from typing import Any

import attrs
from numpy.typing import NDArray


@attrs.frozen
class Piece:
    """Some nodes of a model and what computes them.

    nodes : their names, where they have some
    kernel : of qsdk; or the name of a runtime
    note : what else there is to know, such as how the input is coded
    """

    nodes: tuple[str, ...]
    kernel: str
    note: str = ""

    def __str__(self) -> str:
        names = ", ".join(self.nodes[:4]) + (", ..." if len(self.nodes) > 4 else "")
        return f"{self.kernel}: {names}{f' ({self.note})' if self.note else ''}"


class Program(abc.ABC):
    """What :meth:`Model.prepare` gives: weights are packed, nothing is left to decide.

    plan : the pieces in the order in which they run
    """

    plan: Sequence[Piece]

    @abc.abstractmethod
    def run(self, feeds: Mapping[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
        """The outputs for these inputs. Safe from several threads at once."""
