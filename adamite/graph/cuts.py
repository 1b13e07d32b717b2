"""A graph in parts: for front-ends that store the states now and move the parameter later."""

from __future__ import annotations

import functools
from dataclasses import replace
from typing import NamedTuple

from adamite.graph.nodes import Graph, Node, under


class Halves(NamedTuple):
    """A graph in two, with the same coefficients: first the new states, then the direction that is made from them."""

    states: Graph
    direction: Graph


@functools.cache
def halves(graph: Graph) -> Halves | None:
    """The halves of a graph that stores a direction in the gradient's place; None where it reads old states."""
    *states, (name, moved) = sorted(graph.outputs, key=lambda output: output[0] == "g")
    news = {index: state for state, index in states}
    nodes = tuple(Node("tensor", value=news[k]) if k in news else node for k, node in enumerate(graph.nodes))
    old = (nodes[k].value for k in under(nodes, [moved]) - news.keys() if nodes[k].op == "tensor")
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
