"""Measures top-1 accuracy of weight-only quantization and writes the tables of the docs.

usage: python docs/examples/accuracy_table.py DATA [--out docs/algorithms/squant-accuracy.md]

DATA is a folder with ``cifar10`` and ``imagenet`` in it, laid out as its README says; it does not
come with the project. Every figure is a whole run: the network is quantized into an ONNX file,
and onnxruntime evaluates that file. Needs the extra ``onnx``, and pillow.
"""

from __future__ import annotations

import argparse
import io
import itertools
import platform
import tempfile
import zipfile
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import ClassVar

import attrs
import numpy as np

import qsdk
from qsdk.plugins import Plugin

MEAN, STD = np.float32([0.485, 0.456, 0.406]), np.float32([0.229, 0.224, 0.225])
NETWORKS = ["resnet20", "resnet56", "mobilenet_cifar10", "mobilenet_v1_025"]
HARD = ["resnet20", "mobilenet_cifar10"]  # where rules differ and a run takes seconds


class Data:
    """The images, read once, and each network's top-1 on them."""

    def __init__(self, folder: Path):
        self.folder = folder
        with np.load(folder / "cifar10" / "cifar10_test.npz") as file:
            images, self.cifar_labels = file["images"], file["labels"]
        self.cifar = channels_first((images.astype(np.float32) / 255 - MEAN) / STD)
        self.imagenet, self.imagenet_labels = self._imagenet()

    def _imagenet(self) -> tuple[np.ndarray, np.ndarray]:
        from PIL import Image

        with zipfile.ZipFile(self.folder / "imagenet" / "imagenet_sample_224.zip") as archive:
            lines = archive.read("labels.csv").decode().splitlines()[1:][200:]
            rows = [line.split(",") for line in lines]
            images = [np.asarray(Image.open(io.BytesIO(archive.read(row[0])))) for row in rows]
        scaled = np.stack(images).astype(np.float32) / np.float32(127.5) - 1
        return channels_first(scaled), np.array([int(row[1]) for row in rows])

    def path(self, network: str, folded: bool = True) -> Path:
        group = "imagenet" if network == "mobilenet_v1_025" else "cifar10"
        return self.folder / group / f"{network}{'_folded' if folded else ''}.onnx"

    def top1(self, network: str, file: Path) -> float:
        """Percent right, over all test images, by onnxruntime on ``file``."""
        images, labels = self.cifar, self.cifar_labels
        if network == "mobilenet_v1_025":
            images, labels = self.imagenet, self.imagenet_labels
        model = qsdk.load(file)
        right = 0
        for start in range(0, len(labels), 128):
            (logits,) = model.run({"input": images[start : start + 128]}).values()
            right += int((logits.argmax(axis=1) == labels[start : start + 128]).sum())
        return 100 * right / len(labels)


def channels_first(images: np.ndarray) -> np.ndarray:
    return np.ascontiguousarray(images.transpose(0, 3, 1, 2).astype(np.float32))


def register_unclipped() -> None:
    """SQuant with the released code's sums, ``rint(x) - x`` also where x is clipped."""
    squant = qsdk.registry.find("quantizer:squant").target

    @attrs.frozen(kw_only=True)
    class Unclipped(squant):  # type: ignore[misc, valid-type]
        """Moves clipped weights to where rounding leaves them the error of ``rint(x) - x``."""

        name: ClassVar[str] = "squant-unclipped"

        def round(self, rows, scale, zero_point, kernel_size):  # type: ignore[no-untyped-def]
            steps = rows / scale[:, None]
            low, high = self.scheme.qmin - zero_point, self.scheme.qmax - zero_point
            codes = np.clip(np.rint(steps), low[:, None], high[:, None])
            moved = (codes - (np.rint(steps) - steps)) * scale[:, None]
            return super().round(moved.astype(np.float32), scale, zero_point, kernel_size)

    entry = attrs.evolve(
        qsdk.registry.find("quantizer:squant"), name=Unclipped.name, target=Unclipped
    )
    plugin = Plugin(Unclipped.name, "docs", "0", "", health="ok", entries=(entry,))
    qsdk.registry.registry.plugins.append(plugin)  # type: ignore[attr-defined]


def table(
    title: str,
    networks: Iterable[str],
    settings: Iterable[tuple[str, dict[str, object]]],
    measure: Callable[[str, dict[str, object]], float],
) -> str:
    """A Markdown table, one row per setting, printed as it grows."""
    networks = list(networks)
    lines = [f"### {title}", "", "| setting | " + " | ".join(networks) + " |"]
    lines.append("| --- |" + " ---: |" * len(networks))
    print("\n".join(lines), flush=True)
    for label, options in settings:
        figures = [f"{measure(network, options):.2f}" for network in networks]
        lines.append(f"| {label} | " + " | ".join(figures) + " |")
        print(lines[-1], flush=True)
    return "\n".join(lines) + "\n"


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("data", type=Path)
    arguments.add_argument("--out", type=Path, default=Path("docs/algorithms/squant-accuracy.md"))
    given = arguments.parse_args()
    data = Data(given.data)
    register_unclipped()

    def measure(network: str, options: dict[str, object]) -> float:
        folded = bool(options.get("folded", True))
        words = {k: v for k, v in options.items() if k not in ("folded", "method")}
        if not words:
            return data.top1(network, data.path(network, folded))
        with tempfile.TemporaryDirectory() as folder:
            file = Path(folder) / "quantized.onnx"
            source = data.path(network, folded)
            qsdk.quantize_file(source, file, str(options["method"]), **words)
            return data.top1(network, file)

    methods = itertools.product([8, 6, 5, 4, 3], ["rtn", "squant"])
    bits = [(f"{b} bits, {m}", {"method": m, "bits": b}) for b, m in methods]
    rules: list[tuple[str, dict[str, object]]] = [
        ("minmax", {"range_rule": "minmax"}),
        ("absmax, symmetric narrow", {"symmetric": True, "narrow_range": True}),
        ("percentile 99.9", {"range_rule": "percentile"}),
        ("mse", {"range_rule": "mse"}),
        ("mse, symmetric", {"range_rule": "mse", "symmetric": True}),
    ]
    by_rule = [
        (f"{b} bits, {rule}, {m}", {"method": m, "bits": b, **words})
        for b in (4, 3)
        for rule, words in rules
        for m in ("rtn", "squant", "squant-unclipped")
    ]
    stages = [
        (f"{b} bits, {s}", {"method": "squant", "bits": b, "stages": s})
        for b in (4, 3)
        for s in ("E", "EK", "EC", "EKC")
    ]
    unfolded = [
        (f"{b} bits, {m}", {"method": m, "bits": b, "folded": False})
        for b in (4, 3)
        for m in ("rtn", "squant")
    ]
    heading = (
        "Top-1 in percent, every layer at the same width, weights only, one scale per output\n"
        "channel, no data used. CIFAR-10: 9,886 test images, one is 0.010 points; the ImageNet\n"
        "sample of mobilenet_v1_025: 800 images, one is 0.125 points. Made by\n"
        f"`docs/examples/accuracy_table.py` on {platform.machine()}.\n"
    )
    parts = [
        heading,
        table("Rounding and SQuant", NETWORKS, [("float", {}), *bits], measure),
        table("Which range rule, and which sum", HARD, by_rule, measure),
        table("Which stage", HARD, stages, measure),
        table("Batch norm not folded", HARD, [("float", {"folded": False}), *unfolded], measure),
    ]
    with qsdk.write_atomic(given.out) as file:
        file.write("\n".join(parts).encode())


if __name__ == "__main__":
    main()
