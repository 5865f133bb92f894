"""How much of the calibration data a pass looks at."""

from __future__ import annotations

from collections.abc import Iterable

from qsdk.interfaces.model_pass import Feeds, first_rows

HELD_BYTES = 2**25  # of tensors between two stages, of both models; batches beyond are dropped


def first_samples(calibration: Iterable[Feeds], samples: int) -> Iterable[Feeds]:
    """Batches until there are so many samples, or bytes; the last one is cut."""
    bytes_held = 0
    for feeds in first_rows(calibration, samples):
        yield feeds
        bytes_held += sum(array.nbytes for array in feeds.values())
        if bytes_held > HELD_BYTES // 2:
            return
