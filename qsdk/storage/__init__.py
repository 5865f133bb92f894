"""Files: atomic writes, safetensors, .npz archives, and encodings in safetensors."""

from qsdk.storage.archive import ZippedArrays
from qsdk.storage.array_model import ArrayModel
from qsdk.storage.atomic import write_atomic
from qsdk.storage.container import Container, write_container
from qsdk.storage.tensor_file import TensorFile, write_tensors

__all__ = [
    "ArrayModel",
    "Container",
    "TensorFile",
    "ZippedArrays",
    "write_atomic",
    "write_container",
    "write_tensors",
]
