"""The graph over complex numbers: what an equation that was written for real numbers means for complex ones.

Papers square a number for its size. So a number times itself is its squared modulus, `abs` is the modulus, and `sign`
the direction z / |z|: second moments are real, and a step turns with its gradient. Otherwise complex numbers may be
added, and scaled by real ones. Comparisons, roots, and products of different complex numbers are refused.
"""

from __future__ import annotations

import functools
from collections.abc import Collection, Sequence
from dataclasses import replace

from adamite.errors import RuleError
from adamite.graph.nodes import Graph, Node, under

MAY = "add them, scale them by real ones, and take z**2 (the squared modulus), abs and sign (z / abs(z))"
_SAME = frozenset({"flush", "neg", "sign", "add", "sub", "mul", "div", "where"})  # complex where an operand is
_ORDERED = ("gt", "ge", "lt", "le", "maximum", "minimum")
_REFUSED = {
    "sqrt": "takes the root of a complex number",
    **dict.fromkeys(_ORDERED, "compares complex numbers, as maximum and minimum do too"),
}


@functools.cache
def over_complex(graph: Graph, complex_states: frozenset[str]) -> Graph:
    """The graph of parameters and gradients that are complex.

    It has two more operations: `square`, the squared modulus, and `real`, for states that can't be complex but are
    stored as the parameter is.

    Args:
        complex_states: those that are complex from the start.

    Raises:
        RuleError: for what has no meaning over complex numbers, as the end of a sentence about the rule.
    """
    nodes = list(graph.nodes)
    needed = sorted(under(nodes, [index for _, index in graph.outputs]))
    tensors: set[str] = {"x", "g", *complex_states}
    while True:
        complexes = _complexes(nodes, needed, tensors)
        stored = {name for name, index in graph.outputs if index in complexes}
        if stored <= tensors:
            break
        tensors |= stored
    for index in needed:
        op, args, _ = nodes[index]
        if op == "mul" and complexes.issuperset(args):
            nodes[index] = Node("square", args[:1])
        elif op == "flush" and nodes[args[0]].op == "tensor" and nodes[args[0]].value not in tensors:
            nodes[index] = Node("real", args)
    return replace(graph, nodes=tuple(nodes))


def _complexes(nodes: Sequence[Node], needed: Sequence[int], tensors: Collection[str]) -> set[int]:
    """The nodes whose value is complex if these tensors are."""
    complexes: set[int] = set()
    for index in needed:
        op, args, value = nodes[index]
        operands = complexes.intersection(args)
        if op == "tensor":
            if value in tensors:
                complexes.add(index)
        elif operands and op in _REFUSED:
            raise RuleError(_REFUSED[op])
        elif op == "div" and args[1] in complexes:
            raise RuleError("divides by a complex number")
        elif op == "mul" and complexes.issuperset(args):
            if len(operands) > 1:
                raise RuleError("multiplies two different complex numbers; write a square as z**2")
        elif operands and op in _SAME:
            complexes.add(index)
    return complexes
