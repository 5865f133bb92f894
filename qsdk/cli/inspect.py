"""``qsdk inspect``: what is in a file, and who made it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from qsdk.cli.output import Output
from qsdk.cli.text import by_reason, shape_text, size_text
from qsdk.cli.verb import verb
from qsdk.errors import some

if TYPE_CHECKING:
    from qsdk.interfaces import Layer, Model
    from qsdk.overflow import Sums


@verb("inspect")
@click.argument("file", type=click.Path(path_type=Path))
def command(output: Output, file: Path) -> None:
    """Show the layers of FILE, their number formats and bytes, and who made it with what."""
    from qsdk.pipeline import file_size, load

    model = load(file)
    layers = list(model.layers)
    size = file_size(model)
    sums = _proofs(model, layers, output)
    output.document(
        {
            "file": file.name,
            "format": model.format,
            "file_bytes": size,
            "inputs": list(model.inputs),
            "outputs": list(model.outputs),
            "layers": [_as_dict(layer, sums[layer.name]) for layer in layers],
            "skipped": dict(model.skipped),
            "metadata": dict(model.metadata),
            "notes": list(model.notes),
        }
    )
    proven = {32: ">int32 sums", 16: ">int16 pairs"} if any(sums.values()) else {}
    output.table(
        ["layer", "operation", "shape", "stored", ">bytes", *proven.values()],
        [
            (x.name, x.operation or "-", shape_text(x.shape), _stored(x), str(x.nbytes),
             *(_fullest(sums[x.name], bits) for bits in proven))
            for x in layers
        ],
    )  # fmt: skip
    output.say()
    _say_sums(output, sums)
    _say_totals(output, file, model, layers, size)
    _say_maker(output, model.metadata, layers)


def _stored(layer: Layer) -> str:
    """The format of the weight, and of the input where that is coded."""
    form = str(layer.activations)
    return layer.stored if form == "float32" else f"{layer.stored}, input {form}"


def _proofs(model: Model, layers: list[Layer], output: Output) -> dict[str, Sums]:
    """What sums of each layer reach, by its name; nothing for floats."""
    from qsdk.overflow import overflow_proof

    found: dict[str, Sums] = {layer.name: {} for layer in layers}
    coded = [layer for layer in layers if not layer.is_float]
    if coded:
        codes = model.codes
        with output.progress("proving") as progress:
            for done, layer in enumerate(coded):
                progress(done, len(coded), layer.name)
                found[layer.name] = overflow_proof(layer, codes.get(layer.input_name))
    return found


def _fullest(sums: Sums, bits: int) -> str:
    """How full the worst sum of so many bits gets, of all kernels, in percent of what it holds."""
    each = [x.worst / x.limit for many in sums.values() for x in many if x.bits == bits]
    return f"{max(each):.2%}" if each else "-"


def _say_sums(output: Output, sums: dict[str, Sums]) -> None:
    """Which layers a kernel, or another runtime, would add up wrongly."""
    from qsdk.overflow import RUNTIMES

    over: dict[tuple[str, int], list[str]] = {}
    for layer, found in sums.items():
        for kernel, many in found.items():
            for sum_ in many:
                if not sum_.fits:
                    over.setdefault((kernel, sum_.bits), []).append(layer)
    for (kernel, bits), layers in over.items():
        who = "is not used for" if kernel != RUNTIMES else "without VNNI on x86 can saturate in"
        output.say(f"int{bits} can overflow: {kernel} {who} {some(layers)}")
    if any(sums.values()) and not over:
        output.say("no sum of products can overflow, in any kernel that could run a layer")


def _as_dict(layer: Layer, sums: Sums) -> dict[str, Any]:
    import attrs

    return {
        "name": layer.name,
        "weight_name": layer.weight_name,
        "operation": layer.operation,
        "shape": layer.shape,
        "stored": layer.stored,
        "activations": str(layer.activations),
        "nbytes": layer.nbytes,
        "sums": {
            kernel: [{**attrs.asdict(x), "limit": x.limit, "fits": x.fits} for x in many]
            for kernel, many in sums.items()
        },
    }


def _say_totals(output: Output, file: Path, model: Model, layers: list[Layer], size: int) -> None:
    import math

    weights = sum(math.prod(layer.shape) for layer in layers)
    nbytes = sum(layer.nbytes for layer in layers)
    output.say(
        f"{file.name}: {model.format}, {size_text(size)}; {len(layers)} layers, "
        f"{weights} weights in {size_text(nbytes)} ({8 * nbytes / max(weights, 1):.2f} bits each)"
    )
    if model.inputs:
        output.say(f"inputs: {', '.join(model.inputs)}; outputs: {', '.join(model.outputs)}")
    for line in by_reason(model.skipped):
        output.say(f"no layers: {line}")
    for note in model.notes:
        output.say(f"note: {note}")


def _say_maker(output: Output, metadata: Mapping[str, Any], layers: list[Layer]) -> None:
    """Who quantized it; a file says what it likes of itself, so nothing is taken for granted."""
    if not metadata:
        output.say("not written by qsdk")
        return
    output.say(f"quantized by qsdk {metadata.get('qsdk_version', 'of unknown version')}")
    if "recipe" in metadata:
        output.say(f"recipe: {json.dumps(metadata['recipe'])}")
    made: dict[str, list[str]] = {}
    for name in (layer.name for layer in layers):
        try:
            used = metadata["quantizers"][metadata["layers"][name]["quantizer"]]
            with_what = f"{used['name']} of {used['origin']}, {json.dumps(used['options'])}"
        except (KeyError, IndexError, TypeError):
            continue
        made.setdefault(with_what, []).append(name)
    for with_what, names in made.items():
        output.say(f"{some(names)}: {with_what}")
