"""What an adapter is: it turns a file or an object into a Model."""

from __future__ import annotations

import abc
from pathlib import Path
from typing import Any, ClassVar

from qsdk.interfaces.model import Model
from qsdk.interfaces.quantizer import CONTRACT


class Adapter(abc.ABC):
    """Opens one kind of model.

    ``suffixes`` are the endings of its files, with the dot.
    """

    name: ClassVar[str]
    suffixes: ClassVar[tuple[str, ...]]
    contract: ClassVar[int] = CONTRACT

    def accepts(self, source: Any) -> bool:
        """Whether :meth:`open` should be tried on ``source``: a Path, or an object in memory."""
        return isinstance(source, Path) and source.name.lower().endswith(self.suffixes)

    @abc.abstractmethod
    def open(self, source: Any) -> Model:
        """The model in ``source``.

        Reads no weight before it is asked for. Raises FileRefusedError, with the reason, for a
        file that is damaged or hostile; memory stays bounded by the size of the file.
        """

    @classmethod
    def example(cls, folder: Path) -> Any:
        """A small source for the contract kit, written into ``folder``: what :meth:`open` takes.

        It has two layers or more. None, the default, leaves the adapter unchecked.
        """
        return None
