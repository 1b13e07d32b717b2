"""A graph whose states have scales, in two passes over a block of elements.

A block's new scales follow from its largest new states, and the codes of these follow from the scales. So each block is
gone through twice: the first pass computes the new 8-bit states and their largest magnitudes, the second encodes them
and moves the parameter. Adam before, as its graph is lowered (b1, a1, ... are coefficients):

    m = flush(b1 * flush(m) + a1 * g)
    v = flush(b2 * flush(v) + a2 * (g * g))
    x = x - lr * (m * c1) / (sqrt(v * c2) + eps)

and after, with both states in 8 bits. `code` is what is loaded, and codes need no flush:

    once a block    b1' = b1 * scale(m),  b2' = b2 * scale(v)
    first pass      m = b1' * code(m) + a1 * g
                    v = b2' * code(v) + a2 * (g * g)
                    r = sqrt(v * c2) + eps        keeps m, v and r
    second pass     encodes m and v
                    x = x - lr * (m * c1) / r
"""

from __future__ import annotations

from dataclasses import replace
from typing import NamedTuple

from adamite.graph.expansion import expanded
from adamite.graph.nodes import Graph, Node, under
from adamite.graph.stages import EACH, rates, two_passes
from adamite.language.operations import gives_truth
from adamite.storage import BFLOAT16, EightBit, Layout

BLOCK = "block"  # the rate of what is the same for a whole block


class Passes(NamedTuple):
    """The graph on codes, and which of its nodes are computed when."""

    graph: Graph  # `scale NAME` is what the codes of a state are multiplied by
    uniform: tuple[int, ...]  # once a block
    first: tuple[int, ...]
    second: tuple[int, ...]
    kept: tuple[int, ...]  # results of the first pass that the second reads


def scaled(graph: Graph, layout: Layout) -> Graph:
    """The graph on codes: a state becomes its code times its scale.

    The scale is multiplied into the coefficient in front of the state, if there is one: once a block.

    No code stands for a nearly subnormal number, so 8-bit states needn't be flushed. States that are narrow in another
    way were flushed when they were stored.
    """
    graph = expanded(graph)
    eight = {name for name in graph.inputs if isinstance(layout.of(name), EightBit)}
    narrow = {name for name, _ in layout.states}
    plain_outputs = {index for name, index in graph.outputs if name not in eight}
    narrow_outputs = {index for name, index in graph.outputs if name in narrow - eight}
    nodes: list[Node] = []
    at: list[int] = []  # where each old node is now
    raw: dict[int, int] = {}  # old nodes that are codes now -> the node of their scale
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
    frequency = rates(nodes, lambda leaf: EACH if leaf.op == "tensor" else BLOCK)
    uniform = {k for k, rate in enumerate(frequency) if rate == BLOCK}
    eight = [index for name, index in graph.outputs if isinstance(layout.of(name), EightBit)]
    first = under(nodes, eight)
    if eight:
        loaded = {nodes[k].value for k in first if nodes[k].op == "tensor"} | {"g"}
        for index, node in enumerate(nodes):
            operands = under(nodes, [index])
            if node.op == "sqrt" and loaded.issuperset(nodes[k].value for k in operands if nodes[k].op == "tensor"):
                first |= operands
                _take_along(nodes, first, uniform, index)

    def again(index: int) -> bool:
        """Truths, since only numbers can be kept, and what is stored as it is computed: loading it again is cheap."""
        node = nodes[index]
        plain = node.op == "tensor" and not isinstance(layout.of(node.value), EightBit) and index not in eight
        return plain or gives_truth(node.op)

    passes = two_passes(graph, first, uniform, again)
    return Passes(graph, *(tuple(sorted(indices)) for indices in (uniform, *passes)))


def _take_along(nodes: tuple[Node, ...], first: set[int], uniform: set[int], root: int) -> None:
    """Put what only adds a number to a root, or multiplies it, into the root's pass."""
    users = [k for k, node in enumerate(nodes) if root in node.args]
    if len(users) == 1 and nodes[users[0]].op in ("add", "mul") and uniform & set(nodes[users[0]].args):
        first.update((users[0], *nodes[users[0]].args))
        _take_along(nodes, first, uniform, users[0])
