"""The graph as operations on whole arrays of any framework: for devices where the machine code doesn't run.

States aren't flushed here: subnormal numbers cost nothing on such devices, and the difference is below 1e-36.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from adamite.graph import ON_NUMBERS, Graph, Node

Operations = Mapping[str, Callable[..., Any]]


def evaluate(
    graph: Graph, tensors: Mapping[str, Any], coefficients: Sequence[Any], operations: Operations
) -> dict[str, Any]:
    """What the graph stores, by name.

    What depends on numbers alone is done in Python, so `where` on a number takes one branch. A value is let go after
    its last use.
    """
    last = _last_uses(graph)
    values: list[Any] = [None] * len(graph.nodes)
    number = [False] * len(graph.nodes)
    for index, node in enumerate(graph.nodes):
        if index not in last:
            continue
        match node.op:
            case "tensor":
                values[index] = tensors[node.value]
            case "coefficient":
                values[index], number[index] = coefficients[node.value], True
            case "const":
                values[index], number[index] = float(node.value), True
            case "flush":
                values[index], number[index] = values[node.args[0]], number[node.args[0]]
            case "where" if number[node.args[0]]:
                chosen = node.args[1] if values[node.args[0]] else node.args[2]
                values[index], number[index] = values[chosen], number[chosen]
            case _:
                number[index] = all(number[a] for a in node.args)
                function = ON_NUMBERS[node.op] if number[index] else operations[node.op]
                values[index] = function(*(values[a] for a in node.args))
        for a in node.args:
            if last[a] == index:
                values[a] = None
    return {name: values[index] for name, index in graph.outputs}


def compares(graph: Graph) -> bool:
    """Whether the graph compares or selects tensors, element by element."""
    number = [False] * len(graph.nodes)
    for index, node in enumerate(graph.nodes):
        number[index] = node.op in ("coefficient", "const") or (bool(node.args) and _on_numbers(node, number))
        condition = node.args[:1] if node.op == "where" else node.args
        if node.op in _CHOOSING and not all(number[a] for a in condition):
            return True
    return False


_CHOOSING = frozenset({"gt", "ge", "lt", "le", "eq", "ne", "and", "or", "not", "where"})


def _on_numbers(node: Node, number: Sequence[bool]) -> bool:
    return all(number[a] for a in node.args)


def _last_uses(graph: Graph) -> dict[int, int]:
    """For each node that the outputs need, the last node that reads it."""
    last = {index: len(graph.nodes) for _, index in graph.outputs}
    for index in range(len(graph.nodes) - 1, -1, -1):
        if index in last:
            for a in graph.nodes[index].args:
                last.setdefault(a, index)
    return last
