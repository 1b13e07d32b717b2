"""What an update does to elements whose gradient is zero: how their states decay, and whether their steps die away.

Read from the graph, with 0 in the gradient's place, operation by operation. A value is followed as a sum of inputs
times numbers, and of a rest; of the rest is known by which powers of the states it is bounded. So with m and v that
decay by b1 and b2 a step, m / (sqrt(v) + eps) decays by b1 / sqrt(b2) at least.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Mapping, Sequence
from fractions import Fraction
from operator import itemgetter
from typing import Any, NamedTuple

from adamite.graph.expansion import expanded
from adamite.graph.nodes import Graph
from adamite.graph.numbers import ON_NUMBERS

Factor = Callable[[Sequence[float]], float]  # of the coefficients
Powers = Mapping[str, tuple[Fraction, Fraction]]  # of states: the least and the largest

_NUMBER = ""  # stands for 1 among the inputs


class Unpredictable(ValueError):
    """An update whose effect on elements without a gradient has no closed form; the text says what of it."""


class Idle(NamedTuple):
    """What steps with gradients of zero do."""

    x: Factor  # what of the parameter stays, a step: decoupled decay
    states: tuple[Factor, ...]  # what of each state stays
    powers: Mapping[str, Fraction] | None  # the rest of a step is within these powers of the states; None for none

    def logs(self, coefficients: Sequence[float]) -> list[float]:
        """Logarithms of what a step leaves of x, of the states, and of the bound of the next step."""
        kept = [f(coefficients) for f in (self.x, *self.states)]
        if not min(kept) >= 0:
            raise Unpredictable(
                "a step would multiply rows without a gradient by a negative number (is lr * weight_decay above 1?), "
                'which sparse="exact" can\'t sum up; nothing was changed. Lower it, or take sparse="lazy"'
            )
        logs = [math.log(k) if k > 0 else GONE for k in kept]
        bound = sum(float(power) * log for power, log in zip((self.powers or {}).values(), logs[1:], strict=False))
        return [*logs, min(bound, 0.0)]  # what may grow never becomes negligible


GONE = -800.0  # the logarithm of what counts as zero: exp(-800) is, and sums of it stay exact enough


class _Value(NamedTuple):
    linear: Mapping[str, Factor]  # inputs, and what they are multiplied by
    rest: Powers | None = None  # what else is added: its bounds
    cancels: bool = False  # whether it may be much smaller than what it is a sum of

    @property
    def zero(self) -> bool:
        return not self.linear and self.rest is None

    @property
    def number(self) -> bool:
        return self.rest is None and self.linear.keys() <= {_NUMBER}

    @property
    def factor(self) -> Factor:
        """The number that it is."""
        return self.linear.get(_NUMBER, _constant(0.0))

    @property
    def powers(self) -> Powers:
        """The bounds of all of it."""
        terms = [{name: (Fraction(1), Fraction(1))} if name != _NUMBER else {} for name in self.linear]
        return _hull([*terms, *([] if self.rest is None else [self.rest])])


def _constant(value: float) -> Factor:
    return lambda coefficients: value


def _hull(terms: list[Any]) -> Powers:
    names = dict.fromkeys(name for term in terms for name in term)
    nothing = Fraction(0), Fraction(0)
    found = {name: [term.get(name, nothing) for term in terms] for name in names}
    return {name: (min(low for low, _ in ranges), max(high for _, high in ranges)) for name, ranges in found.items()}


def _apply(op: str, *factors: Factor) -> Factor:
    on = ON_NUMBERS[op]
    return lambda coefficients: on(*(f(coefficients) for f in factors))


@functools.cache
def idle(graph: Graph) -> Idle:
    """What an update does to elements whose gradient is zero.

    Raises:
        Unpredictable: where that can't be said without doing it.
    """
    graph = expanded(graph)
    values: list[_Value] = []
    for node in graph.nodes:
        if node.op == "tensor":
            values.append(_Value({} if node.value == "g" else {node.value: _constant(1.0)}))
        elif node.op == "coefficient":
            values.append(_Value({_NUMBER: itemgetter(node.value)}))
        elif node.op == "const":
            values.append(_Value({_NUMBER: _constant(float(node.value))} if node.value else {}))
        else:
            values.append(_operation(node.op, *(values[a] for a in node.args)))
    found = {name: values[index] for name, index in graph.outputs}
    states = []
    for name in graph.inputs[2:]:
        new = found.get(name, _Value({name: _constant(1.0)}))
        if new.rest is not None or not new.linear.keys() <= {name}:
            on = [n for n in new.powers if n != name]
            raise Unpredictable(
                f"its state {name} isn't multiplied by a number where the gradient is zero"
                + (f", but depends on {' and '.join(on)}" if on else "")
            )
        states.append(new.linear.get(name, _constant(0.0)))
    moved = found["x"]
    rest = _Value({name: f for name, f in moved.linear.items() if name != "x"}, moved.rest)
    if moved.linear.keys() >= {"x"} and "x" not in rest.powers and _NUMBER not in moved.linear:
        powers = {name: rest.powers.get(name, (Fraction(0), Fraction(0)))[0] for name in graph.inputs[2:]}
        if rest.zero or any(power > 0 for power in powers.values()):
            return Idle(moved.linear["x"], tuple(states), None if rest.zero else powers)
    raise Unpredictable("its steps don't die away where the gradient is zero")


@functools.cache
def decays(graph: Graph) -> Mapping[str, Factor] | None:
    """What the states are multiplied by, where it isn't 1, if a gradient of zero leaves the parameter as it is."""
    try:
        zero = idle(graph)
    except Unpredictable:
        return None
    # What a factor is multiplied by shows, if the coefficients are such as don't cancel.
    coefficients = [math.sqrt(k + 2) for k in range(graph.coefficient_count)]
    if zero.powers is not None or zero.x(coefficients) != 1.0:
        return None
    factors = zip(graph.inputs[2:], zero.states, strict=True)
    return {name: factor for name, factor in factors if factor(coefficients) != 1.0}


def still(graph: Graph) -> bool:
    """Whether an update leaves elements whose gradient is zero as they are: then only the others need a step."""
    return decays(graph) == {}


_OF_ZEROS = ("add", "sub", "mul", "neg", "abs", "sqrt", "gt", "lt", "ne")  # operations that make 0 of zeros


def _operation(op: str, *args: _Value) -> _Value:
    if op == "flush":
        return args[0]
    if all(a.number for a in args):
        if (any if op == "mul" else all)(a.zero for a in args) and op in _OF_ZEROS:
            return _Value({})
        return _Value({_NUMBER: _apply(op, *(a.factor for a in args))})
    a, *others = args
    match op:
        case "neg":
            return _scaled(a, _constant(-1.0))
        case "add" | "sub":
            return _together(op, a, others[0], cancels=op == "sub")
        case "mul":
            if a.number or others[0].number:
                value, number = (others[0], a) if a.number else (a, others[0])
                return _Value({}) if number.zero else _scaled(value, number.factor)
            return _Value({}, _sum(a.powers, others[0].powers), a.cancels or others[0].cancels)
        case "div":
            if a.zero:
                return a
            if others[0].cancels:
                raise Unpredictable("it divides by a difference")
            return _Value({}, _sum(a.powers, _negative(others[0].powers)))
        case "sqrt":
            return _Value({}, {name: (low / 2, high / 2) for name, (low, high) in a.powers.items()}, a.cancels)
        case "abs":
            return _Value({}, a.powers, a.cancels)
        case "where":
            if a.zero:
                return others[1]
            if a.number:
                return _together("where", *others, condition=a.factor)
            chosen = [value for value in others if not value.zero]
            cancels = any(value.cancels for value in chosen)
            return _Value({}, _hull([value.powers for value in chosen]), cancels) if chosen else _Value({})
    return _Value({}, {})  # a comparison: anything, which doesn't grow


def _scaled(value: _Value, factor: Factor) -> _Value:
    return _Value({name: _apply("mul", f, factor) for name, f in value.linear.items()}, value.rest, value.cancels)


def _together(op: str, a: _Value, b: _Value, *, cancels: bool = False, condition: Factor | None = None) -> _Value:
    """A sum, a difference, or one of two by a number."""
    before = () if condition is None else (condition,)
    names = {**a.linear, **b.linear}
    nothing = _constant(0.0)
    linear = {name: _apply(op, *before, a.linear.get(name, nothing), b.linear.get(name, nothing)) for name in names}
    rests = [rest for rest in (a.rest, b.rest) if rest is not None]
    return _Value(linear, _hull(rests) if rests else None, cancels or a.cancels or b.cancels)


def _sum(a: Powers, b: Powers) -> Powers:
    nothing = Fraction(0), Fraction(0)
    pairs = {name: (a.get(name, nothing), b.get(name, nothing)) for name in {**a, **b}}
    return {name: (p[0] + q[0], p[1] + q[1]) for name, (p, q) in pairs.items()}


def _negative(a: Powers) -> Powers:
    return {name: (-high, -low) for name, (low, high) in a.items()}
