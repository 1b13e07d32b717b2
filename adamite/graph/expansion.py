"""Operations by their definitions: for the backends that have only primitive ones.

NumPy, LLVM and the frameworks differ in what the maximum of NaN or of signed zeros is; by its definition
(language/operations.py) it has the same bits everywhere.
"""

from __future__ import annotations

import functools
from dataclasses import replace

from adamite.graph.nodes import Graph, Nodes
from adamite.language.expression import tensor
from adamite.language.maths import DEFINITIONS
from adamite.language.trace import walk


@functools.cache
def expanded(graph: Graph) -> Graph:
    """The graph with `maximum`, `minimum` and `sign` by their definitions."""
    if not any(node.op in DEFINITIONS for node in graph.nodes):
        return graph
    nodes = Nodes()
    moved: list[int] = []  # where each of the graph's nodes is now
    for op, args, value in graph.nodes:
        operands = [moved[a] for a in args]
        moved.append(_defined(nodes, op, operands) if op in DEFINITIONS else nodes.add(op, *operands, value=value))
    return replace(graph, nodes=tuple(nodes), outputs=tuple((name, moved[index]) for name, index in graph.outputs))


def _defined(nodes: Nodes, op: str, operands: list[int]) -> int:
    """Add an operation's definition."""
    symbols = [tensor(str(k)) for k in range(len(operands))]
    added = dict(zip(symbols, operands, strict=True))
    root = DEFINITIONS[op](*symbols)
    for e in walk(root):
        if e.op == "const":
            added[e] = nodes.add("const", value=e.args[0])
        elif e not in added:
            added[e] = nodes.add(e.op, *(added[a] for a in e.args))
    return added[root]
