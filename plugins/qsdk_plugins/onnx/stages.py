"""A model cut behind some of its layers, each piece a model of its own."""

from __future__ import annotations

import threading
from collections.abc import Callable, Collection, Mapping
from typing import Any

from numpy.typing import NDArray

from qsdk.errors import DataError
from qsdk.interfaces import Stage
from qsdk_plugins.onnx.graph import Graph
from qsdk_plugins.onnx.piece import piece
from qsdk_plugins.onnx.runtime import one_line, open_session
from qsdk_plugins.onnx.sites import data_input
from qsdk_plugins.onnx.writing import names_read

Arrays = Mapping[str, NDArray[Any]]


def stages(graph: Graph, layers: Collection[str], inputs: Collection[str]) -> list[Stage]:
    """Each computes what its layer depends on and no stage before has computed."""
    nodes = list(graph.proto.graph.node)
    fixed = graph.constants.fixed
    reads = [{name for name in names_read(node) if name not in fixed} for node in nodes]
    makers = {name: i for i, node in enumerate(nodes) for name in node.output if name}
    outputs = {info.name for info in graph.proto.graph.output}
    done: set[int] = {i for i, node in enumerate(nodes) if fixed.issuperset(node.output)}
    held, found = frozenset(inputs), []
    for weight in graph.weights.values():
        if weight.layer.name not in layers:
            continue
        output = weight.node.output[0]
        mine = _ancestors(output, held, reads, makers) - done
        done |= mine
        later = set().union(*(reads[i] for i in range(len(nodes)) if i not in done), outputs)
        made = {name for i in mine for name in nodes[i].output if name}
        given = {name for i in mine for name in reads[i]} & held
        results = sorted((made & (later | {data_input(weight)})) | {output})
        held = frozenset((held | made) & later) | {output}
        run = _lazy(graph, sorted(mine), sorted(given), results)
        found.append(Stage(layer=weight.layer.name, output=output, keep=held, run=run))
    return found


def _ancestors(
    name: str, held: frozenset[str], reads: list[set[str]], makers: dict[str, int]
) -> set[int]:
    """Nodes that compute ``name`` from what is held."""
    found: set[int] = set()
    waiting = [name]
    while waiting:
        tensor = waiting.pop()
        if tensor in held and tensor != name:
            continue
        maker = makers.get(tensor)
        if maker is not None and maker not in found:
            found.add(maker)
            waiting += reads[maker]
    return found


def _lazy(
    graph: Graph, nodes: list[int], inputs: list[str], outputs: list[str]
) -> Callable[[Arrays], dict[str, NDArray[Any]]]:
    """A session that is opened when the types of its inputs are known."""
    sessions: list[Any] = []
    opening = threading.Lock()

    def run(held: Arrays) -> dict[str, NDArray[Any]]:
        feeds = {name: held[name] for name in inputs}
        with opening:
            if not sessions:
                proto = piece(graph, nodes, feeds, outputs).SerializeToString()
                sessions.append(open_session(proto, 1, alone=False, is_piece=True))
        try:
            values = sessions[0].run(outputs, feeds)
        except Exception as error:  # onnxruntime has a type of its own for each fault
            raise DataError(f"the model cannot run on this: {one_line(error)}") from None
        return dict(zip(outputs, values, strict=True))

    return run
