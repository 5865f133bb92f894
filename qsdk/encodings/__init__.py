"""Quantized arrays as they are stored."""

from qsdk.encodings.affine import Affine
from qsdk.encodings.base import Arrays, Encoding, OnnxFunction, OnnxNode, Values
from qsdk.encodings.packing import pack, packed_size, unpack

__all__ = [
    "Affine",
    "Arrays",
    "Encoding",
    "OnnxFunction",
    "OnnxNode",
    "Values",
    "pack",
    "packed_size",
    "unpack",
]
