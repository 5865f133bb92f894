"""A small model, what to watch in it, and batches of images."""

from __future__ import annotations

import numpy as np
import pytest
from small_net import images, saved

import qsdk
from qsdk.calibration import Watch

UINT8 = qsdk.Scheme(bits=8, signed=False, granularity="per_tensor")


@pytest.fixture
def model(tmp_path):
    return qsdk.load(saved(tmp_path)).folded()


@pytest.fixture
def watched(model):
    """Watches on all sites, by the observer of that name."""

    def watches(observer: str = "minmax", **options: object) -> list[Watch]:
        sites = model.sites([layer.name for layer in model.layers])
        return [
            Watch(site=site, observer=observer, options=dict(options), scheme=UINT8)
            for site in sites
        ]

    return watches


@pytest.fixture
def batches() -> list[np.ndarray]:
    return [images(5, seed) * (1 + seed) for seed in range(8)]


@pytest.fixture
def same(tmp_path):
    """Asserts that two calibrations are equal to the last byte of their files."""

    def check(a: qsdk.Calibration, b: qsdk.Calibration) -> None:
        paths = tmp_path / "a.safetensors", tmp_path / "b.safetensors"
        a.save(paths[0])
        b.save(paths[1])
        assert paths[0].read_bytes() == paths[1].read_bytes()

    return check
