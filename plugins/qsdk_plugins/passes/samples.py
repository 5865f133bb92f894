"""How much of the calibration data a pass looks at."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np

from qsdk.interfaces.model_pass import Feeds

HELD_BYTES = 2**25  # of tensors between two stages, of both models; batches beyond are dropped


def first_samples(calibration: Iterable[Feeds], samples: int) -> Iterable[Feeds]:
    """Batches until there are so many samples, or bytes; the last one is cut."""
    left, bytes_held = samples, 0
    for feeds in calibration:
        count = max((len(array) for array in feeds.values() if np.ndim(array)), default=1)
        yield {name: a[:left] if np.shape(a)[:1] == (count,) else a for name, a in feeds.items()}
        left -= count
        bytes_held += sum(array.nbytes for array in feeds.values())
        if left <= 0 or bytes_held > HELD_BYTES // 2:
            return
