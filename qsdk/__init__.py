"""qsdk makes a trained network small and fast on a CPU.

    quantizer = qsdk.registry.get("squant", bits=4)
    encoding = quantizer.quantize(weight)

    result = qsdk.quantize_model("network.onnx", "squant", bits=4)
    result.model.save("network-int4.onnx")

Names are resolved on first use, so that ``import qsdk`` costs nothing and loads no plugin.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from qsdk import encodings as encodings
    from qsdk import errors as errors
    from qsdk import interfaces as interfaces
    from qsdk import metrics as metrics
    from qsdk import registry as registry
    from qsdk.accumulators import worst_pairs as worst_pairs
    from qsdk.accumulators import worst_sums as worst_sums
    from qsdk.affine import dequantize_rows as dequantize_rows
    from qsdk.affine import quantize_rows as quantize_rows
    from qsdk.affine import scale_and_zero_point as scale_and_zero_point
    from qsdk.calibration import Calibration as Calibration
    from qsdk.calibration import calibrate as calibrate
    from qsdk.encodings import Affine as Affine
    from qsdk.encodings import Encoding as Encoding
    from qsdk.errors import QsdkError as QsdkError
    from qsdk.fixed_point import clip_codes as clip_codes
    from qsdk.fixed_point import fixed_multiplier as fixed_multiplier
    from qsdk.fixed_point import requantize as requantize
    from qsdk.fixed_point import requantize_rows as requantize_rows
    from qsdk.hookspecs import hookimpl as hookimpl
    from qsdk.interfaces import Activations as Activations
    from qsdk.interfaces import Adapter as Adapter
    from qsdk.interfaces import AffineQuantizer as AffineQuantizer
    from qsdk.interfaces import Capabilities as Capabilities
    from qsdk.interfaces import Conv as Conv
    from qsdk.interfaces import Kernel as Kernel
    from qsdk.interfaces import Layer as Layer
    from qsdk.interfaces import Linear as Linear
    from qsdk.interfaces import Model as Model
    from qsdk.interfaces import ModelPass as ModelPass
    from qsdk.interfaces import Observer as Observer
    from qsdk.interfaces import Operation as Operation
    from qsdk.interfaces import Output as Output
    from qsdk.interfaces import Prepared as Prepared
    from qsdk.interfaces import Quantizer as Quantizer
    from qsdk.operations import conv as conv
    from qsdk.operations import linear as linear
    from qsdk.pipeline import Result as Result
    from qsdk.pipeline import load as load
    from qsdk.pipeline import quantize_file as quantize_file
    from qsdk.pipeline import quantize_model as quantize_model
    from qsdk.ranges import aciq_alpha as aciq_alpha
    from qsdk.ranges import aciq_factor as aciq_factor
    from qsdk.recipe import Recipe as Recipe
    from qsdk.recipe import Rule as Rule
    from qsdk.recurrent import gru as gru
    from qsdk.recurrent import lstm as lstm
    from qsdk.report import Report as Report
    from qsdk.scheme import Granularity as Granularity
    from qsdk.scheme import Scheme as Scheme
    from qsdk.scheme import Slices as Slices
    from qsdk.session import Session as Session
    from qsdk.sign_codes import SignCoder as SignCoder
    from qsdk.sign_codes import pack_words as pack_words
    from qsdk.sign_codes import unpack_words as unpack_words
    from qsdk.storage import ArrayModel as ArrayModel
    from qsdk.storage import Container as Container
    from qsdk.storage import TensorFile as TensorFile
    from qsdk.storage import ZippedArrays as ZippedArrays
    from qsdk.storage import write_atomic as write_atomic
    from qsdk.storage import write_container as write_container
    from qsdk.sums import sum_rows as sum_rows

_HOME = {
    "worst_pairs": "accumulators",
    "worst_sums": "accumulators",
    "dequantize_rows": "affine",
    "quantize_rows": "affine",
    "scale_and_zero_point": "affine",
    "Calibration": "calibration",
    "calibrate": "calibration",
    "Affine": "encodings",
    "Encoding": "encodings",
    "QsdkError": "errors",
    "clip_codes": "fixed_point",
    "fixed_multiplier": "fixed_point",
    "requantize": "fixed_point",
    "requantize_rows": "fixed_point",
    "hookimpl": "hookspecs",
    "Activations": "interfaces",
    "Adapter": "interfaces",
    "AffineQuantizer": "interfaces",
    "Capabilities": "interfaces",
    "Conv": "interfaces",
    "Kernel": "interfaces",
    "Layer": "interfaces",
    "Linear": "interfaces",
    "Model": "interfaces",
    "ModelPass": "interfaces",
    "Observer": "interfaces",
    "Operation": "interfaces",
    "Output": "interfaces",
    "Prepared": "interfaces",
    "Quantizer": "interfaces",
    "conv": "operations",
    "linear": "operations",
    "gru": "recurrent",
    "lstm": "recurrent",
    "Result": "pipeline",
    "load": "pipeline",
    "quantize_file": "pipeline",
    "quantize_model": "pipeline",
    "aciq_alpha": "ranges",
    "aciq_factor": "ranges",
    "Recipe": "recipe",
    "Rule": "recipe",
    "Report": "report",
    "Granularity": "scheme",
    "Scheme": "scheme",
    "Slices": "scheme",
    "Session": "session",
    "SignCoder": "sign_codes",
    "pack_words": "sign_codes",
    "unpack_words": "sign_codes",
    "ArrayModel": "storage",
    "Container": "storage",
    "TensorFile": "storage",
    "ZippedArrays": "storage",
    "write_atomic": "storage",
    "write_container": "storage",
    "sum_rows": "sums",
}

__all__ = ["encodings", "errors", "interfaces", "metrics", "registry", *_HOME]


def __getattr__(name: str) -> Any:
    if name in _HOME:
        value = getattr(importlib.import_module(f"qsdk.{_HOME[name]}"), name)
    elif name in __all__:
        value = importlib.import_module(f"qsdk.{name}")
    elif name == "__version__":
        value = importlib.import_module("importlib.metadata").version("qsdk")
    else:
        raise AttributeError(f"module 'qsdk' has no attribute {name!r}")
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__, "__version__"})
