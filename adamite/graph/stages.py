"""The stages of a graph: what is computed for each element and what isn't, what comes first and what later.

    rates       how often a node is computed: as often as what it is made of varies
    two_passes  two passes over the same elements, because the second needs to know a result from all of them
    halves      two graphs, because the front-end stores the states now and moves the parameter later
    subtrahend  what is left of a graph where the front-end moves the parameter itself

The first stage of all, the program of numbers, is separated before there is a graph: an expression of a rule knows
whether it depends only on numbers (`Expression.scalar`).
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Collection, Iterable
from dataclasses import replace
from typing import NamedTuple

from adamite.graph.nodes import Graph, Node, under

EACH = "each"  # the highest rate: at each step, for each element


def rates(nodes: Iterable[Node], leaf: Callable[[Node], str]) -> tuple[str, ...]:
    """How often each node is computed: as often as all its operands, if these have one rate, else EACH.

    Args:
        leaf: the rate of a node without operands.
    """
    computed: list[str] = []
    for node in nodes:
        operands = {computed[a] for a in node.args} or {leaf(node)}
        computed.append(operands.pop() if len(operands) == 1 else EACH)
    return tuple(computed)


class TwoPasses(NamedTuple):
    """Nodes in two passes over the same elements."""

    first: set[int]
    second: set[int]
    kept: set[int]  # results of the first pass that the second reads


def two_passes(
    graph: Graph, first: Collection[int], before: Collection[int], again: Callable[[int], bool]
) -> TwoPasses:
    """Everything that the outputs need and the first pass doesn't compute goes into the second.

    Args:
        first: nodes of the first pass, with all that they depend on.
        before: nodes that are computed before either.
        again: whether the second pass computes a node again rather than keep its result from the first.
    """
    stored = {index for _, index in graph.outputs}
    second = under(graph.nodes, stored, without=first) - set(before)
    first = set(first) - set(before)

    def read() -> set[int]:
        return stored.union(*(graph.nodes[k].args for k in second)) - second

    while repeated := {k for k in first & read() if again(k)}:
        second |= repeated
    return TwoPasses(first, second, first & read())


class Halves(NamedTuple):
    """Two graphs with the same coefficients: the new states, and the direction that is computed from them."""

    states: Graph
    direction: Graph


@functools.cache
def halves(graph: Graph) -> Halves | None:
    """The halves of a graph that stores a direction in the gradient's place; None if it reads old states."""
    *states, (name, moved) = sorted(graph.outputs, key=lambda output: output[0] == "g")
    news = {index: state for state, index in states}
    nodes = tuple(Node("tensor", value=news[k]) if k in news else node for k, node in enumerate(graph.nodes))
    old = (nodes[k].value for k in under(nodes, [moved], without=news) if nodes[k].op == "tensor")
    if not {"x", "g"}.issuperset(old):
        return None
    return Halves(replace(graph, outputs=tuple(states)), replace(graph, outputs=((name, moved),), nodes=nodes))


@functools.cache
def subtrahend(graph: Graph) -> Graph:
    """The graph that stores what is subtracted from the parameter in the parameter's place."""
    (name, moved), *states = graph.outputs
    x, step = graph.nodes[moved].args
    assert graph.nodes[moved].op == "sub" and graph.nodes[x].value == name
    return replace(graph, outputs=((name, step), *states))
