"""The contracts that plugins implement."""

from qsdk.cpu import most_threads
from qsdk.interfaces.accumulator import Accumulator
from qsdk.interfaces.adapter import Adapter
from qsdk.interfaces.affine_quantizer import AffineQuantizer
from qsdk.interfaces.columns import columns_refusal, input_columns, input_pieces
from qsdk.interfaces.declaration import misdeclared
from qsdk.interfaces.ends import Ends
from qsdk.interfaces.finite import finite_float32
from qsdk.interfaces.in_order import in_order
from qsdk.interfaces.input_codes import InputCodes, code_rows, input_group_size
from qsdk.interfaces.kernel import Kernel, Prepared
from qsdk.interfaces.links import Block, Changes, Expected, Link, Stage, Step
from qsdk.interfaces.model import InputType, Layer, Model
from qsdk.interfaces.model_pass import ModelPass
from qsdk.interfaces.native_call import NativeCall
from qsdk.interfaces.noise import as_expected, noise
from qsdk.interfaces.observer import Observer
from qsdk.interfaces.operation import Activations, Conv, InputForm, Linear, Operation, Output
from qsdk.interfaces.program import Piece, Program
from qsdk.interfaces.quantizer import CONTRACT, Capabilities, Quantizer
from qsdk.interfaces.sign_codes import sign_codes_dtype
from qsdk.interfaces.site import FixedCodes, Site
from qsdk.interfaces.tuner import Coding, Tuner

__all__ = [
    "CONTRACT",
    "Accumulator",
    "Activations",
    "Adapter",
    "AffineQuantizer",
    "Block",
    "Capabilities",
    "Changes",
    "Coding",
    "Conv",
    "Ends",
    "Expected",
    "FixedCodes",
    "InputCodes",
    "InputForm",
    "InputType",
    "Kernel",
    "Layer",
    "Linear",
    "Link",
    "Model",
    "ModelPass",
    "NativeCall",
    "Observer",
    "Operation",
    "Output",
    "Piece",
    "Prepared",
    "Program",
    "Quantizer",
    "Site",
    "Stage",
    "Step",
    "Tuner",
    "as_expected",
    "code_rows",
    "columns_refusal",
    "finite_float32",
    "in_order",
    "input_columns",
    "input_group_size",
    "input_pieces",
    "misdeclared",
    "most_threads",
    "noise",
    "sign_codes_dtype",
]
