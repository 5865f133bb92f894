"""The main job: open, check everything first, quantize a tensor at a time, write, prove."""

from __future__ import annotations

import hashlib
import os
import time
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import Executor
from pathlib import Path
from typing import Any, TypeVar

import attrs
import numpy as np
from numpy.typing import NDArray

import qsdk
from qsdk import metrics, recipes
from qsdk.calibration import Calibration, Data
from qsdk.encodings import Encoding
from qsdk.errors import (
    DataError,
    FileRefusedError,
    NothingQuantizedError,
)
from qsdk.interfaces import Adapter, Model, Quantizer, Tuner
from qsdk.job import Calibrating, Job, Progress
from qsdk.plan import Plan, Task
from qsdk.recipe import Recipe
from qsdk.registry import registry
from qsdk.report import LayerReport, Report
from qsdk.storage import container

T = TypeVar("T", list[Any], dict[str, Any])


def load(source: Any) -> Model:
    """Open a model: a path, or an object that an adapter knows (a dict of arrays).

    Raises FileRefusedError for what is not there, damaged or of no known kind, and
    MissingExtraError with what to install.
    """
    if isinstance(source, (str, os.PathLike)):
        source = Path(source)
        if not source.exists():
            raise FileRefusedError(f"there is no file {str(source)!r}")
        if not source.is_file():
            raise FileRefusedError(f"{str(source)!r} is not a file")
    adapters = [entry.target() for entry in registry.entries("adapter")]
    for adapter in adapters:
        if adapter.accepts(source):
            model: Model = adapter.open(source)
            return model
    what = repr(source.name) if isinstance(source, Path) else f"a {type(source).__name__}"
    raise FileRefusedError(f"no adapter opens {what}; known: {_known_sources(adapters)}")


def _known_sources(adapters: list[Adapter]) -> str:
    return ", ".join(f"{a.name} ({', '.join(a.suffixes) or 'in memory'})" for a in adapters)


class Run:
    """One pass over a plan: encodings come out one at a time, the report grows beside them."""

    def __init__(
        self,
        plan: Plan,
        recipe: Recipe,
        progress: Progress | None = None,
        before: Mapping[str, Any] | None = None,
        calibration: Calibration | None = None,
    ):
        self.plan = plan
        self._calibration = calibration
        self.recipe = recipe
        self.rows: list[LayerReport] = []
        # What earlier runs noted of the layers that stay. Quantizers stand once, for all layers.
        noted = before or {}
        self._quantizers = _copy_of(noted.get("quantizers"), list)
        self._layers = _copy_of(noted.get("layers"), dict)
        self._progress = progress or (lambda done, total, name: None)
        self._version = qsdk.__version__  # now: an installation may be replaced meanwhile
        self._start = time.perf_counter()

    def encodings(self) -> Iterator[tuple[str, Encoding]]:
        """Quantize layer by layer; nothing of a layer is kept but its row in the report."""
        total = len(self.plan.work)
        for done, task in enumerate(self.plan.work):
            self._progress(done, total, task.layer.name)
            weight = task.layer.weight
            start = time.perf_counter()
            encoding = task.quantizer.quantize(weight, layer=task.layer)
            self._note(task, weight, encoding, time.perf_counter() - start)
            del weight
            yield task.layer.name, encoding
        self._progress(total, total, "")

    def _note(self, task: Task, weight: Any, encoding: Encoding, seconds: float) -> None:
        layer, quantizer = task.layer, task.quantizer
        if tuple(encoding.shape) != layer.shape:
            raise DataError(
                f"{quantizer.name} gave {encoding.shape} for {layer.name} of {layer.shape}"
            )
        decoded = encoding.dequantize()
        if not _fits(decoded, weight.dtype):
            raise DataError(
                f"{layer.name}: decoded values do not fit {weight.dtype}, the type of the weight; "
                "use more bits, or a range_rule that clips"
            )
        self.rows.append(
            LayerReport(
                name=layer.name,
                operation=layer.operation,
                shape=layer.shape,
                stored_before=layer.stored,
                stored_after=encoding.describe(),
                method=quantizer.name,
                nbytes_before=layer.nbytes,
                nbytes_after=encoding.nbytes,
                sqnr_db=metrics.sqnr_db(weight, decoded),
                max_error=metrics.max_error(weight, decoded),
                seconds=seconds,
            )
        )
        made_by = {
            "name": quantizer.name,
            "origin": task.origin,
            "options": _options(quantizer),
        }
        if made_by not in self._quantizers:
            self._quantizers.append(made_by)
        self._layers[layer.name] = {
            "quantizer": self._quantizers.index(made_by),
            "source_sha256": _sha256(weight),
        }

    def renew(self, quantized: Model) -> None:
        """Rows of weights that passes moved, as these are now."""
        tuners = [pass_.name for pass_ in self.plan.last if isinstance(pass_, Tuner)]
        if not tuners:
            return
        before = {task.layer.name: task.layer for task in self.plan.work}
        after = {layer.name: layer for layer in quantized.layers}
        for i, row in enumerate(self.rows):
            weight, decoded = before[row.name].weight, after[row.name].weight
            self.rows[i] = attrs.evolve(
                row,
                method=", ".join([row.method, *tuners]),
                sqnr_db=metrics.sqnr_db(weight, decoded),
                max_error=metrics.max_error(weight, decoded),
            )

    def metadata(self) -> dict[str, Any]:
        """What the written file says of its making: the same for the same input and options."""
        return {
            "schema_version": container.SCHEMA_VERSION,
            "qsdk_version": self._version,
            "recipe": self.recipe.to_dict(),
            "quantizers": self._quantizers,
            "layers": self._layers,
            **self._data(),
        }

    def _data(self) -> dict[str, Any]:
        """What fixed codes were found on."""
        found = self._calibration
        if found is None:
            return {}
        noted = {
            "batches": found.batches,
            "rows": found.rows,
            "data_sha256_sum": f"{found.data:064x}",
        }
        return {"calibration": noted}

    def report(self, **more: Any) -> Report:
        return Report(
            recipe=self.recipe.to_dict(),
            layers=tuple(self.rows),
            kept=dict(self.plan.kept),
            seconds=time.perf_counter() - self._start,
            **more,
        )


def _sha256(weight: Any) -> str:
    values = np.ascontiguousarray(weight).reshape(-1)  # bfloat16 has no buffer, its bytes have
    return hashlib.sha256(values.view(np.uint8).data).hexdigest()


def _fits(decoded: NDArray[np.float32], dtype: np.dtype[Any]) -> bool:
    """Whether the values stay finite in the type that the weight had."""
    with np.errstate(over="ignore"):
        return dtype.itemsize >= 4 or bool(np.isfinite(decoded.astype(dtype)).all())


def _copy_of(noted: Any, kind: type[T]) -> T:
    """What a file says of itself may be anything: taken only if it is of the right kind."""
    return kind(noted) if isinstance(noted, kind) else kind()


def _options(quantizer: Quantizer) -> dict[str, Any]:
    def plain(instance: Any, field: Any, value: Any) -> Any:
        return list(value) if isinstance(value, tuple) else value

    return attrs.asdict(quantizer, value_serializer=plain)


@attrs.frozen
class Result:
    """A quantized model and the report of its making.

    calibration : the statistics behind fixed codes of activations; None where there are none
    """

    model: Model
    report: Report
    calibration: Calibration | None = None

    def __str__(self) -> str:
        return str(self.report)


def as_recipe(
    recipe: Recipe | str | Path | None, options: Mapping[str, Any], *, has_data: bool = False
) -> Recipe:
    """A recipe from itself, a ``.toml`` file, its name or a method's, with more options.

    Where nothing is said it is squant, and the recipe ``int8`` where there is data to calibrate on.
    """
    if recipe is None:
        recipe = recipes.find(recipes.WITH_DATA) if has_data else Recipe()
    elif not isinstance(recipe, Recipe):
        if str(recipe).endswith(".toml"):
            recipe = Recipe.from_file(recipe)
        else:
            name = str(recipe)
            recipe = recipes.find(name) if name in recipes.names() else Recipe(method=name)
    return attrs.evolve(recipe, options={**recipe.options, **options})


def quantize_model(
    model: Model | Any,
    recipe: Recipe | str | Path | None = None,
    *,
    calibration: Data | None = None,
    executor: Executor | None = None,
    calibration_state: str | Path | None = None,
    max_memory: int | None = None,
    progress: Progress | None = None,
    **options: Any,
) -> Result:
    """Quantize a model in memory; the one given is not changed.

    model : a Model, or anything that :func:`load` takes
    recipe : a Recipe, a ``.toml`` file, a recipe's name or a quantizer's; by default squant, and
        the recipe ``int8`` where there is data
    calibration : batches for activations with fixed codes: dicts of arrays, or arrays for a model
        with one input, or one of these alone; no labels
    executor, calibration_state, max_memory : see :func:`qsdk.calibrate`
    progress : called with (layers done, layers in all, name) as the work goes on
    options : on top of the recipe's, such as ``bits=4``

    Raises PreflightError with every problem at once, before any work.
    """
    model = model if isinstance(model, Model) else load(model)
    calibrating = Calibrating(
        data=calibration, executor=executor, state=calibration_state, max_memory=max_memory
    )
    recipe = as_recipe(recipe, options, has_data=calibrating.has_data)
    job = Job(model, recipe, calibrating, progress=progress)
    run = Run(job.plan, recipe, progress, job.model.metadata, job.calibration)
    quantized = _quantized(job, run)
    facts = job.facts(quantized, quantized.notes)
    return Result(quantized, run.report(**facts), job.calibration)


def _quantized(job: Job, run: Run) -> Model:
    """The model in memory, with what passes do to it after quantization."""
    encodings = dict(run.encodings())
    quantized = job.model.with_encodings(encodings, run.metadata(), **job.coding)
    quantized = job.finished(quantized)
    run.renew(quantized)
    return quantized


def quantize_file(
    source: str | Path,
    output: str | Path,
    recipe: Recipe | str | Path | None = None,
    *,
    calibration: Data | None = None,
    executor: Executor | None = None,
    calibration_state: str | Path | None = None,
    max_memory: int | None = None,
    progress: Progress | None = None,
    **options: Any,
) -> Report:
    """Quantize a file into another, a tensor at a time; then open the result and count.

    The output appears whole or not at all, and may take the place of the source.
    Arguments are those of :func:`quantize_model`.
    Raises PreflightError with every problem at once, before any work.
    """
    model, output = load(source), Path(output)
    calibrating = Calibrating(
        data=calibration, executor=executor, state=calibration_state, max_memory=max_memory
    )
    recipe = as_recipe(recipe, options, has_data=calibrating.has_data)
    job = Job(model, recipe, calibrating, output, progress)
    run = Run(job.plan, recipe, progress, job.model.metadata, job.calibration)
    size_before = file_size(model)
    notes = _write(job, run, output)
    written = load(output)
    quantized = _quantized_layers(written) - _quantized_layers(model)
    if quantized < len(run.rows):
        raise NothingQuantizedError(
            f"{quantized} of {len(run.rows)} layers are quantized in {output.name}; "
            "this is a fault of the adapter or the encoding: please report it"
        )
    return run.report(
        source=Path(source).name,
        output=output.name,
        file_bytes_before=size_before,
        file_bytes_after=file_size(written),
        **job.facts(written, notes),
    )


def _write(job: Job, run: Run, output: Path) -> Sequence[str]:
    """A tensor at a time, unless passes change the model once it is quantized; notes on it."""
    if not job.plan.last:
        return job.model.write(output, run.encodings(), run.metadata, **job.coding)
    quantized = _quantized(job, run)
    quantized.save(output)
    return quantized.notes


def _quantized_layers(model: Model) -> int:
    return sum(not layer.is_float for layer in model.layers)


def file_size(model: Model) -> int:
    """Bytes of all files that the model lies in."""
    return sum(file.stat().st_size for file in model.files)
