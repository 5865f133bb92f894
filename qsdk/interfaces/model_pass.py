"""What a pass is: a model in, a model out."""

from __future__ import annotations

import abc
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, ClassVar

import attrs
import numpy as np
from numpy.typing import NDArray

from qsdk.errors import OptionError
from qsdk.interfaces.model import Model
from qsdk.interfaces.quantizer import CONTRACT

Feeds = Mapping[str, NDArray[Any]]


@attrs.frozen(kw_only=True)
class ModelPass(abc.ABC):
    """A frozen value: its options are fields.

    needs : what it must be given: "graph" and "run" of the model, "calibration" (feeds, without
        labels), "reference" (the model before quantization), "codes" (of activations, fixed)
    preserves : whether the new model computes what the old one does, up to rounding
    """

    name: ClassVar[str]
    paper: ClassVar[str] = ""
    needs: ClassVar[frozenset[str]]
    preserves: ClassVar[bool] = False
    contract: ClassVar[int] = CONTRACT

    @property
    def is_last(self) -> bool:
        """Whether it comes after quantization: it looks at the model before as well."""
        return "reference" in self.needs

    def apply(
        self, model: Model, *, reference: Model | None = None, calibration: Iterable[Feeds] = ()
    ) -> Model:
        """A new model; the one given is not changed.

        calibration : one mapping from input names to arrays for each batch; read once
        Raises OptionError where something of ``needs`` is missing.
        """
        given = set(model.has) | {"calibration"}  # an empty one is found when it is read
        if reference is not None:
            given |= {"reference"}
        if "codes" in self.needs and model.codes:
            given |= {"codes"}
        lacking = sorted(self.needs - given)
        if lacking:
            raise OptionError(
                f"{self.name} needs {', '.join(lacking)}: give a model that has it "
                f"({model.format} has {', '.join(sorted(model.has))}), reference=, calibration="
            )
        return self.change(model, reference, calibration)

    @abc.abstractmethod
    def change(self, model: Model, reference: Model | None, calibration: Iterable[Feeds]) -> Model:
        """What :meth:`apply` gives, once it is known that nothing is missing."""


def first_rows(batches: Iterable[Feeds], rows: int) -> Iterator[Feeds]:
    """Batches until there are so many rows; the last one is cut."""
    for feeds in batches:
        count = max((len(array) for array in feeds.values() if np.ndim(array)), default=1)
        yield {name: a[:rows] if np.shape(a)[:1] == (count,) else a for name, a in feeds.items()}
        rows -= count
        if rows <= 0:
            return
