"""How C runs a prepared layer, so that one call in C can run several."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import attrs
import numpy as np


@attrs.frozen(eq=False)
class NativeCall:
    """A function of the type ``qsdk_run`` (``native/kernel/kernel.h``) and its contexts.

    function : its address
    contexts : the dtype of an input to the address of what the function gets with it
    scratch_bytes : what a call on so many rows needs, aligned to 64; more rows never need less

    The addresses are good for as long as the layer lives that has this.
    """

    function: int
    contexts: Mapping[np.dtype[Any], int]
    scratch_bytes: Callable[[int], int]
