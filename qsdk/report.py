"""What a run did, layer by layer, in numbers a person can act on."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import attrs

SCHEMA_VERSION = 1  # of a report as a document


@attrs.frozen(kw_only=True)
class LayerReport:
    """One quantized layer. Bytes are those of the weight; errors are of the weight's values.

    sqnr_db : signal-to-quantization-noise ratio of the weight; inf when it came out exact
    max_error : largest absolute error, in units of the weight
    """

    name: str
    operation: str
    shape: tuple[int, ...]
    stored_before: str
    stored_after: str
    method: str
    nbytes_before: int
    nbytes_after: int
    sqnr_db: float
    max_error: float
    seconds: float

    @property
    def count(self) -> int:
        """Weights in the layer."""
        return math.prod(self.shape)


@attrs.frozen(kw_only=True)
class OutputCheck:
    """How far one output of the quantized model is from the float model's, on some rows of data.

    agreement : share of rows with the highest value at the same place; None for a vector
    """

    name: str
    rows: int
    sqnr_db: float
    agreement: float | None

    def __str__(self) -> str:
        text = f"output {self.name} on {self.rows} calibration rows: SQNR {self.sqnr_db:.2f} dB"
        return text if self.agreement is None else f"{text}, same argmax {self.agreement:.2%}"


@attrs.frozen(kw_only=True)
class Report:
    """A whole run.

    kept : layers that stay as they are, with the reason
    file_bytes_before, file_bytes_after : sizes of the files, 0 where there is no file
    notes : what the reader should know, such as a number format that the file cannot hold
    outputs : what the run did to the outputs, where there was data to tell
    coverage : for each tensor with fixed codes what its observer saw, and whether it was enough
    """

    recipe: Mapping[str, Any]
    layers: tuple[LayerReport, ...]
    kept: Mapping[str, str]
    seconds: float
    source: str = ""
    output: str = ""
    file_bytes_before: int = 0
    file_bytes_after: int = 0
    notes: tuple[str, ...] = ()
    outputs: tuple[OutputCheck, ...] = ()
    coverage: Mapping[str, str] = attrs.field(factory=dict)

    @property
    def nbytes_before(self) -> int:
        return sum(layer.nbytes_before for layer in self.layers)

    @property
    def nbytes_after(self) -> int:
        return sum(layer.nbytes_after for layer in self.layers)

    @property
    def ratio(self) -> float:
        """How many times smaller the quantized weights are."""
        return self.nbytes_before / max(self.nbytes_after, 1)

    @property
    def bits_per_weight(self) -> float:
        """Bits for one quantized weight, scales and zero_points included."""
        return 8 * self.nbytes_after / max(sum(layer.count for layer in self.layers), 1)

    @property
    def worst(self) -> Sequence[LayerReport]:
        """The five layers of lowest SQNR, worst first."""
        return sorted(self.layers, key=lambda layer: layer.sqnr_db)[:5]

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON; an infinite SQNR is None there."""
        layers = [
            {
                **attrs.asdict(layer),
                "shape": list(layer.shape),
                "sqnr_db": layer.sqnr_db if math.isfinite(layer.sqnr_db) else None,
            }
            for layer in self.layers
        ]
        return {
            "schema_version": SCHEMA_VERSION,
            **attrs.asdict(self, filter=lambda field, _: field.name != "layers"),
            "layers": layers,
            "nbytes_before": self.nbytes_before,
            "nbytes_after": self.nbytes_after,
            "ratio": self.ratio,
            "bits_per_weight": self.bits_per_weight,
            "worst": [layer.name for layer in self.worst],
        }

    def __str__(self) -> str:
        rows = [("layer", "shape", "from -> to", "bytes", "SQNR dB", "max error")]
        for layer in self.layers:
            rows.append(
                (
                    layer.name,
                    "x".join(map(str, layer.shape)),
                    f"{layer.stored_before} -> {layer.stored_after}",
                    f"{layer.nbytes_before} -> {layer.nbytes_after}",
                    f"{layer.sqnr_db:.2f}",
                    f"{layer.max_error:.3g}",
                )
            )
        widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
        lines = ["  ".join(map(str.ljust, row, widths)).rstrip() for row in rows]
        return "\n".join([*lines, *map(str, self.outputs), self.summary()])

    def summary(self) -> str:
        """The totals in one line."""
        return (
            f"{len(self.layers)} layer{'s' * (len(self.layers) != 1)} quantized, "
            f"{len(self.kept)} kept; weights "
            f"{self.ratio:.2f}x smaller, {self.bits_per_weight:.2f} bits per weight, "
            f"{self.seconds:.2f} s"
        )
