"""``qsdk bench --advise``: which layers of a model gain from which codes, on this CPU."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from qsdk.cli.output import Output

if TYPE_CHECKING:
    from qsdk.bench.advice import Advice
    from qsdk.interfaces import Model

ACCURACY = "fewer bits cost accuracy, which no time shows: `qsdk compare` measures it"


def advise(
    output: Output, file: Path, data: str | None, batch: int, threads: int, rounds: int
) -> None:
    """Measure the layers of the model in ``file`` and print what to do with each.

    data : as for ``qsdk compare``, its first ``batch`` rows; zeros without
    """
    import attrs

    from qsdk.bench.advice import advise_layers
    from qsdk.bench.machine import Machine
    from qsdk.bench.peers import Numpy, Onnxruntime, installed
    from qsdk.pipeline import load

    model = load(file)
    feeds = _feeds(model, file, data, batch)
    peers, left_out = installed(threads, (Numpy, Onnxruntime))
    versions = {peer.name: version for peer, version in peers.items()}
    machine = Machine.here(threads, versions, left_out)
    with output.progress("measuring") as progress:
        advice = advise_layers(model, feeds, list(peers), rounds, threads, progress)
    output.document(
        {
            "machine": attrs.asdict(machine),
            "rounds": rounds,
            "model": file.name,
            "feeds": {name: array.shape for name, array in feeds.items()},
            "layers": [each.to_dict() for each in advice],
            "total_ns": _totals(advice),
        }
    )
    for line in machine.lines():
        output.say(line)
    output.say()
    _show(output, advice)


def _feeds(model: Model, file: Path, data: str | None, batch: int) -> Mapping[str, Any]:
    from qsdk.cli.data import batches
    from qsdk.errors import DataError, OptionError

    if "run" not in model.has:
        raise OptionError(
            f"--advise needs a model that can run, and {file.name} ({model.format}) holds weights "
            "without a graph; give shapes with --shape"
        )
    if data is None:
        return model.blank(batch)
    feeds = next(batches(data, model, batch), None)
    if feeds is None:
        raise DataError(f"{data} holds no batch; --advise runs the model on the first one")
    return feeds


def _totals(advice: Sequence[Advice]) -> dict[str, float]:
    """Time of all layers that can be compared, in float and as advised."""
    totals = {"float": 0.0, "advised": 0.0}
    for each in advice:
        if each.measured is not None and each.measured.floats is not None:
            in_float = each.measured.floats.timing.best_ns
            way = each.measured.advised
            totals["float"] += in_float
            totals["advised"] += each.measured.ways[way].timing.best_ns if way else in_float
    return totals


def _show(output: Output, advice: Sequence[Advice]) -> None:
    from qsdk.bench.advice import WAYS
    from qsdk.bench.tables import ratio_text, time_text

    used = {way for each in advice if each.measured for way in each.measured.ways}
    ways = [way for way in WAYS if way in used]
    rows = []
    for each in advice:
        times, gain = ["-"] * (1 + len(ways)), None
        if (measured := each.measured) is not None:
            found = [measured.floats, *(measured.ways.get(way) for way in ways)]
            times = [time_text(way.timing.best_ns) if way else "-" for way in found]
            gain = measured.gain(measured.best)
        rows.append([each.layer.name, str(each.work or each.layer.operation), *times,
                     ratio_text(gain), _bytes(each), each.verdict()])  # fmt: skip
    heads = ["layer", "shape", ">float32", *(f">{way}" for way in ways), ">gain", ">bytes"]
    output.table([*heads, "advice"], rows)
    output.say()
    totals = _totals(advice)
    if totals["advised"]:
        output.say(
            f"these layers: {time_text(totals['float'])} in float32, "
            f"{time_text(totals['advised'])} as advised "
            f"({ratio_text(totals['float'] / totals['advised'])})"
        )
    for line in _missing(advice):
        output.say(line)
    output.say(f"note: {ACCURACY}")


def _bytes(each: Advice) -> str:
    way = each.measured.best if each.measured else None
    if each.measured is None or way is None:
        return str(each.float_bytes)
    return f"{each.float_bytes} -> {each.measured.nbytes[way]}"


def _missing(advice: Sequence[Advice]) -> list[str]:
    """One line per way and reason."""
    from qsdk.bench.tables import shortened

    found: dict[str, list[str]] = {}
    for each in advice:
        for way, reason in each.measured.missing.items() if each.measured else ():
            found.setdefault(f"{way}: {reason}", []).append(each.layer.name)
    return [f"not measured: {len(names)} layers, {shortened(why)}" for why, names in found.items()]
