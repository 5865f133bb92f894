"""Quantized arrays as they are stored."""

from qsdk.encodings.affine import Affine
from qsdk.encodings.base import Arrays, Encoding, OnnxFunction, OnnxNode, Values
from qsdk.encodings.onnx_nodes import onnx_constant, onnx_node
from qsdk.encodings.packing import pack, packed_size, unpack

__all__ = [
    "Affine",
    "Arrays",
    "Encoding",
    "OnnxFunction",
    "OnnxNode",
    "Values",
    "onnx_constant",
    "onnx_node",
    "pack",
    "packed_size",
    "unpack",
]
