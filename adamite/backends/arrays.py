"""The graph as operations on whole arrays of any framework: for devices where the machine code doesn't run.

What depends on numbers alone is settled first, in Python; what is left are the operations on arrays that the outputs
need. States aren't flushed here: subnormal numbers cost nothing on such devices, and the difference is below 1e-36.
"""

from __future__ import annotations

import math
import operator
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

from adamite.graph.nodes import Graph, Node
from adamite.graph.numbers import ON_NUMBERS
from adamite.language.expression import Expression, tensor
from adamite.language.maths import DEFINITIONS

Operations = Mapping[str, Callable[..., Any]]

# What Python's operators do on the arrays of every framework.
OPERATORS: Operations = {
    "add": operator.add,
    "sub": operator.sub,
    "mul": operator.mul,
    "div": operator.truediv,
    "neg": operator.neg,
    "pow": operator.pow,
    "abs": operator.abs,
    "gt": operator.gt,
    "ge": operator.ge,
    "lt": operator.lt,
    "le": operator.le,
    "eq": operator.eq,
    "ne": operator.ne,
}


def exact(operations: Operations) -> Operations:
    """The operations for a compiler that rounds a product and a sum once, or divides by a root as by one operation.

    It can't look through a selection; and these, of NaN where an operand is NaN, change nothing. An operand is watched
    rather than the result: what has two uses is computed twice, or kept in memory.
    """

    def kept(operation: Callable[..., Any]) -> Callable[..., Any]:
        def apply(*args: Any) -> Any:
            result = operation(*args)
            watched = next((a for a in args if getattr(a, "ndim", 0)), result)
            return operations["where"](watched == watched, result, math.nan)

        return apply

    return {**operations, **{name: kept(operations[name]) for name in ("mul", "div", "sqrt")}}


def evaluate(
    graph: Graph, tensors: Mapping[str, Any], coefficients: Sequence[Any], operations: Operations
) -> dict[str, Any]:
    """What the graph stores, by name.

    Coefficients may be arrays too, where a framework traces them. Beside the graph's own operations there must be
    `maximum` and `minimum`, which give NaN where either is NaN.
    """
    return Evaluation(graph, coefficients).run(tensors, operations)


class _Step(NamedTuple):
    """An operation on arrays."""

    node: int
    op: str
    args: tuple[int, ...]
    spent: tuple[int, ...]  # what nothing reads after it
    writes: bool  # whether it may write over its first operand


class Evaluation:
    """A graph with the coefficients of one step.

    What is `named` is done by the framework's operation of that name, not by its definition in maths.py.
    """

    def __init__(
        self, graph: Graph, coefficients: Sequence[Any], named: Sequence[str] = ("maximum", "minimum")
    ) -> None:
        self._values: dict[int, Any] = {}  # what is known before anything is run
        self._leaves: dict[int, str] = {}
        self._place: list[int] = []  # where a node's value stands: many only pass on another's
        operations: dict[int, tuple[str, tuple[int, ...]]] = {}
        for index, node in enumerate(graph.nodes):
            op, args = operation_named(graph.nodes, index, named) or (node.op, node.args)
            args = tuple(self._place[a] for a in args)
            place = index
            if op == "tensor":
                self._leaves[index] = node.value
            elif op == "coefficient":
                value = coefficients[node.value]
                self._values[index] = float(value) if isinstance(value, int) else value
            elif op == "const":
                self._values[index] = float(node.value)
            elif op == "flush":
                place = args[0]
            elif op == "where" and self._number(args[0]):
                place = args[1] if self._values[args[0]] else args[2]  # the other isn't looked at, be it NaN
            elif all(map(self._number, args)):
                self._values[index] = _ON_NUMBERS[op](*(self._values[a] for a in args))
            else:
                if op in _COMMUTE and self._number(args[0]):
                    args = args[::-1]
                operations[index] = op, args
            self._place.append(place)
        self._outputs = {name: self._place[index] for name, index in graph.outputs}
        self._steps = self._needed(operations)

    def _number(self, index: int) -> bool:
        return isinstance(self._values.get(index), (int, float))

    def _needed(self, operations: dict[int, tuple[str, tuple[int, ...]]]) -> list[_Step]:
        """What the outputs depend on, and where each value is read for the last time."""
        read = set(self._outputs.values())
        steps = []
        for index in reversed(operations):
            if index in read:
                op, args = operations[index]
                spent = tuple({a for a in args if a not in read and a in operations})
                if op in _COMMUTE and args[0] not in spent:
                    args = args[::-1] if args[1] in spent else args
                steps.append(_Step(index, op, args, spent, writes=args[0] in spent))
                read.update(args)
        self._leaves = {index: name for index, name in self._leaves.items() if index in read}
        return steps[::-1]

    @property
    def operations(self) -> set[str]:
        """What has to be done on arrays."""
        return {step.op for step in self._steps}

    def run(
        self, tensors: Mapping[str, Any], operations: Operations, writing: Operations | None = None
    ) -> dict[str, Any]:
        """What the graph stores, by name: numbers, inputs as they are, or new arrays.

        A value is let go after its last use, or written over by one of the operations in `writing`; inputs aren't.
        """
        values = self._values | {index: tensors[name] for index, name in self._leaves.items()}
        for node, op, args, spent, writes in self._steps:
            function = writing[op] if writing and writes and op in writing else operations[op]
            values[node] = function(*(values[a] for a in args))
            for a in spent:
                del values[a]
        return {name: values[place] for name, place in self._outputs.items()}


_COMMUTE = frozenset({"add", "mul", "maximum", "minimum"})
_ON_NUMBERS = {**ON_NUMBERS, **DEFINITIONS}

# Frameworks have these as one operation, with the same NaN; but torch's `sign` makes NaN zero.
_NAMED = {name: DEFINITIONS[name](tensor("a"), tensor("b")) for name in ("maximum", "minimum")}
_NAMED["sign"] = DEFINITIONS["sign"](tensor("a"))


def operation_named(nodes: Sequence[Node], index: int, names: Sequence[str]) -> tuple[str, tuple[int, ...]] | None:
    """The named operation that a node is the definition of."""
    for name in names:
        operands: dict[str, int] = {}
        if _matches(nodes, index, _NAMED[name], operands):
            return name, tuple(operands[operand] for operand in sorted(operands))
    return None


def _matches(nodes: Sequence[Node], index: int, pattern: Expression, operands: dict[str, int]) -> bool:
    if pattern.op == "tensor":
        return operands.setdefault(pattern.args[0], index) == index
    if pattern.op == "const":
        return nodes[index].op == "const" and float(nodes[index].value) == pattern.args[0]
    return nodes[index].op == pattern.op and all(
        _matches(nodes, a, p, operands) for a, p in zip(nodes[index].args, pattern.args, strict=True)
    )
