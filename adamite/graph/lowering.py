"""From an update to its graph: a program for what depends only on numbers, and a list of operations for the loop.

The program evaluates numbers in float64, once a step, and its results are rounded once to the compute dtype (the
coefficients). Expressions on tensors become nodes. A division by a number becomes a multiplication by its reciprocal,
and whole powers become products. Nothing else is reordered or contracted.
"""

from __future__ import annotations

import functools

from adamite.graph.nodes import Graph, Nodes
from adamite.graph.numbers import Scalars
from adamite.language.expression import Expression, apply, constant
from adamite.language.trace import walk
from adamite.language.update import Update


@functools.cache
def lower(update: Update) -> Graph:
    """The graph of an update."""
    return _Lowering(update).graph


class _Lowering:
    def __init__(self, update: Update) -> None:
        self.nodes = Nodes()
        self.done: dict[Expression, int] = {}
        self.scalars = Scalars()
        self.coefficients: list[str] = []

        inputs = ("x", "g", *update.states)
        outputs = {name: self.state(update.outputs[name]) for name in update.states}
        first = "x" if "x" in update.outputs else "g"
        outputs = {first: self.value(update.outputs[first]), **outputs}
        new_scalars = [self.scalars.value(e) for e in update.scalars.values()]
        numbers = (*self.scalars.numbers(exclude=("t", *update.scalars)), *update.scalars)
        self.graph = Graph(
            inputs=inputs,
            outputs=tuple(outputs.items()),
            nodes=tuple(self.nodes),
            coefficient_count=len(self.coefficients),
            numbers=numbers,
            scalars=tuple(update.scalars),
            program=self.scalars.program(("t", *numbers), [*self.coefficients, *new_scalars]),
        )

    def state(self, e: Expression) -> int:
        """A new state, as it is stored."""
        node = self.nodes.add("flush", self.value(e))
        if e.args and e.op not in ("tensor", "const"):
            self.done[e] = node  # what is computed from the new state reads it as it is stored
        return node

    def value(self, root: Expression) -> int:
        for e in walk(root):
            if e not in self.done and not (e.scalar and e is not root):
                self.done[e] = self.operation(e)
        return self.done[root]

    def operand(self, e: Expression) -> int:
        """An operand of a tensor operation; a number becomes a coefficient."""
        if e not in self.done:
            self.done[e] = self.operation(e)
        return self.done[e]

    def operation(self, e: Expression) -> int:
        if e.scalar:
            return self.coefficient(e)
        if e.op == "tensor":
            node = self.nodes.add("tensor", value=e.args[0])
            return node if e.args[0] in ("x", "g") else self.nodes.add("flush", node)
        if e.op == "pow":
            return self.value(_power(e.args[0], e.args[1].args[0]))
        if e.op == "div" and e.args[1].scalar:
            return self.nodes.add("mul", self.operand(e.args[0]), self.operand(1.0 / e.args[1]))
        return self.nodes.add(e.op, *(self.operand(a) for a in e.args))

    def coefficient(self, e: Expression) -> int:
        if e.boolean:  # a coefficient is a number
            return self.nodes.add("ne", self.operand(apply("where", e, 1.0, 0.0)), self.operand(constant(0.0)))
        name = self.scalars.value(e)
        folded = self.scalars.constants.get(name)
        if folded is not None:
            return self.nodes.add("const", value=folded)
        if name not in self.coefficients:
            self.coefficients.append(name)
        return self.nodes.add("coefficient", value=self.coefficients.index(name))


def _power(base: Expression, exponent: float) -> Expression:
    """A tensor's power as products."""
    if exponent == 0.5:
        return apply("sqrt", base)
    if exponent < 0:
        return 1.0 / _power(base, -exponent)
    if exponent <= 1:
        return base if exponent else constant(1.0)
    half = _power(base, exponent // 2)
    square = half * half
    return square * base if exponent % 2 else square
