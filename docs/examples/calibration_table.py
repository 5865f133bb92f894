"""Measures recipes with calibrated activations: right answers on whole test sets.

usage: python docs/examples/calibration_table.py DATA [--networks ...] [--recipes ...] [--bits B]

DATA is a folder with ``cifar10`` and ``imagenet`` in it, laid out as its README says; it does not
come with the project. Each network is quantized from its file with batch norms, calibrated on 256
images (mobilenet_v1_025 on 200; by ``data-free`` on none), and onnxruntime evaluates what was
written, its optimizations off: operators compute in floats between the codes, so nothing saturates.
Needs the extra ``onnx``, and pillow.
"""

from __future__ import annotations

import argparse
import io
import tempfile
import time
import zipfile
from pathlib import Path

import numpy as np
import onnxruntime

import qsdk

MEAN, STD = np.float32([0.485, 0.456, 0.406]), np.float32([0.229, 0.224, 0.225])
NETWORKS = ["mobilenet_v1_025", "mobilenet_cifar10", "resnet20", "resnet56"]
Set = tuple[np.ndarray, np.ndarray, np.ndarray]  # calibration images, test images, labels


def cifar(folder: Path) -> Set:
    with np.load(folder / "cifar10_calib.npz") as calib, np.load(folder / "cifar10_test.npz") as d:
        images = [(a.astype(np.float32) / 255 - MEAN) / STD for a in (calib["images"], d["images"])]
        return channels_first(images[0][:256]), channels_first(images[1]), d["labels"]


def imagenet(folder: Path) -> Set:
    from PIL import Image

    with zipfile.ZipFile(folder / "imagenet_sample_224.zip") as archive:
        rows = [r.split(",") for r in archive.read("labels.csv").decode().splitlines()[1:]]
        images = [np.asarray(Image.open(io.BytesIO(archive.read(row[0])))) for row in rows]
    scaled = channels_first(np.stack(images).astype(np.float32) / np.float32(127.5) - 1)
    return scaled[:200], scaled[200:], np.array([int(row[1]) for row in rows[200:]])


def channels_first(images: np.ndarray) -> np.ndarray:
    return np.ascontiguousarray(images.transpose(0, 3, 1, 2).astype(np.float32))


def logits(file: Path, images: np.ndarray) -> np.ndarray:
    """What the network of the file says, computed in floats between codes."""
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    session = onnxruntime.InferenceSession(str(file), options, ["CPUExecutionProvider"])
    pieces = [images[start : start + 32] for start in range(0, len(images), 32)]
    return np.concatenate([session.run(None, {"input": piece})[0] for piece in pieces])


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("data", type=Path)
    arguments.add_argument("--networks", nargs="*", default=NETWORKS, choices=NETWORKS)
    arguments.add_argument("--recipes", nargs="*", default=["int8", "w4a8"])
    arguments.add_argument("--bits", type=int, help="of weights, instead of the recipe's")
    arguments.add_argument("--folded", action="store_true", help="files without batch norms")
    given = arguments.parse_args()
    options = {} if given.bits is None else {"bits": given.bits}
    print("network, recipe: right; same argmax as float; SQNR of logits; CPU seconds of the making")
    for network in given.networks:
        group = "imagenet" if network == "mobilenet_v1_025" else "cifar10"
        folder = given.data / group
        calibration, images, labels = (imagenet if group == "imagenet" else cifar)(folder)
        batches = [calibration[start : start + 32] for start in range(0, len(calibration), 32)]
        source = folder / f"{network}{'_folded' if given.folded else ''}.onnx"
        expected = logits(source, images)
        right = int((expected.argmax(axis=1) == labels).sum())
        print(f"{network}, float: {right} of {len(labels)}", flush=True)
        for recipe in given.recipes:
            with tempfile.TemporaryDirectory() as work:
                file, start = Path(work) / "out.onnx", time.process_time()
                data = None if recipe == "data-free" else batches
                qsdk.quantize_file(source, file, recipe, calibration=data, **options)
                seconds = time.process_time() - start
                found = logits(file, images)
            right = int((found.argmax(axis=1) == labels).sum())
            same = int((found.argmax(axis=1) == expected.argmax(axis=1)).sum())
            sqnr = qsdk.metrics.sqnr_db(expected, found)
            print(f"{network}, {recipe}: {right}; {same}; {sqnr:.1f} dB; {seconds:.0f}", flush=True)


if __name__ == "__main__":
    main()
