"""``qsdk compare``: what quantizing has changed, layer by layer and at the output."""

from __future__ import annotations

from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from qsdk.cli.compare_text import OWN_ROWS, Found, show
from qsdk.cli.output import Output
from qsdk.cli.verb import verb
from qsdk.errors import some

if TYPE_CHECKING:
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

    With --data both run, and their outputs are compared too, with --labels their accuracy; and
    each layer's own error is split into clipping, rounding and saturation.
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
    found = _run(output, models, data, batch_size, labels) if data is not None else Found()
    _document(output, models, rows, found)
    show(output, rows, found)


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
) -> Found:
    from qsdk.cli.comparison import Outputs, compare_tensors, first_rows
    from qsdk.cli.data import batches
    from qsdk.layer_errors import code_errors, layer_errors

    collected, found = Outputs(*models), Found()
    feeds = batches(data, models[0], batch_size)
    first = next(feeds, None)
    with output.progress("running") as progress:
        for done, batch in enumerate(chain([first] if first else [], feeds)):
            progress(done, 0, "batches")
            collected.add(batch)
    found.outputs = list(collected.reports(labels))
    if first and all("graph" in model.has for model in models):
        few = first_rows(models[0], first, OWN_ROWS)
        found.tensors = compare_tensors(*models, first)
        found.own = layer_errors(*models, few)
        found.codes = code_errors(*models, few)
    return found


def _document(
    output: Output, models: tuple[Model, Model], rows: list[dict[str, Any]], found: Found
) -> None:
    import attrs

    activations = {name: attrs.asdict(difference) for name, difference in found.tensors.items()}
    own = {name: {**attrs.asdict(e), "cause": e.cause} for name, e in found.own.items()}
    output.document(
        {
            "files": [model.source.name for model in models if model.source],
            "layers": [
                {**row, "activation": activations.get(row["name"]), "own": own.get(row["name"])}
                for row in rows
            ],
            "codes": {name: attrs.asdict(error) for name, error in found.codes.items()},
            "outputs": [attrs.asdict(report) for report in found.outputs],
        }
    )
