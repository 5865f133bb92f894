"""What qsdk notes in a model of its making: one JSON document in ``metadata_props``."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import onnx

METADATA_KEY = "qsdk"


def set_metadata(proto: onnx.ModelProto, noted: Mapping[str, Any]) -> None:
    """Note ``noted`` in the place of what was noted before."""
    others = [entry for entry in proto.metadata_props if entry.key != METADATA_KEY]
    del proto.metadata_props[:]
    proto.metadata_props.extend(others)
    if noted:
        entry = proto.metadata_props.add()
        entry.key, entry.value = METADATA_KEY, json.dumps(noted, sort_keys=True)


def read_metadata(proto: onnx.ModelProto) -> dict[str, Any]:
    """What qsdk noted in the model; empty when it has noted nothing readable."""
    for entry in proto.metadata_props:
        if entry.key == METADATA_KEY:
            try:
                noted = json.loads(entry.value)
            except (ValueError, RecursionError):
                return {}
            return noted if isinstance(noted, dict) else {}
    return {}
