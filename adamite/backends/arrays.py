"""The graph as operations on whole arrays of any framework: for devices where the machine code doesn't run.

What depends only on numbers is computed first, in Python. What is left are the operations on arrays that the outputs
need. States aren't flushed here: subnormal numbers cost nothing on such devices, and the difference is below 1e-36.
"""

from __future__ import annotations

import functools
import math
import operator
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

from adamite.graph.nodes import Graph
from adamite.graph.numbers import ON_NUMBERS
from adamite.language.operations import OPERATIONS

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
    """The operations for a compiler that would round a product and a sum once, or replace a division by a root.

    The compiler can't look through a select. The one here gives NaN where an operand is NaN, which changes nothing. It
    tests an operand rather than the result: a value with two uses would be computed twice, or kept in memory.
    """

    def guarded(operation: Callable[..., Any]) -> Callable[..., Any]:
        def apply(*args: Any) -> Any:
            result = operation(*args)
            tested = next((a for a in args if getattr(a, "ndim", 0)), result)
            return operations["where"](tested == tested, result, math.nan)

        return apply

    return {**operations, **{name: guarded(operations[name]) for name in ("mul", "div", "sqrt")}}


def evaluate(
    graph: Graph, tensors: Mapping[str, Any], coefficients: Sequence[Any], operations: Operations
) -> dict[str, Any]:
    """What the graph stores, by name.

    Coefficients may be arrays too, where a framework traces them. What `operations` lacks of `maximum`, `minimum` and
    `sign` is done by its definition; those that it has must treat NaN alike, which torch's `sign` doesn't.
    """
    return Evaluation(graph, coefficients).run(tensors, operations)


class _Step(NamedTuple):
    """An operation on arrays."""

    node: int
    op: str
    args: tuple[int, ...]
    spent: tuple[int, ...]  # operands that nothing reads after it
    writes: bool  # whether it may write over its first operand


class Evaluation:
    """A graph with the coefficients of one step."""

    def __init__(self, graph: Graph, coefficients: Sequence[Any]) -> None:
        self._values: dict[int, Any] = {}  # values that need no operation on arrays
        self._leaves: dict[int, str] = {}
        self._place: list[int] = []  # the node whose value a node has: many only pass on another's
        operations: dict[int, tuple[str, tuple[int, ...]]] = {}
        for index, (op, operands, value) in enumerate(graph.nodes):
            args = tuple(self._place[a] for a in operands)
            place = index
            if op == "tensor":
                self._leaves[index] = value
            elif op == "coefficient":
                number = coefficients[value]
                self._values[index] = float(number) if isinstance(number, int) else number
            elif op == "const":
                self._values[index] = float(value)
            elif op == "flush":
                place = args[0]
            elif op == "where" and self._number(args[0]):
                place = args[1] if self._values[args[0]] else args[2]  # the other isn't looked at, be it NaN
            elif all(map(self._number, args)):
                self._values[index] = ON_NUMBERS[op](*(self._values[a] for a in args))
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
        """The operations that the outputs depend on, and where each value is read for the last time."""
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
        """The operations that are done on arrays."""
        return {step.op for step in self._steps}

    def run(
        self, tensors: Mapping[str, Any], operations: Operations, writing: Operations | None = None
    ) -> dict[str, Any]:
        """What the graph stores, by name: numbers, inputs as they are, or new arrays.

        A value is released after its last use, or written over by one of the operations in `writing`. Inputs aren't.
        """
        values = self._values | {index: tensors[name] for index, name in self._leaves.items()}
        for node, op, args, spent, writes in self._steps:
            function = writing[op] if writing and writes and op in writing else _function(op, operations)
            values[node] = function(*(values[a] for a in args))
            for a in spent:
                del values[a]
        return {name: values[place] for name, place in self._outputs.items()}


def _function(op: str, operations: Operations) -> Callable[..., Any]:
    """The framework's operation, or what it is defined to be."""
    if op not in operations and (definition := OPERATIONS[op].definition) is not None:
        return functools.partial(definition, operations["where"])
    return operations[op]


_COMMUTE = frozenset({"add", "mul", "maximum", "minimum"})
