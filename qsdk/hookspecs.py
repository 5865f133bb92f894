"""The hooks that a plugin can implement, one per interface.

A plugin is a module with functions marked ``@qsdk.hookimpl``; each gives a list of classes.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import pluggy

if TYPE_CHECKING:
    from qsdk.encodings import Encoding
    from qsdk.interfaces import Adapter, Kernel, ModelPass, Observer, Quantizer

hookspec = pluggy.HookspecMarker("qsdk")
hookimpl = pluggy.HookimplMarker("qsdk")


@hookspec
def qsdk_quantizers() -> list[type[Quantizer]]:  # type: ignore[empty-body]
    """Quantizer classes: weight in, encoding out."""


@hookspec
def qsdk_observers() -> list[type[Observer]]:  # type: ignore[empty-body]
    """Observer classes: activations in, scale and zero_point out."""


@hookspec
def qsdk_adapters() -> list[type[Adapter]]:  # type: ignore[empty-body]
    """Adapter classes: file or object in, Model out."""


@hookspec
def qsdk_encodings() -> list[type[Encoding]]:  # type: ignore[empty-body]
    """Encoding classes: how quantized arrays are stored."""


@hookspec
def qsdk_kernels() -> list[type[Kernel]]:  # type: ignore[empty-body]
    """Kernel classes: how an operation runs on an encoding, on one set of CPU features."""


@hookspec
def qsdk_passes() -> list[type[ModelPass]]:  # type: ignore[empty-body]
    """Pass classes: model in, model out."""
