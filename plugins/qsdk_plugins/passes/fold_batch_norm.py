"""Folds each batch norm into the layer in front of it.

Source: Jacob et al. 2018, arXiv:1712.05877, section 3.2.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import ClassVar

import attrs

import qsdk
from qsdk.interfaces import Model, ModelPass
from qsdk.interfaces.model_pass import Feeds


@attrs.frozen(kw_only=True)
class FoldBatchNorm(ModelPass):
    """``W <- scale * W``, ``b <- scale * b + shift``, channel by channel."""

    name: ClassVar[str] = "fold_batch_norm"
    paper: ClassVar[str] = "arXiv:1712.05877"
    needs: ClassVar[frozenset[str]] = frozenset({"graph"})
    preserves: ClassVar[bool] = True

    def change(self, model: Model, reference: Model | None, calibration: Iterable[Feeds]) -> Model:
        return model.folded()


@qsdk.hookimpl
def qsdk_passes() -> list[type[ModelPass]]:
    return [FoldBatchNorm]
