"""The encodings that come with qsdk: defined in its core, registered like any other."""

from __future__ import annotations

import qsdk
from qsdk.encodings import Affine, Encoding


@qsdk.hookimpl
def qsdk_encodings() -> list[type[Encoding]]:
    return [Affine]
