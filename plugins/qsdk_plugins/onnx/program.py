"""An ONNX model made ready to run: steps of qsdk, and between them pieces for another runtime.

A piece holds all nodes that need no result of a later step, so there are as few pieces as the graph
allows. What is computed from constants alone belongs to every piece that needs it.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import attrs
import numpy as np
import onnx
import onnx.helper
from numpy.typing import NDArray

from qsdk.interfaces import Piece, Program
from qsdk_plugins.onnx.graph import Graph
from qsdk_plugins.onnx.operands import Operands
from qsdk_plugins.onnx.runtime import Runtime, best_runtime, known_types
from qsdk_plugins.onnx.skeleton import is_external, set_inside
from qsdk_plugins.onnx.steps import Step, find_steps
from qsdk_plugins.onnx.writing import names_read

FLOATS = onnx.TypeProto(tensor_type=onnx.TypeProto.Tensor(elem_type=onnx.TensorProto.FLOAT))


@attrs.frozen(eq=False)
class Part:
    """Nodes that another runtime computes, from and to values by name."""

    nodes: tuple[str, ...]
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    runtime: Runtime

    def call(self, *values: Any) -> list[Any]:
        return self.runtime.run(dict(zip(self.inputs, values, strict=True)))


Maker = Step | onnx.NodeProto


class OnnxProgram(Program):
    """Steps and parts, in turns: a part, then the steps that can run after it."""

    def __init__(self, graph: Graph, threads: int):
        self._proto, self._constants, self._threads = graph.proto, graph.constants, threads
        nodes = graph.proto.graph.node
        self._outputs = [info.name for info in graph.proto.graph.output]
        readers = Counter(name for node in nodes for name in names_read(node))
        readers.update(self._outputs)
        operands = Operands(graph.constants)
        self._steps = list(find_steps(graph.proto.graph, operands, readers, threads))
        made = {name: step for step in self._steps for name in step.outputs if name}
        self._makers: dict[str, Maker] = {**graph.constants.producers, **made}
        self._types = {info.name: info.type for info in graph.proto.graph.input}
        self._types |= dict.fromkeys(made, FLOATS)
        self._known = self._known_beforehand()
        self._work = self._in_turns()
        self.plan = tuple(map(_piece, self._work))

    def run(self, feeds: Mapping[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
        values: dict[str, Any] = {**self._known, **feeds}
        for work in self._work:
            results = work.call(*(values[name] if name else None for name in work.inputs))
            values.update(zip(work.outputs, results, strict=False))
        return {name: np.asarray(values[name]) for name in self._outputs}

    def _known_beforehand(self) -> dict[str, NDArray[Any]]:
        """Constants that steps and outputs read as they are."""
        read = {*self._outputs, *(name for step in self._steps for name in step.inputs)}
        tensors = self._constants.initializers
        return {name: self._constants.reader.read(tensors[name]) for name in tensors.keys() & read}

    def _needs(self, maker: Maker) -> list[str]:
        """Values that it reads; a node has the constants that it reads with it."""
        if isinstance(maker, Step):
            return [name for name in maker.inputs if name and name not in self._known]
        names = (
            name for name in dict.fromkeys(names_read(maker)) if name not in self._constants.fixed
        )
        return [name for name in names if name in self._makers or name in self._types]

    def _turns(self) -> dict[str, int]:
        """For each value that is needed, the turn in which it is made."""
        turns: dict[str, int] = dict.fromkeys(self._known, 0)
        waiting = [*self._outputs]
        while waiting:
            name = waiting[-1]
            maker = self._makers.get(name)
            needs = [] if maker is None or name in turns else self._needs(maker)
            missing = [need for need in needs if need not in turns]
            if missing:
                waiting += missing
                continue
            waiting.pop()
            turns.setdefault(name, max((self._after(n, maker, turns[n]) for n in needs), default=0))
        return turns

    def _after(self, need: str, maker: Maker | None, turn: int) -> int:
        """A step runs in the turn of what it reads; a node that reads of a step in the next."""
        next_ = isinstance(self._makers.get(need), Step) and not isinstance(maker, Step)
        return turn + next_

    def _in_turns(self) -> list[Step | Part]:
        turns = self._turns()
        made = turns.keys() & self._makers.keys() - self._known.keys()
        turn_of = {id(self._makers[name]): turns[name] for name in made}
        self._steps = [step for step in self._steps if id(step) in turn_of]
        count = max(turn_of.values(), default=-1) + 1
        nodes = [
            [n for n in self._proto.graph.node if turn_of.get(id(n)) == turn]
            for turn in range(count)
        ]
        work: list[Step | Part] = []
        for turn, inside in enumerate(nodes):
            others = [n for later in nodes[turn + 1 :] for n in later]
            if inside:
                work.append(self._part(inside, [*others, *self._steps]))
            work += [step for step in self._steps if turn_of.get(id(step)) == turn]
        return work

    def _part(self, nodes: list[onnx.NodeProto], others: Iterable[Maker]) -> Part:
        """One part of these nodes, and of what constants they read."""
        made = {name for node in nodes for name in node.output}
        wanted = {*self._outputs, *(name for maker in others for name in self._needs(maker))}
        outputs = tuple(sorted(made & wanted))
        needs = dict.fromkeys(name for node in nodes for name in self._needs(node))
        inputs = tuple(name for name in needs if name not in made)
        proto = self._model(nodes, inputs, outputs)
        runtime = best_runtime(proto, self._threads, alone=not self._steps)
        self._types |= runtime.types
        return Part(tuple(map(str, (n.name or n.op_type for n in nodes))), inputs, outputs, runtime)

    def _model(
        self, nodes: list[onnx.NodeProto], inputs: Sequence[str], outputs: Sequence[str]
    ) -> onnx.ModelProto:
        chosen, tensors = self._with_constants(nodes)
        graph = onnx.helper.make_graph(
            [node for node in self._proto.graph.node if id(node) in chosen],
            "part",
            known_types(inputs, self._types),
            [onnx.ValueInfoProto(name=name) for name in outputs],
            tensors,
        )
        return onnx.helper.make_model(
            graph,
            opset_imports=self._proto.opset_import,
            functions=self._proto.functions,
            ir_version=self._proto.ir_version,
        )

    def _with_constants(
        self, nodes: list[onnx.NodeProto]
    ) -> tuple[set[int], list[onnx.TensorProto]]:
        """Which nodes belong to a part, by identity, and the constants that they read."""
        chosen, names = {id(node) for node in nodes}, set[str]()
        waiting = list(nodes)
        while waiting:
            for name in names_read(waiting.pop()):
                producer = self._constants.producers.get(name)
                if name in names or name not in self._constants.fixed:
                    continue
                names.add(name)
                if producer is not None and id(producer) not in chosen:
                    chosen.add(id(producer))
                    waiting.append(producer)
        return chosen, [self._inside(t) for t in self._proto.graph.initializer if t.name in names]

    def _inside(self, tensor: onnx.TensorProto) -> onnx.TensorProto:
        """The tensor with its data in it."""
        if not is_external(tensor):
            return tensor
        whole = onnx.TensorProto()
        whole.CopyFrom(tensor)
        set_inside(whole, self._constants.reader.external_bytes(tensor))
        return whole


def _piece(work: Step | Part) -> Piece:
    if isinstance(work, Step):
        return Piece(work.nodes, work.kernel, work.note)
    return Piece(work.nodes, work.runtime.name)
