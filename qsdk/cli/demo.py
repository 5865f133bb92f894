"""``qsdk demo``: the main job on the network and the images that ship with qsdk."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from qsdk.cli.output import Output
from qsdk.cli.text import size_text
from qsdk.cli.verb import verb

FOLDER = Path(__file__).resolve().parent.parent / "demo"
METHODS = {"rtn": "round to nearest", "squant": "SQuant"}


@verb("demo")
@click.option("--bits", type=click.IntRange(1, 8), default=4, show_default=True)
def command(output: Output, bits: int) -> None:
    """Quantize a small network for handwritten digits in two ways, and count what each gets right.

    Nothing is fetched and nothing is kept: all files lie in a temporary folder.
    """
    import tempfile

    from qsdk.pipeline import quantize_file

    network = FOLDER / "digits.onnx"
    size = network.stat().st_size
    rows = [_row("float32", network, size, 0.0)]
    with tempfile.TemporaryDirectory(prefix="qsdk-demo-") as folder:
        for method, name in METHODS.items():
            target = Path(folder, f"digits-{method}-int{bits}.onnx")
            report = quantize_file(network, target, method, bits=bits)
            rows.append(_row(f"{bits}-bit {name}", target, size, report.seconds))
    output.document({"bits": bits, "images": rows[0]["images"], "rows": rows})
    output.table(
        ["what", ">right %", ">file", ">ratio", ">seconds"],
        [
            (
                row["what"],
                f"{100 * row['top1']:.2f}",
                size_text(row["file_bytes"]),
                f"{row['ratio']:.2f}",
                f"{row['seconds']:.2f}" if row["seconds"] else "-",
            )
            for row in rows
        ],
    )
    output.say(
        f"\n{rows[0]['images']} images that the network has not seen. On a model of your own: "
        f"qsdk quantize MODEL.onnx -o OUT.onnx --method squant --bits {bits}"
    )


def _row(what: str, file: Path, size_before: int, seconds: float) -> dict[str, Any]:
    images, labels = _digits()
    size = file.stat().st_size
    return {
        "what": what,
        "top1": _top1(file, images, labels),
        "images": len(labels),
        "file_bytes": size,
        "ratio": size_before / size,
        "seconds": seconds,
    }


def _digits() -> tuple[Any, Any]:
    """Images as the network takes them, and labels; see ``SOURCE.md`` beside them."""
    import numpy as np

    with np.load(FOLDER / "digits.npz", allow_pickle=False) as digits:
        images = (digits["images"] / 16).astype(np.float32)[:, np.newaxis]
        return images, digits["labels"]


def _top1(file: Path, images: Any, labels: Any) -> float:
    from qsdk.cli.comparison import top1
    from qsdk.pipeline import load

    model = load(file)
    (name,) = model.outputs
    (source,) = model.inputs
    return top1(name, model.run({source: images})[name], labels)
