"""The contracts that plugins implement."""

from qsdk.interfaces.adapter import Adapter
from qsdk.interfaces.affine_quantizer import AffineQuantizer
from qsdk.interfaces.ends import Ends
from qsdk.interfaces.model import Layer, Model
from qsdk.interfaces.observer import Observer
from qsdk.interfaces.quantizer import CONTRACT, Capabilities, Quantizer, finite_float32

__all__ = [
    "CONTRACT",
    "Adapter",
    "AffineQuantizer",
    "Capabilities",
    "Ends",
    "Layer",
    "Model",
    "Observer",
    "Quantizer",
    "finite_float32",
]
