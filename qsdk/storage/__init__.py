"""Files: atomic writes, safetensors, and encodings in safetensors."""

from qsdk.storage.array_model import ArrayModel
from qsdk.storage.atomic import write_atomic
from qsdk.storage.container import Container, write_container
from qsdk.storage.tensor_file import TensorFile, write_tensors

__all__ = [
    "ArrayModel",
    "Container",
    "TensorFile",
    "write_atomic",
    "write_container",
    "write_tensors",
]
