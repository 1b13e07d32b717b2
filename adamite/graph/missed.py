"""The steps that a row has missed, as a program: what is computed once, at each step for one number, or for the row.

Where the gradient is zero, a state is a number times what it was before the steps. So are products, quotients and
roots of states, since sqrt(n * v) = sqrt(n) * sqrt(v) for a number n. The program keeps the two factors apart: it
computes the numbers at each step, and the rows once if it can. Adam before, which is its graph with g = 0:

    each step       m = b1 * m,  v = b2 * v                                  on rows
                    x = x - lr * (m * c1) / (sqrt(v * c2) + eps)             on rows

and after, where m and v are the states before the steps, and p and q are how far they have decayed:

    once            s = sqrt(v)                                              on rows
    each step       p = b1 * p,  q = b2 * q,  n = lr * (p * c1),  u = sqrt(q * c2)
                    x = x - n * (m / (u * s + eps))                          on rows

That leaves one quotient per element and step, no root, and no state to update. The result differs from the graph's
only by rounding.
"""

from __future__ import annotations

import functools
from typing import NamedTuple

from adamite.graph.expansion import expanded
from adamite.graph.idle import Unpredictable
from adamite.graph.nodes import Graph, Node, Nodes
from adamite.graph.stages import EACH, rates

ONCE, NUMBER = "once", "number"  # rates beside EACH: before the steps, and one number at each step


class Missed(NamedTuple):
    """Nodes as in a graph; a `tensor` is a state before all the steps, `decay` the number that it is multiplied by."""

    nodes: tuple[Node, ...]
    rates: tuple[str, ...]
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


def _rate(leaf: Node) -> str:
    if leaf.op != "tensor":
        return NUMBER
    return EACH if leaf.value == "x" else ONCE


class _Program:
    def __init__(self, graph: Graph) -> None:
        self.nodes = Nodes()
        states = graph.inputs[2:]
        old = {name: _Scaled(self.leaf("decay", name), self.leaf("tensor", name)) for name in states}
        old |= {"x": _Scaled(None, self.leaf("tensor", "x")), "g": _ZERO}
        values: list[_Scaled] = []
        for op, args, value in graph.nodes:
            if op == "tensor":
                values.append(old[value])
            elif op == "flush":  # once, after all the steps
                values.append(values[args[0]])
            elif op == "const" and value == 0:
                values.append(_ZERO)
            elif op in ("const", "coefficient"):
                values.append(_Scaled(self.leaf(op, value), None))
            else:
                values.append(self.operation(op, *(values[a] for a in args)))
        new = {name: values[index] for name, index in graph.outputs}
        decays = []
        for name in states:
            state = new.get(name, old[name])
            if state != _ZERO and state.row != old[name].row:
                raise Unpredictable(f"its state {name} isn't multiplied by a number where the gradient is zero")
            decays.append((name, self.scale(state)))
        x = self.row(new["x"])
        nodes = tuple(self.nodes)
        self.missed = Missed(nodes, rates(nodes, _rate), x, tuple(decays))

    def leaf(self, op: str, value: object) -> int:
        return self.nodes.add(op, value=value)

    def constant(self, value: float) -> int:
        return self.leaf("const", value)

    def scale(self, a: _Scaled) -> int:
        """The number without the row."""
        return self.constant(0.0) if a is _ZERO else self.constant(1.0) if a.scale is None else a.scale

    def row(self, a: _Scaled) -> int:
        """The product; a number stands for a row of it."""
        if a.row is None:
            return self.scale(a)
        return a.row if a.scale is None else self.nodes.add("mul", a.scale, a.row)

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
            return _Scaled(self.nodes.add(op, *map(self.scale, args)), None)
        match op:
            case "neg":
                return _Scaled(self.nodes.add("neg", self.scale(args[0])), args[0].row)
            case "sqrt" | "abs":
                a = args[0]
                number = None if a.scale is None else self.nodes.add(op, a.scale)
                return _Scaled(number, self.nodes.add(op, self.row(_Scaled(None, a.row))))
            case "mul" | "div":
                return self.product(op, *args)
            case "add" | "sub" if args[0].row == args[1].row:
                return _Scaled(self.nodes.add(op, *map(self.scale, args)), args[0].row)
            case "where" if args[0].number:
                rows = {a.row for a in args[1:] if a is not _ZERO}
                if len(rows) == 1:
                    return _Scaled(self.nodes.add(op, *map(self.scale, args)), rows.pop())
        return _Scaled(None, self.nodes.add(op, *map(self.row, args)))

    def product(self, op: str, a: _Scaled, b: _Scaled) -> _Scaled:
        """The product of numbers times that of rows, or the quotients."""
        if b.scale is None:
            scale = a.scale
        elif a.scale is None and op == "mul":
            scale = b.scale
        else:
            scale = self.nodes.add(op, self.scale(_Scaled(a.scale, None)), b.scale)
        if b.row is None:
            return _Scaled(scale, a.row)
        if a.row is None:
            return _Scaled(scale, b.row if op == "mul" else self.nodes.add(op, self.constant(1.0), b.row))
        return _Scaled(scale, self.nodes.add(op, a.row, b.row))
