"""``qsdk compare``: what quantizing has changed, layer by layer and at the output."""

from __future__ import annotations

from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from qsdk.cli.output import Output
from qsdk.cli.text import decibels, shape_text
from qsdk.cli.verb import verb
from qsdk.errors import some

if TYPE_CHECKING:
    from qsdk.cli.comparison import Difference, OutputReport
    from qsdk.interfaces import Model

FILE = click.Path(path_type=Path)


@verb("compare")
@click.argument("float_file", metavar="FLOAT", type=FILE)
@click.argument("quantized_file", metavar="QUANTIZED", type=FILE)
@click.option("--data", help="Feeds for both: FILE.npz with an array per input, FILE.npy for a "
              "single input, or module:function that yields dicts.")  # fmt: skip
@click.option("--labels", "labels_file", type=FILE, help="FILE.npy, or FILE.npz with `labels`.")
@click.option("--batch-size", type=click.IntRange(min=1), default=64, show_default=True)
def command(
    output: Output,
    float_file: Path,
    quantized_file: Path,
    data: str | None,
    labels_file: Path | None,
    batch_size: int,
) -> None:
    """Compare the weights of FLOAT and QUANTIZED, layer by layer.

    With --data both run, and their outputs are compared too, with --labels their accuracy.
    """
    from qsdk.cli.data import load_labels
    from qsdk.pipeline import load

    if labels_file is not None and data is None:
        raise click.UsageError("--labels needs --data: the models must run to be right or wrong")
    after = load(quantized_file)
    models = (_as_quantized(load(float_file), after), after)
    labels = load_labels(labels_file) if labels_file else None
    if data is not None:
        _check_run(models, (float_file, quantized_file))
    rows = _weights(output, *models)
    tensors: dict[str, Difference] = {}
    outputs: list[OutputReport] = []
    if data is not None:
        tensors, outputs = _run(output, models, data, batch_size, labels)
    _document(output, models, rows, tensors, outputs)
    _show(output, rows, tensors)
    _show_outputs(output, outputs)


def _as_quantized(before: Model, after: Model) -> Model:
    """The float model with norms folded and passes done, where the other one was made so."""
    from qsdk.errors import QsdkError
    from qsdk.job import prepared
    from qsdk.recipe import Recipe

    noted = after.metadata.get("recipe")
    try:
        return prepared(before, Recipe.from_dict(noted)) if isinstance(noted, dict) else before
    except QsdkError:  # whatever a file says of itself, what lies in it can be compared
        return before


def _check_run(models: tuple[Model, Model], files: tuple[Path, Path]) -> None:
    from qsdk.errors import OptionError

    for model, file in zip(models, files, strict=True):
        if "run" not in model.has:
            raise OptionError(
                f"--data needs models that can run, and {file.name} ({model.format}) "
                "holds weights without a graph; leave --data out to compare the weights"
            )


def _weights(output: Output, a: Model, b: Model) -> list[dict[str, Any]]:
    """A row per shared layer."""
    import attrs

    from qsdk.cli.comparison import Difference, shared_layers, unshared
    from qsdk.errors import DataError

    pairs, rows = shared_layers(a, b), []
    if not pairs:
        raise DataError(
            "the files have no layer in common: "
            f"{some(layer.name for layer in a.layers) or 'none'} in one, "
            f"{some(layer.name for layer in b.layers) or 'none'} in the other"
        )
    if all(layer.is_float for _, layer in pairs):
        output.note("note: no layer of the second file is quantized")
    if names := unshared(a, b):
        output.note(f"note: not in both files with one shape: {some(names)}")
    with output.progress("comparing") as progress:
        for done, (layer, other) in enumerate(pairs):
            progress(done, len(pairs), layer.name)
            rows.append(
                {
                    "name": layer.name,
                    "operation": layer.operation,
                    "shape": layer.shape,
                    "stored": [layer.stored, other.stored],
                    "weight": attrs.asdict(Difference.between(layer.weight, other.weight)),
                }
            )
    return rows


def _run(
    output: Output, models: tuple[Model, Model], data: str, batch_size: int, labels: Any
) -> tuple[dict[str, Difference], list[OutputReport]]:
    from qsdk.cli.comparison import Outputs, compare_tensors
    from qsdk.cli.data import batches

    collected, tensors = Outputs(*models), {}
    feeds = batches(data, models[0], batch_size)
    first = next(feeds, None)
    with output.progress("running") as progress:
        for done, batch in enumerate(chain([first] if first else [], feeds)):
            progress(done, 0, "batches")
            collected.add(batch)
            if done == 0 and all("graph" in model.has for model in models):
                tensors = compare_tensors(*models, batch)
    return tensors, list(collected.reports(labels))


def _document(
    output: Output,
    models: tuple[Model, Model],
    rows: list[dict[str, Any]],
    tensors: dict[str, Difference],
    outputs: list[OutputReport],
) -> None:
    import attrs

    activations = {name: attrs.asdict(difference) for name, difference in tensors.items()}
    output.document(
        {
            "files": [model.source.name for model in models if model.source],
            "layers": [{**row, "activation": activations.get(row["name"])} for row in rows],
            "outputs": [attrs.asdict(report) for report in outputs],
        }
    )


def _show(output: Output, rows: list[dict[str, Any]], tensors: dict[str, Difference]) -> None:
    heads = ["layer", "shape", "from -> to", ">SQNR dB", ">cosine", ">max error"]
    cells = []
    for row in rows:
        weight, tensor = row["weight"], tensors.get(row["name"])
        cells.append(
            [
                row["name"],
                shape_text(row["shape"]),
                " -> ".join(row["stored"]),
                decibels(weight["sqnr_db"]),
                f"{weight['cosine']:.5f}",
                f"{weight['max_error']:.3g}",
                *([decibels(tensor.sqnr_db) if tensor else "-"] if tensors else []),
            ]
        )
    output.table([*heads, *([">output dB"] if tensors else [])], cells)
    worst = sorted(rows, key=lambda row: row["weight"]["sqnr_db"])[:5]
    named = ", ".join(f"{x['name']} ({decibels(x['weight']['sqnr_db'])} dB)" for x in worst)
    output.say(f"\nworst weights: {named}")
    if tensors:
        low = sorted(tensors, key=lambda name: tensors[name].sqnr_db)[:5]
        named = ", ".join(f"{name} ({decibels(tensors[name].sqnr_db)} dB)" for name in low)
        output.say(f"worst layer outputs, first batch: {named}")


def _show_outputs(output: Output, outputs: list[OutputReport]) -> None:
    for report in outputs:
        text = (
            f"output {report.name}, {report.rows} rows: "
            f"SQNR {decibels(report.difference.sqnr_db)} dB, "
            f"cosine {report.difference.cosine:.5f}, "
            f"max error {report.difference.max_error:.3g}"
        )
        if report.agreement is not None:
            text += f", same argmax {100 * report.agreement:.2f} %"
        output.say(text)
        if report.top1 is not None:
            a, b = (100 * share for share in report.top1)
            output.say(f"top-1: float {a:.2f} %, quantized {b:.2f} % ({b - a:+.2f} points)")
