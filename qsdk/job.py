"""A model made ready to be quantized: passes, the plan, what calibration tells."""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Executor
from pathlib import Path
from typing import Any

import attrs

from qsdk.calibration import (
    Calibration,
    Data,
    Moments,
    as_batches,
    batches,
    calibrate,
    held_to_norms,
    notes_on_noise,
)
from qsdk.errors import DataError, PreflightError, QsdkError, some
from qsdk.interfaces import Model, ModelPass, noise
from qsdk.interfaces.model_pass import Feeds
from qsdk.output_check import Sample, check_outputs, warnings
from qsdk.plan import FROM_DATA, Plan, Task, chosen_passes, is_observer, make_plan
from qsdk.recipe import Recipe

PASS_ROWS = 8  # of a batch that passes get at a time, where a model takes any number
PASS_BYTES = 2**21  # of such rows, unless one takes more
Progress = Callable[[int, int, str], None]


@attrs.frozen(kw_only=True)
class Calibrating:
    """The data of a run, and how to go through it; see :func:`qsdk.calibrate`."""

    data: Data | None = attrs.field(default=None, converter=attrs.converters.optional(as_batches))
    executor: Executor | None = None
    state: str | Path | None = None
    max_memory: int | None = None

    @property
    def has_data(self) -> bool:
        return self.data is not None

    @property
    def is_once(self) -> bool:
        """Whether the data can be gone through once only."""
        return self.data is not None and iter(self.data) is self.data


class Job:
    """A model with all that is known before its weights are quantized.

    model : with its batch norms folded where layers run in integers, and with what passes before
        quantization do
    """

    def __init__(
        self,
        model: Model,
        recipe: Recipe,
        calibrating: Calibrating,
        output: Path | None = None,
        progress: Progress | None = None,
    ):
        self._calibrating = calibrating
        self._sample = Sample(() if calibrating.data is None else calibrating.data)
        self._before = with_norms_folded(model, recipe)
        self.model = self._before
        self.plan = self._planned(recipe, output)
        if self.plan.first:
            self.model = self._passed(self._before, self.plan.first)
            self.plan = self._planned(recipe, output)
        if calibrating.data is not None:
            self.plan = with_moments(self.plan, self.model, calibrating.data)
        self.calibration = self._calibrated(progress) if self.plan.watches else None

    def _planned(self, recipe: Recipe, output: Path | None) -> Plan:
        plan = make_plan(self.model, recipe, output, has_data=self._calibrating.has_data)
        needing = [pass_.name for pass_ in plan.first if "calibration" in pass_.needs]
        if any(task.quantizer.capabilities.needs & FROM_DATA for task in plan.work):
            needing.append("the method, which looks at the inputs of layers,")
        if needing and self._calibrating.is_once:
            raise PreflightError(
                [
                    f"{needing[0]} takes more than one pass, and the calibration data can be gone "
                    "through once; give a list of batches"
                ]
            )
        return plan

    def _calibrated(self, progress: Progress | None) -> Calibration:
        model, data = self._seen
        return calibrate(
            model,
            self.plan.watches,
            data,
            progress=progress,
            executor=self._calibrating.executor,
            state=self._calibrating.state,
            max_memory=self._calibrating.max_memory,
        )

    @property
    def _seen(self) -> tuple[Model, Data]:
        """What is run for observers, and on what: without data noise through held layers."""
        if self._calibrating.has_data:
            return self.model, self._sample
        feeds = self._noise
        return held_to_norms(self.model, feeds), [feeds]

    @functools.cached_property
    def _noise(self) -> Feeds:
        """Noise over the ranges that inputs are known to have."""
        ranges = {}
        for watch in self.plan.watches:
            with contextlib.suppress(DataError):  # none before it has seen something
                low, high = watch.new().range()
                ranges[watch.name] = float(low), float(high)
        return noise(self.model, ranges=ranges)

    @property
    def coding(self) -> dict[str, Any]:
        """Adapters that know nothing of coded inputs are not asked for them."""
        coding: dict[str, Any] = {}
        if self.plan.activations:
            coding["activations"] = self.plan.activations
        if self.calibration is not None:
            coding["codes"] = self.calibration.codes
        return coding

    def finished(self, quantized: Model) -> Model:
        """The quantized model after its passes; itself where there are none."""
        return self._passed(quantized, self.plan.last, self.model)

    def _passed(
        self, model: Model, passes: Iterable[ModelPass], reference: Model | None = None
    ) -> Model:
        for pass_ in passes:
            feeds = self._feeds(model, is_first=reference is None)
            model = pass_.apply(model, reference=reference, calibration=feeds)
        return model

    def _feeds(self, model: Model, *, is_first: bool) -> Iterator[Feeds]:
        """The data as passes take it; of data that goes by once, the rows that were kept."""
        data, is_once = self._calibrating.data, self._calibrating.is_once
        if data is None and self.plan.watches and not is_first:
            yield self._noise
        if data is None or (is_once and is_first):
            return
        types = model.input_types.values()
        is_free = all(t.shape is not None and t.shape[:1] == (None,) for t in types)
        for batch in batches(self._sample.first() if is_once else data, model):
            rows = PASS_BYTES * batch.rows // sum(array.nbytes for array in batch.feeds.values())
            for _, part in batch.parts(min(max(rows, 1), PASS_ROWS) if is_free else 0):
                yield part

    def facts(self, quantized: Model, notes: Sequence[str]) -> dict[str, Any]:
        """What the report says beside the layers."""
        if not self._calibrating.has_data:
            unseen = notes_on_noise(self.model, self._noise) if self.calibration else []
            return {"notes": (*notes, *unseen)}
        outputs = check_outputs(self._before, quantized, self._sample.first())
        found = self.calibration
        return {
            "notes": (
                *notes,
                *quantized.run_notes(),
                *warnings(outputs),
                *(_thin(found) if found else ()),
            ),
            "outputs": outputs,
            "coverage": found.lines if found else {},
        }


def _thin(calibration: Calibration) -> list[str]:
    """One line for all tensors of which too little was seen."""
    if not calibration.thin:
        return []
    return [
        f"warning: {len(calibration.thin)} of {len(calibration.watches)} ranges may be too narrow "
        f"({some(calibration.thin, 3)}): more calibration data would tell"
    ]


def with_moments(plan: Plan, model: Model, data: Data) -> Plan:
    """The plan, with layers that can tell of their inputs where their quantizers need it."""
    looking = [task.layer for task in plan.work if task.quantizer.capabilities.needs & FROM_DATA]
    if not looking:
        return plan
    found = Moments(model, looking, data)

    def told(task: Task) -> Task:
        name = task.layer.name
        if task.layer not in looking:
            return task
        layer = attrs.evolve(
            task.layer,
            hessian=lambda: found.of(name).hessian,
            input_mean=lambda: found.of(name).mean,
        )
        return attrs.evolve(task, layer=layer)

    return attrs.evolve(plan, work=tuple(map(told, plan.work)))


def with_norms_folded(model: Model, recipe: Recipe) -> Model:
    """The model as it is before the passes of the recipe: integers have no batch norms."""
    return model.folded() if uses_observers(recipe) else model


def prepared(model: Model, recipe: Recipe) -> Model:
    """The float model whose weights a run of the recipe quantizes, as far as data has no say."""
    model = with_norms_folded(model, recipe)
    passes, _ = chosen_passes(model, recipe)
    for pass_ in passes:
        if not pass_.is_last and "calibration" not in pass_.needs:
            model = pass_.apply(model)
    return model


def uses_observers(recipe: Recipe) -> bool:
    """Whether some layers are to have inputs with fixed codes."""
    named = {recipe.activations, *(rule.activations for rule in recipe.rules)}
    with contextlib.suppress(QsdkError):  # an unknown name is for the plan to report
        return any(is_observer(method) for method in named if method is not None)
    return False
