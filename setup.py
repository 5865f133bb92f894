"""What pyproject.toml cannot say: the C extension, its files side by side, and leaving it out."""

import os
from concurrent.futures import ThreadPoolExecutor

from setuptools import setup
from setuptools.command.build_ext import build_ext


class BuildSideBySide(build_ext):
    """Compiles as many files of the one extension at a time as there are CPUs."""

    def build_extension(self, ext):
        one_by_one = self.compiler.compile

        def side_by_side(sources, **words):
            with ThreadPoolExecutor(os.cpu_count() or 1) as pool:
                found = pool.map(lambda source: one_by_one([source], **words), sources)
                return [name for names in found for name in names]

        self.compiler.compile = side_by_side
        super().build_extension(ext)


if os.environ.get("QSDK_NO_NATIVE") == "1":
    setup()
else:
    setup(
        cffi_modules=["native/build_native.py:ffibuilder"],
        cmdclass={"build_ext": BuildSideBySide},
        options={"bdist_wheel": {"py_limited_api": "cp311"}},
    )
