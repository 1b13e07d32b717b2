"""A graph whose states have scales, and what of it is done before the new scales are known.

The new states of a block are needed before its scales, and those before the first new code can be stored. So a block is
gone through twice: the first pass computes the new 8-bit states and their largest numbers, the second encodes them and
moves the parameter.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from typing import NamedTuple

from adamite.graph.expansion import expanded
from adamite.graph.nodes import Graph, Node
from adamite.language.operations import gives_truth
from adamite.storage import BFLOAT16, EightBit, Layout

_NUMBERS = ("coefficient", "const", "scale")


class Passes(NamedTuple):
    """The graph in two."""

    graph: Graph  # `scale NAME` is what the codes of a state are multiplied by
    uniform: tuple[int, ...]  # nodes that are the same for a whole block
    first: tuple[int, ...]
    second: tuple[int, ...]
    kept: tuple[int, ...]  # what the second takes over from the first


def scaled(graph: Graph, layout: Layout) -> Graph:
    """The graph on codes: a state is multiplied by its scale, with the coefficient in front of it where there is one.

    What is decoded is never near the subnormal numbers, so that what is encoded needn't be flushed; and what rests
    narrow in another way has been flushed when it was stored.
    """
    graph = expanded(graph)
    eight = {name for name in graph.inputs if isinstance(layout.of(name), EightBit)}
    narrow = {name for name, _ in layout.states}
    plain_outputs = {index for name, index in graph.outputs if name not in eight}
    narrow_outputs = {index for name, index in graph.outputs if name in narrow - eight}
    nodes: list[Node] = []
    at: list[int] = []  # where each old node is now
    raw: dict[int, int] = {}  # old nodes that are states' codes -> the scale
    users: dict[int, list[Node]] = {}
    for node in graph.nodes:
        for arg in node.args:
            users.setdefault(arg, []).append(node)

    def add(node: Node) -> int:
        nodes.append(node)
        return len(nodes) - 1

    def only_multiplied(index: int) -> bool:
        return all(
            only_multiplied(graph.nodes.index(u)) if u.op == "flush" else _by_number(graph, u, index)
            for u in users.get(index, [])
        ) and all(index != output for _, output in graph.outputs)

    for index, node in enumerate(graph.nodes):
        if node.op == "tensor" and node.value in eight:
            codes, scale = add(node), add(Node("scale", value=node.value))
            if only_multiplied(index):
                raw[index] = scale
                at.append(codes)
            else:
                at.append(add(Node("mul", (scale, codes))))
        elif node.op == "flush" and _needless(graph, index, narrow, plain_outputs):
            at.append(at[node.args[0]])
            if node.args[0] in raw:
                raw[index] = raw[node.args[0]]
        elif raw.keys() & set(node.args):
            number, state = node.args if node.args[1] in raw else node.args[::-1]
            at.append(add(Node("mul", (add(Node("mul", (at[number], raw[state]))), at[state]))))
        else:
            narrowed = node.op == "flush" and index in narrow_outputs
            value = BFLOAT16.smallest_state if narrowed else node.value
            at.append(add(Node(node.op, tuple(at[a] for a in node.args), value)))
    return replace(graph, nodes=tuple(nodes), outputs=tuple((name, at[index]) for name, index in graph.outputs))


def _by_number(graph: Graph, user: Node, index: int) -> bool:
    others = [arg for arg in user.args if arg != index]
    return user.op == "mul" and len(others) == 1 and graph.nodes[others[0]].op in ("coefficient", "const")


def _needless(graph: Graph, index: int, narrow: set[str], plain_outputs: set[int]) -> bool:
    """Whether a flush does nothing: of a narrow state as it is read, of an 8-bit one as it is stored."""
    flushed = graph.nodes[graph.nodes[index].args[0]]
    if index in plain_outputs:
        return False
    return flushed.op != "tensor" or flushed.value in narrow


def divided(graph: Graph, layout: Layout) -> Passes:
    """The passes over a block. Square roots are taken in the first: the divider has more to do in the second."""
    graph = scaled(graph, layout)
    nodes = graph.nodes
    uniform: set[int] = set()
    for index, node in enumerate(nodes):
        if node.op in _NUMBERS or (node.args and uniform.issuperset(node.args)):
            uniform.add(index)
    eight = [index for name, index in graph.outputs if isinstance(layout.of(name), EightBit)]
    first = _under(nodes, eight)
    if eight:
        loaded = {nodes[k].value for k in first if nodes[k].op == "tensor"} | {"g"}
        for index, node in enumerate(nodes):
            below = _under(nodes, [index])
            if node.op == "sqrt" and loaded.issuperset(nodes[k].value for k in below if nodes[k].op == "tensor"):
                first |= below
                _take_along(nodes, first, uniform, index)
    second = _under(nodes, [index for _, index in graph.outputs], without=first) - uniform
    first -= uniform

    def read() -> set[int]:
        return {a for k in second for a in nodes[k].args} | {index for _, index in graph.outputs}

    while truths := {k for k in first & read() - second if gives_truth(nodes[k].op)}:
        second |= truths  # only numbers can be kept: what is true or false is found again
    reads = read()
    kept = {
        k
        for k in first & reads - second
        if k in eight or nodes[k].op != "tensor" or isinstance(layout.of(nodes[k].value), EightBit)
    }
    again = {k for k in first & reads if k not in kept}  # plain tensors are simply read again
    return Passes(graph, *(tuple(sorted(found)) for found in (uniform, first, second | again, kept)))


def _take_along(nodes: tuple[Node, ...], first: set[int], uniform: set[int], root: int) -> None:
    """What only adds a number to a root, or multiplies it, goes with it."""
    users = [k for k, node in enumerate(nodes) if root in node.args]
    if len(users) == 1 and nodes[users[0]].op in ("add", "mul") and uniform & set(nodes[users[0]].args):
        first.update((users[0], *nodes[users[0]].args))
        _take_along(nodes, first, uniform, users[0])


def _under(nodes: tuple[Node, ...], roots: Iterable[int], without: Iterable[int] = ()) -> set[int]:
    """The nodes that some depend on, and these, but for what is known."""
    known, found = set(without), set()
    stack = list(roots)
    while stack:
        index = stack.pop()
        if index not in known and index not in found:
            found.add(index)
            stack.extend(nodes[index].args)
    return found
