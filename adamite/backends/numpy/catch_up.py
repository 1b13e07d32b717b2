"""Steps with gradients of zero in NumPy: the bit-exact reference of the machine code."""

from __future__ import annotations

from typing import Any

import numpy as np

from adamite.backends.jobs import FIRST, X, catch_up_columns, catching_up, steps_column
from adamite.backends.numpy.elements import applied, claims, view
from adamite.codegen.job import CHUNK, Call
from adamite.graph.missed import ONCE, missed
from adamite.graph.nodes import Graph, Node
from adamite.storage import Format, Layout


def catch_up(graph: Graph, format: Format) -> Call:
    """A kernel that does steps with gradients of zero."""
    names, computed, program = catching_up(graph), format.compute, missed(graph)
    kind = computed.dtype.type
    formats = Layout(format).formats(names)

    def stepped(before: dict[str, Any], table: Any) -> tuple[Any, dict[str, Any]]:
        """The parameter after the steps of a table of coefficients, and what the states are multiplied by."""
        x, decays = before["x"], {name: kind(1) for name, _ in program.decays}
        values: list[Any] = [None] * len(program.nodes)
        for number, coefficients in enumerate(table):
            for index, (node, rate) in enumerate(zip(program.nodes, program.rates, strict=True)):
                if node.op == "decay":
                    values[index] = decays[node.value]
                elif node.op == "tensor":
                    values[index] = x if node.value == "x" else before[node.value]
                elif rate != ONCE or not number:
                    values[index] = applied(node, values, coefficients, computed)
            x, decays = values[program.x], {name: values[index] for name, index in program.decays}
        return x, decays

    def kernel(address: int) -> None:
        for row, begin, end in claims(address, catch_up_columns(graph)):
            steps, factors = row[steps_column(graph)], np.array(row[steps_column(graph) + 1 :]).view(np.float64)
            count = graph.coefficient_count
            table = view(row[FIRST], steps * count, computed.dtype).reshape(steps, count)
            for at in range(begin, end, CHUNK):
                size = min(CHUNK, end - at)
                parts = {
                    name: view(place + at * formats[name].itemsize, size, formats[name].dtype)
                    for name, place in zip(names, row[X:], strict=False)
                }
                with np.errstate(all="ignore"):
                    before = {name: formats[name].widen(part) for name, part in parts.items()}
                    before |= {name: flushed(before[name]) for name in names[1:]}
                    x, decays = stepped(before, table)
                    settled = {"x": x * kind(factors[0])}
                    for name, factor in zip(names[1:], factors[1:], strict=True):
                        settled[name] = flushed(before[name] * (decays[name] * kind(factor)))
                    for name, part in parts.items():
                        part[...] = formats[name].narrow(settled[name])

    def flushed(state: Any) -> Any:
        return applied(Node("flush", (0,)), [state], (), computed)

    return kernel
