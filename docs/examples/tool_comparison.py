"""Measures qsdk beside other quantizers: the same networks, images and evaluation for all.

usage: python docs/examples/tool_comparison.py DATA [--networks ...] [--tools ...] [--nncf PYTHON]

DATA is a folder with ``cifar10`` and ``imagenet`` in it, laid out as its README says; it does not
come with the project. Every tool gets the file with batch norms and the same calibration images,
256 (mobilenet_v1_025: 200), in batches of 8, and works in a process of its own, which tells its
CPU seconds, packages loaded already, and its peak memory, packages in it. onnxruntime evaluates
all files with its optimizations off: operators compute in floats between the codes, so a CPU
that adds products in 16 bits saturates for none of them. PYTHON is one that has nncf. Needs the
extra ``onnx``, and pillow.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

BATCH = 8
Batches = list[np.ndarray]
Maker = Callable[[str, str, Batches], Callable[[], None]]


def qsdk_recipe(recipe: str) -> Maker:
    def prepare(source: str, target: str, batches: Batches) -> Callable[[], None]:
        import qsdk

        qsdk.load(source)  # and with it the packages
        return lambda: qsdk.quantize_file(source, target, recipe, calibration=batches)

    return prepare


def onnxruntime_static(method: str) -> Maker:
    """Its static quantizer as its documentation recommends it for x86: QDQ, U8S8, per channel."""

    def prepare(source: str, target: str, batches: Batches) -> Callable[[], None]:
        from onnxruntime import quantization
        from onnxruntime.quantization.shape_inference import quant_pre_process

        class Reader(quantization.CalibrationDataReader):
            def __init__(self) -> None:
                self._batches = iter(batches)

            def get_next(self) -> dict[str, np.ndarray] | None:
                batch = next(self._batches, None)
                return None if batch is None else {"input": batch}

        def make() -> None:
            folded = f"{target}.folded.onnx"
            quant_pre_process(source, folded, skip_symbolic_shape=True)
            quantization.quantize_static(
                folded,
                target,
                Reader(),
                quant_format=quantization.QuantFormat.QDQ,
                per_channel=True,
                activation_type=quantization.QuantType.QUInt8,
                weight_type=quantization.QuantType.QInt8,
                calibrate_method=quantization.CalibrationMethod[method],
            )

        return make

    return prepare


def nncf_default(source: str, target: str, batches: Batches) -> Callable[[], None]:
    import nncf
    import onnx

    def make() -> None:
        data = nncf.Dataset(batches, lambda batch: {"input": batch})
        found = nncf.quantize(onnx.load(source), data, subset_size=len(batches))
        onnx.save(found, target)

    return make


TOOLS: dict[str, Maker] = {
    "qsdk int8": qsdk_recipe("int8"),
    "qsdk int8-fast": qsdk_recipe("int8-fast"),
    "onnxruntime MinMax": onnxruntime_static("MinMax"),
    "onnxruntime Entropy": onnxruntime_static("Entropy"),
    "onnxruntime Percentile": onnxruntime_static("Percentile"),
    "nncf": nncf_default,
}


def make(tool: str, source: str, target: str, data: str) -> None:
    """In a process of its own: makes the file, prints what that took as JSON."""
    images = np.load(data)
    batches = [images[start : start + BATCH] for start in range(0, len(images), BATCH)]
    work = TOOLS[tool](source, target, batches)
    start = time.process_time()
    work()
    seconds = time.process_time() - start
    print(json.dumps({"seconds": seconds, "megabytes": peak_kibibytes() * 1024 / 1e6}))


def peak_kibibytes() -> int:
    """Of this process alone, as Linux tells; getrusage has that of the parent in it."""
    status = Path("/proc/self/status").read_text()
    (line,) = (line for line in status.splitlines() if line.startswith("VmHWM"))
    return int(line.split()[1])


def made_by(python: str, *words: str) -> dict[str, float]:
    command = [python, __file__, "--make", *words]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        raise RuntimeError(done.stderr.strip().splitlines()[-1])
    found: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return found


def measure(network: str, data: Path, pythons: dict[str, str]) -> None:
    """Print a row of the table for each tool."""
    import calibration_table as common

    import qsdk

    group = "imagenet" if network == "mobilenet_v1_025" else "cifar10"
    load = common.imagenet if group == "imagenet" else common.cifar
    calibration, images, labels = load(data / group)
    source = data / group / f"{network}.onnx"
    expected = common.logits(source, images)
    right = int((expected.argmax(axis=1) == labels).sum())
    print(f"\n| {network} | right of {len(labels)} | same answer | SQNR dB | CPU s | peak MB |")
    print(f"| --- | --- | --- | --- | --- | --- |\n| float | {right} | | | | |", flush=True)
    with tempfile.TemporaryDirectory() as work:
        array, target = Path(work) / "calibration.npy", Path(work) / "out.onnx"
        np.save(array, calibration)
        for tool, python in pythons.items():
            try:
                cost = made_by(python, tool, str(source), str(target), str(array))
            except RuntimeError as error:
                print(f"| {tool} | failed: {error} | | | | |", flush=True)
                continue
            found = common.logits(target, images)
            right = int((found.argmax(axis=1) == labels).sum())
            same = int((found.argmax(axis=1) == expected.argmax(axis=1)).sum())
            sqnr = qsdk.metrics.sqnr_db(expected, found)
            spent = f"{cost['seconds']:.0f} | {cost['megabytes']:.0f}"
            print(f"| {tool} | {right} | {same} | {sqnr:.1f} | {spent} |", flush=True)


def main() -> None:
    networks = ["mobilenet_v1_025", "mobilenet_cifar10", "resnet20", "resnet56"]
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("data", type=Path)
    arguments.add_argument("--networks", nargs="*", default=networks, choices=networks)
    arguments.add_argument("--tools", nargs="*", default=list(TOOLS), choices=TOOLS)
    arguments.add_argument("--nncf", default=sys.executable, help="a Python that has nncf")
    given = arguments.parse_args()
    pythons = {tool: given.nncf if tool == "nncf" else sys.executable for tool in given.tools}
    for network in given.networks:
        measure(network, given.data, pythons)


if __name__ == "__main__":
    if sys.argv[1:2] == ["--make"]:
        make(*sys.argv[2:])
    else:
        main()
