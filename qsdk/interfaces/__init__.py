"""The contracts that plugins implement."""

from qsdk.cpu import most_threads
from qsdk.interfaces.adapter import Adapter
from qsdk.interfaces.affine_quantizer import AffineQuantizer
from qsdk.interfaces.ends import Ends
from qsdk.interfaces.input_codes import InputCodes, code_rows
from qsdk.interfaces.kernel import Kernel, Prepared
from qsdk.interfaces.model import Layer, Model
from qsdk.interfaces.observer import Observer
from qsdk.interfaces.operation import Activations, Conv, InputForm, Linear, Operation, Output
from qsdk.interfaces.quantizer import CONTRACT, Capabilities, Quantizer, finite_float32

__all__ = [
    "CONTRACT",
    "Activations",
    "Adapter",
    "AffineQuantizer",
    "Capabilities",
    "Conv",
    "Ends",
    "InputCodes",
    "InputForm",
    "Kernel",
    "Layer",
    "Linear",
    "Model",
    "Observer",
    "Operation",
    "Output",
    "Prepared",
    "Quantizer",
    "code_rows",
    "finite_float32",
    "most_threads",
]
