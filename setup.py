"""The two things that pyproject.toml cannot say: the C extension, and leaving it out."""

import os

from setuptools import setup

if os.environ.get("QSDK_NO_NATIVE") == "1":
    setup()
else:
    setup(
        cffi_modules=["native/build_native.py:ffibuilder"],
        options={"bdist_wheel": {"py_limited_api": "cp311"}},
    )
