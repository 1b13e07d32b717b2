"""The steps that a row has missed, as a program: what is done once, what a step does to numbers, and what to the row.

Where the gradient is zero, states are only multiplied by numbers. So they needn't be gone over at each step: a state is
a number times what it was, and so are its products, quotients and roots, sqrt(c * v) = sqrt(c) * sqrt(v). What is left
for a step of Adam is a quotient, with no root. The result is the graph's but for rounding.
"""

from __future__ import annotations

import functools
from typing import NamedTuple

from adamite.graph.expansion import expanded
from adamite.graph.idle import Unpredictable
from adamite.graph.nodes import Graph, Node

ONCE, NUMBER, EACH = "once", "number", "each"


class Missed(NamedTuple):
    """Nodes as in a graph; a `tensor` is a state before all the steps, `decay` what it has come to, a number."""

    nodes: tuple[Node, ...]
    places: tuple[str, ...]  # once, before the steps; a number, at each; a row, at each
    x: int  # the new parameter
    decays: tuple[tuple[str, int], ...]  # the states' new decays


class _Scaled(NamedTuple):
    """A number times a row; None for 1."""

    scale: int | None
    row: int | None

    @property
    def number(self) -> bool:
        return self.row is None


_ZERO = _Scaled(-1, None)


@functools.cache
def missed(graph: Graph) -> Missed:
    """The program of a graph that `idle` has found predictable."""
    return _Program(expanded(graph)).missed


class _Program:
    def __init__(self, graph: Graph) -> None:
        self.nodes: list[Node] = []
        self.places: list[str] = []
        self.known: dict[Node, int] = {}
        states = graph.inputs[2:]
        begun = {name: _Scaled(self.node(NUMBER, "decay", value=name), self.tensor(ONCE, name)) for name in states}
        begun |= {"x": _Scaled(None, self.tensor(EACH, "x")), "g": _ZERO}
        values: list[_Scaled] = []
        for node in graph.nodes:
            if node.op == "tensor":
                values.append(begun[node.value])
            elif node.op == "flush":  # once, after all the steps
                values.append(values[node.args[0]])
            elif node.op == "const" and node.value == 0:
                values.append(_ZERO)
            elif node.op in ("const", "coefficient"):
                values.append(_Scaled(self.node(NUMBER, node.op, value=node.value), None))
            else:
                values.append(self.operation(node.op, *(values[a] for a in node.args)))
        ended = {name: values[index] for name, index in graph.outputs}
        decays = []
        for name in states:
            end = ended.get(name, begun[name])
            if end != _ZERO and end.row != begun[name].row:
                raise Unpredictable(f"its state {name} isn't multiplied by a number where the gradient is zero")
            decays.append((name, self.scale(end)))
        x = self.row(ended["x"])
        self.missed = Missed(tuple(self.nodes), tuple(self.places), x, tuple(decays))

    def node(self, place: str, op: str, *args: int, value: object = None) -> int:
        new = Node(op, args, value)
        if new not in self.known:
            self.known[new] = len(self.nodes)
            self.nodes.append(new)
            self.places.append(place)
        return self.known[new]

    def tensor(self, place: str, name: str) -> int:
        return self.node(place, "tensor", value=name)

    def constant(self, value: float) -> int:
        return self.node(NUMBER, "const", value=value)

    def scale(self, a: _Scaled) -> int:
        """The number alone."""
        return self.constant(0.0) if a is _ZERO else self.constant(1.0) if a.scale is None else a.scale

    def row(self, a: _Scaled) -> int:
        """The product; a number stands for a row of it."""
        if a.row is None:
            return self.scale(a)
        return a.row if a.scale is None else self.on_rows("mul", a.scale, a.row)

    def on_rows(self, op: str, *args: int) -> int:
        once = all(self.places[a] == ONCE for a in args)
        return self.node(ONCE if once else EACH, op, *args)

    def operation(self, op: str, *args: _Scaled) -> _Scaled:
        zeros = [a is _ZERO for a in args]
        if op in ("mul", "div") and (zeros[0] or (op == "mul" and zeros[1])):
            return _ZERO
        if op in ("add", "sub") and zeros[1]:
            return args[0]
        if op in ("add", "sub") and zeros[0]:
            return args[1] if op == "add" else self.operation("neg", args[1])
        if op in ("neg", "abs", "sqrt") and zeros[0]:
            return _ZERO
        if all(a.number for a in args):
            return _Scaled(self.node(NUMBER, op, *map(self.scale, args)), None)
        match op:
            case "neg":
                return _Scaled(self.node(NUMBER, "neg", self.scale(args[0])), args[0].row)
            case "sqrt" | "abs":
                a = args[0]
                number = None if a.scale is None else self.node(NUMBER, op, a.scale)
                return _Scaled(number, self.on_rows(op, self.row(_Scaled(None, a.row))))
            case "mul" | "div":
                return self.product(op, *args)
            case "add" | "sub" if args[0].row == args[1].row:
                return _Scaled(self.node(NUMBER, op, *map(self.scale, args)), args[0].row)
            case "where" if args[0].number:
                rows = {a.row for a in args[1:] if a is not _ZERO}
                if len(rows) == 1:
                    return _Scaled(self.node(NUMBER, op, *map(self.scale, args)), rows.pop())
        return _Scaled(None, self.on_rows(op, *map(self.row, args)))

    def product(self, op: str, a: _Scaled, b: _Scaled) -> _Scaled:
        """The product of numbers times that of rows, or the quotients."""
        if b.scale is None:
            scale = a.scale
        elif a.scale is None and op == "mul":
            scale = b.scale
        else:
            scale = self.node(NUMBER, op, self.scale(_Scaled(a.scale, None)), b.scale)
        if b.row is None:
            return _Scaled(scale, a.row)
        if a.row is None:
            return _Scaled(scale, b.row if op == "mul" else self.on_rows(op, self.constant(1.0), b.row))
        return _Scaled(scale, self.on_rows(op, a.row, b.row))
