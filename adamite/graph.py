"""An update in primitive operations: what depends on numbers alone, once a step, and what the loop does.

Numbers are evaluated in float64 by a generated straight-line function and rounded once to the compute dtype
(the coefficients). Tensors become a list of primitive operations, each on earlier ones:

    tensor NAME | coefficient INDEX | const VALUE
    add sub mul div neg sqrt abs | gt ge lt le eq ne and or not | where | flush

A division by a number is a multiplication by its reciprocal; whole powers are products; a state is flushed to zero
near the subnormal numbers (below `Format.smallest_state`, unless the node says another value), as it is read and as it
is stored, since arithmetic on those is many times slower. Nothing else is reordered or contracted.
"""

from __future__ import annotations

import functools
import math
import operator
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import Any, NamedTuple

from adamite.expression import Expression, apply, constant
from adamite.maths import DEFINITIONS
from adamite.trace import walk
from adamite.update import Update


class Node(NamedTuple):
    """A primitive operation: `args` are indices of earlier nodes; leaves carry a `value`."""

    op: str
    args: tuple[int, ...] = ()
    value: Any = None


class Program:
    """What depends on numbers alone, a line an operation; `ON_NUMBERS` says what each means."""

    def __init__(
        self,
        numbers: Sequence[str] = (),
        constants: Mapping[str, Any] = MappingProxyType({}),
        lines: Sequence[tuple[str, str, tuple[str, ...]]] = (),  # variable, operation, operands
        results: Sequence[str] = (),
    ) -> None:
        self.numbers, self.constants, self.lines, self.results = numbers, constants, lines, results
        self.source, self.evaluate = self._compile()

    def run(self, operations: Mapping[str, Callable[..., Any]], numbers: Sequence[Any]) -> tuple[Any, ...]:
        """Run it with a framework's operations, on float64 numbers that it may trace."""
        values = {**self.constants, **{f"n_{name}": value for name, value in zip(self.numbers, numbers, strict=True)}}
        for variable, op, operands in self.lines:
            values[variable] = operations[op](*(values[o] for o in operands))
        return tuple(values[r] for r in self.results)

    def _compile(self) -> tuple[str, Callable[..., tuple[float, ...]]]:
        """It as a function of Python's numbers, several times as fast; first the text."""
        body = []
        for variable, op, operands in self.lines:
            if op == "div":
                body.append(
                    f"{variable} = {operands[0]} / {operands[1]} if {operands[1]} else div({', '.join(operands)})"
                )
            elif op in _FUNCTIONS:
                body.append(f"{variable} = {op}({', '.join(operands)})")
            else:
                body.append(f"{variable} = {_OPERATORS[op][0].format(*operands)}")
        returned = "".join(f"{r}, " for r in self.results)
        source = "\n    ".join(
            [f"def coefficients({', '.join(f'n_{n}' for n in self.numbers)}):", *body, f"return ({returned})"]
        )
        namespace: dict[str, Any] = dict(_FUNCTIONS)
        exec(source, namespace)  # straight-line arithmetic generated above
        evaluate: Callable[..., tuple[float, ...]] = namespace["coefficients"]
        return source, evaluate


@dataclass(frozen=True, eq=False)
class Graph:
    """The loop's body and the function of its coefficients."""

    inputs: tuple[str, ...]  # tensors in the order of the engine's table
    outputs: tuple[tuple[str, int], ...]  # name and node of what is stored
    nodes: tuple[Node, ...]
    coefficient_count: int
    numbers: tuple[str, ...]  # what the program takes after t, the Scalar states last
    scalars: tuple[str, ...]  # Scalar states
    program: Program  # (t, *numbers) -> coefficients, then new Scalar states

    def __repr__(self) -> str:
        return f"<graph: {', '.join(self.inputs)} -> {', '.join(name for name, _ in self.outputs)}>"

    @property
    def evaluate(self) -> Callable[..., tuple[float, ...]]:
        """The program on Python's numbers."""
        return self.program.evaluate

    @functools.cached_property
    def read(self) -> tuple[str, ...]:
        """The inputs that its outputs depend on, or are stored in."""
        nodes = under(self.nodes, [index for _, index in self.outputs])
        names = {self.nodes[k].value for k in nodes if self.nodes[k].op == "tensor"} | dict(self.outputs).keys()
        return tuple(name for name in self.inputs if name in names)


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


def under(nodes: Sequence[Node], roots: Sequence[int]) -> set[int]:
    """The nodes that some depend on, and these."""
    found = set(roots)
    for index in range(len(nodes) - 1, -1, -1):
        found.update(nodes[index].args if index in found else ())
    return found


def lower(update: Update) -> Graph:
    """The graph of an update."""
    return _Lowering(update).graph


class _Lowering:
    def __init__(self, update: Update) -> None:
        self.nodes: list[Node] = []
        self.known: dict[Node, int] = {}
        self.done: dict[Expression, int] = {}
        self.scalars = _Scalars()
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

    def node(self, op: str, *args: int, value: Any = None) -> int:
        new = Node(op, args, value if not isinstance(value, float) else _Bits(value))
        if new not in self.known:
            self.known[new] = len(self.nodes)
            self.nodes.append(new)
        return self.known[new]

    def state(self, e: Expression) -> int:
        """A new state, as it is stored."""
        node = self.node("flush", self.value(e))
        if e.args and e.op not in ("tensor", "const"):
            self.done[e] = node  # what is computed from the new state reads it as it is stored
        return node

    def value(self, root: Expression) -> int:
        for e in walk(root):
            if e not in self.done and not (e.scalar and e is not root):
                self.done[e] = self.operation(e)
        return self.done[root]

    def operand(self, e: Expression) -> int:
        """An argument of a tensor operation; a number among them becomes a coefficient."""
        if e not in self.done:
            self.done[e] = self.operation(e)
        return self.done[e]

    def operation(self, e: Expression) -> int:
        if e.scalar:
            return self.coefficient(e)
        if e.op == "tensor":
            node = self.node("tensor", value=e.args[0])
            return node if e.args[0] in ("x", "g") else self.node("flush", node)
        if e.op in DEFINITIONS:
            return self.value(DEFINITIONS[e.op](*e.args))
        if e.op == "pow":
            return self.value(_power(e.args[0], e.args[1].args[0]))
        if e.op == "div" and e.args[1].scalar:
            return self.node("mul", self.operand(e.args[0]), self.operand(1.0 / e.args[1]))
        return self.node(e.op, *(self.operand(a) for a in e.args))

    def coefficient(self, e: Expression) -> int:
        if e.boolean:  # a coefficient is a number
            return self.node("ne", self.operand(apply("where", e, 1.0, 0.0)), self.operand(constant(0.0)))
        name = self.scalars.value(e)
        folded = self.scalars.constants.get(name)
        if folded is not None:
            return self.node("const", value=folded)
        if name not in self.coefficients:
            self.coefficients.append(name)
        return self.node("coefficient", value=self.coefficients.index(name))


class _Bits(float):
    """A float that equals another by its bits: 0.0 and -0.0 are two constants, NaN is one."""

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Bits) and self.hex() == other.hex() and str(self) == str(other)

    def __hash__(self) -> int:
        return hash(self.hex())


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


# ---- numbers: IEEE float64 arithmetic, where Python's own / and ** may raise ----------------------


def _div(a: float, b: float) -> float:
    try:
        return a / b
    except ZeroDivisionError:
        return math.nan if a == 0 or a != a else math.copysign(math.inf, a) * math.copysign(1.0, b)


def _pow(a: float, b: float) -> float:
    try:
        power = a**b
    except OverflowError:
        if a < 0 and b % 1:
            return math.nan
        return -math.inf if a < 0 and b % 2 else math.inf
    except ZeroDivisionError:
        return math.copysign(math.inf, a) if b % 2 == 1 else math.inf
    return power if isinstance(power, float) else math.nan


def _sqrt(a: float) -> float:
    return math.sqrt(a) if a >= 0 else math.nan


_FUNCTIONS: dict[str, Callable[..., Any]] = {"div": _div, "pow": _pow, "sqrt": _sqrt, "abs": abs}
_OPERATORS: dict[str, tuple[str, Callable[..., Any]]] = {
    "add": ("{} + {}", operator.add),
    "sub": ("{} - {}", operator.sub),
    "mul": ("{} * {}", operator.mul),
    "neg": ("-{}", operator.neg),
    "gt": ("{} > {}", operator.gt),
    "ge": ("{} >= {}", operator.ge),
    "lt": ("{} < {}", operator.lt),
    "le": ("{} <= {}", operator.le),
    "eq": ("{} == {}", operator.eq),
    "ne": ("{} != {}", operator.ne),
    "and": ("{} and {}", lambda a, b: a and b),
    "or": ("{} or {}", lambda a, b: a or b),
    "not": ("not {}", operator.not_),
    "where": ("{1} if {0} else {2}", lambda c, a, b: a if c else b),
}

# Every operation on numbers.
ON_NUMBERS: dict[str, Callable[..., Any]] = {**_FUNCTIONS, **{op: function for op, (_, function) in _OPERATORS.items()}}


class _Scalars:
    """Straight-line code for what depends on numbers alone."""

    def __init__(self) -> None:
        self.lines: dict[tuple[Any, ...], str] = {}  # operation -> the variable that holds it
        self.done: dict[Expression, str] = {}
        self.constants: dict[str, Any] = {}

    def numbers(self, exclude: Sequence[str]) -> tuple[str, ...]:
        names = (key[1] for key in self.lines if key[0] == "number")
        return tuple(dict.fromkeys(n for n in names if n not in exclude))

    def value(self, root: Expression) -> str:
        for e in walk(root):
            if e not in self.done:
                if e.op in DEFINITIONS:
                    self.done[e] = self.value(DEFINITIONS[e.op](*e.args))
                else:
                    self.done[e] = self.variable(e)
        return self.done[root]

    def variable(self, e: Expression) -> str:
        if e.op == "const":
            return self.constant(e.args[0])
        if e.op == "number":
            return self.lines.setdefault(("number", e.args[0]), f"n_{e.args[0]}")
        args = [self.done[a] for a in e.args]
        if all(a in self.constants for a in args):
            function = _FUNCTIONS.get(e.op) or _OPERATORS[e.op][1]
            return self.constant(function(*(self.constants[a] for a in args)))
        return self.lines.setdefault((e.op, *args), f"v{len(self.lines)}")

    def constant(self, value: Any) -> str:
        name = repr(value) if value in (True, False) or math.isfinite(value) else f'float("{value}")'
        self.constants[name] = value
        return name

    def program(self, numbers: tuple[str, ...], results: Sequence[str]) -> Program:
        lines = ((variable, op, tuple(operands)) for (op, *operands), variable in self.lines.items() if op != "number")
        return Program(numbers, self.constants, tuple(lines), results)
