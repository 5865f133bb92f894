"""EasyQuant's joint form: scales of weights and activations in turn, for each layer's outputs.

Source: Wu et al., "EasyQuant: Post-training Quantization via Scale Optimization",
arXiv:2006.16669.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, ClassVar

import attrs
import numpy as np
from numpy.typing import NDArray

import qsdk
from qsdk.encodings import Affine
from qsdk.errors import DataError
from qsdk.interfaces import (
    Coding,
    FixedCodes,
    Layer,
    Model,
    Site,
    Tuner,
    columns_refusal,
    input_columns,
    input_pieces,
)
from qsdk.interfaces.model_pass import Feeds
from qsdk_plugins.passes.samples import first_samples
from qsdk_plugins.passes.scale_search import Fed, Search

WHOLE_BYTE = 8  # codes of fewer bits stand for inputs of layers alone
SEED = 0  # of the choice of places


@attrs.frozen(kw_only=True)
class EasyQuantJoint(Tuner):
    """Tries ``factor * scale`` for evenly spaced factors, weights and activations in turn.

    The scales that quantizer and observer found are the start. Layers are gone through in the
    order of the network, and each meets what the layers before it make once they are tuned. With
    its activations as they are each channel of a weight gets the factor under which its outputs,
    bias included, have the largest cosine with the float model's; then, weights as they are, the
    activations get the factor under which the mean cosine of the channels is largest; again, until
    nothing changes. Of equal cosines the factor nearest to 1 stays, and a scale that stays keeps
    its codes; others round to nearest.

    Layers that read the same codes are tuned together, for the sum of their cosines. Tuned are
    affine weights of Conv, Gemm and MatMul whose inputs have fixed codes; scales of other tensors
    stay. Ranges of activations do not grow beyond what was seen, so that a ReLU6 is left to codes.

    measure : "cosine", the paper's; or "error", the squared error over the target's square. A
        cosine does not see a gain: scales can win that clip the largest weights and make every
        output of a channel smaller
    lowest, highest : the factors at the ends
    candidates : how many factors
    rounds : at most so many times weights and activations
    samples : so many inputs are looked at, at most; the model runs on them once for each layer
    rows : of each layer's results at most about so many places are looked at, a fixed random choice
    """

    name: ClassVar[str] = "easyquant_joint"
    paper: ClassVar[str] = "arXiv:2006.16669"
    needs: ClassVar[frozenset[str]] = Tuner.needs | {"codes"}

    measure: str = attrs.field(
        default="cosine", validator=attrs.validators.in_(["cosine", "error"])
    )
    lowest: float = attrs.field(
        default=0.8, converter=float, validator=[attrs.validators.gt(0), attrs.validators.le(1)]
    )
    highest: float = attrs.field(
        default=1.2, converter=float, validator=[attrs.validators.ge(1), attrs.validators.le(4)]
    )
    candidates: int = attrs.field(default=41, validator=attrs.validators.ge(1))
    rounds: int = attrs.field(default=2, validator=attrs.validators.ge(1))
    samples: int = attrs.field(default=32, validator=attrs.validators.ge(1))
    rows: int = attrs.field(default=2048, validator=attrs.validators.ge(1))

    def tune(self, model: Model, coding: Coding, calibration: Iterable[Feeds]) -> Coding:
        batches = list(first_samples(calibration, self.samples))
        if not batches:
            raise DataError(f"{self.name} was given no calibration batch; give one or more")
        layers = {layer.name: layer for layer in model.layers if _is_tunable(layer, coding)}
        for site in _sites(model, coding, layers):
            met = [layers[name] for name in site.layers if name in layers]
            met = [layer for layer in met if layer.input_name in site.tensors]
            if met:
                coding = self._tuned(model, coding, site, met, batches)
        return coding

    def _tuned(
        self,
        model: Model,
        coding: Coding,
        site: Site,
        layers: Sequence[Layer],
        batches: Sequence[Feeds],
    ) -> Coding:
        """The coding with other scales of one site and of the layers that read it."""
        before = {name: codes for name, codes in coding.codes.items() if name not in site.tensors}
        raw = attrs.evolve(coding, codes=before).applied(model)
        codes = coding.codes[site.name]
        fed, needed = [], 0.0
        for layer in layers:
            start = coding.encodings[layer.name]
            assert isinstance(start, Affine)  # or it were not tunable
            inputs = list(_inputs(raw, layer, batches))
            needed = max(needed, *(_reach(x, codes) for x in inputs))
            fed.append(self._fed(layer, start, inputs, _inputs(model, layer, batches)))
        factors = self._factors()
        search = Search(
            layers=fed,
            codes=codes,
            factors=factors,
            code_factors=factors[factors <= max(1.0, needed)],
        )
        scales = search.best(self.rounds)
        found = zip(layers, fed, scales.weights, strict=True)
        return attrs.evolve(
            coding,
            encodings={**coding.encodings, **{a.name: b.encoding(f) for a, b, f in found}},
            codes={**coding.codes, **dict.fromkeys(site.tensors, search.at(scales.codes))},
        )

    def _factors(self) -> NDArray[np.float64]:
        """Those nearest to 1 first; 1 itself is always there, and has the start's codes."""
        even = np.linspace(self.lowest, self.highest, self.candidates)
        even = even[np.abs(even - 1) > 1e-9]
        return np.array([1.0, *even[np.argsort(np.abs(even - 1), kind="stable")]])

    def _fed(
        self,
        layer: Layer,
        start: Affine,
        inputs: Sequence[NDArray[Any]],
        float_inputs: Iterable[NDArray[Any]],
    ) -> Fed:
        weight = np.asarray(layer.weight, np.float32)
        count = -(-self.rows // len(inputs))
        before = np.concatenate([_columns(x, layer, count) for x in float_inputs], axis=2)
        rows = weight.reshape(len(before), -1, before.shape[1])
        bias = np.zeros(layer.shape[0]) if layer.bias is None else layer.bias
        bias = np.asarray(bias, np.float64)
        return Fed(
            weight=weight,
            start=start,
            bias=bias,
            columns=np.concatenate([_columns(x, layer, count) for x in inputs], axis=2),
            target=(rows @ before).reshape(len(weight), -1) + bias[:, None],
            measure=self.measure,
        )


def _is_tunable(layer: Layer, coding: Coding) -> bool:
    encoding = coding.encodings.get(layer.name)
    return (
        isinstance(encoding, Affine)
        and (encoding.scale.ndim == 0 or encoding.scheme.axis in (0, -len(layer.shape)))
        and layer.input_name in coding.codes
        and not columns_refusal(layer)
    )


def _sites(model: Model, coding: Coding, layers: Mapping[str, Layer]) -> list[Site]:
    """Those of these layers' inputs, where all tensors of a site have the same codes."""
    if not layers:
        return []
    bits = {name: coding.codes[layer.input_name].scheme.bits for name, layer in layers.items()}
    sites = model.sites(list(layers), [name for name in layers if bits[name] < WHOLE_BYTE])
    return [site for site in sites if len({coding.codes.get(t) for t in site.tensors}) == 1]


def _inputs(model: Model, layer: Layer, batches: Iterable[Feeds]) -> Iterator[NDArray[Any]]:
    """What meets the layer's weight, batch by batch; operators between codes compute in floats."""
    (stage,) = model.stages([layer.name])
    for feeds in batches:
        x = np.asarray({**feeds, **stage.run(dict(feeds))}[layer.input_name])
        if not np.isfinite(x).all():
            raise DataError(f"the input of {layer.name} holds NaN or infinity on this data")
        yield x


def _reach(x: NDArray[Any], codes: FixedCodes) -> float:
    """The factor under which these codes would cover all values."""
    ends = ((float(x.max(initial=0)), codes.high), (float(x.min(initial=0)), codes.low))
    return max((seen / end for seen, end in ends if end), default=1.0)


def _columns(x: NDArray[Any], layer: Layer, count: int) -> NDArray[np.float32]:
    """About ``count`` of the columns of one batch, the same for every x of one shape."""
    rng, chosen = np.random.default_rng(SEED), []
    for piece in input_pieces(x, layer):
        columns = input_columns(piece, layer)
        share = min(-(-count * piece.size // x.size), columns.shape[2])
        places = np.sort(rng.choice(columns.shape[2], share, replace=False))
        chosen.append(columns[:, :, places])
    return np.concatenate(chosen, axis=2)


@qsdk.hookimpl
def qsdk_passes() -> list[type[Tuner]]:
    return [EasyQuantJoint]
