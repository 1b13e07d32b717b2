"""What an update does to elements whose gradient is zero: how their states decay, and whether their steps fade.

This is read from the graph with g = 0, operation by operation. A value is a sum of inputs, each times a number, and of
a remainder; of the remainder we know which powers of the states bound it. For Adam with decoupled weight decay:

    m = b1 * m + a1 * g                        b1 * m
    v = b2 * v + a2 * (g * g)                  b2 * v
    sqrt(v * c2)                               a remainder, bounded by v^(1/2)
    lr * (m * c1) / (sqrt(v * c2) + eps)       a remainder, bounded by m^1 * v^(-1/2)
    x = x - (... + decay * x)                  (1 - decay) * x, and the same remainder

So m decays by b1 a step, v by b2, x by 1 - decay, and the steps by b1 / sqrt(b2) or faster.
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
    """An update whose effect on elements without a gradient has no closed form; the message says why."""


class Idle(NamedTuple):
    """What steps with gradients of zero do."""

    x: Factor  # what a step multiplies the parameter by: decoupled decay
    states: tuple[Factor, ...]  # what it multiplies each state by
    powers: Mapping[str, Fraction] | None  # of the states, which bound what else it does to the parameter, if anything

    def logs(self, coefficients: Sequence[float]) -> list[float]:
        """Logarithms of what a step multiplies x, the states, and the bound of the next step by."""
        factors = [f(coefficients) for f in (self.x, *self.states)]
        if not min(factors) >= 0:
            raise Unpredictable(
                "a step would multiply rows without a gradient by a negative number (is lr * weight_decay above 1?), "
                'which sparse="exact" can\'t sum up; nothing was changed. Lower it, or take sparse="lazy"'
            )
        logs = [math.log(factor) if factor > 0 else GONE for factor in factors]
        bound = sum(float(power) * log for power, log in zip((self.powers or {}).values(), logs[1:], strict=False))
        return [*logs, min(bound, 0.0)]  # a bound that may grow never becomes negligible


GONE = -800.0  # stands for the logarithm of zero: exp(-800) is zero, and sums of it stay exact enough


class _Value(NamedTuple):
    linear: Mapping[str, Factor]  # inputs, and what they are multiplied by
    remainder: Powers | None = None  # the bounds of what else is added
    cancels: bool = False  # whether it may be much smaller than the terms that it is a sum of

    @property
    def zero(self) -> bool:
        return not self.linear and self.remainder is None

    @property
    def number(self) -> bool:
        return self.remainder is None and self.linear.keys() <= {_NUMBER}

    @property
    def factor(self) -> Factor:
        """The number that it is."""
        return self.linear.get(_NUMBER, _constant(0.0))

    @property
    def powers(self) -> Powers:
        """The bounds of the whole value."""
        terms = [{name: (Fraction(1), Fraction(1))} if name != _NUMBER else {} for name in self.linear]
        return _hull([*terms, *([] if self.remainder is None else [self.remainder])])


def _constant(value: float) -> Factor:
    return lambda coefficients: value


def _hull(terms: list[Any]) -> Powers:
    names = dict.fromkeys(name for term in terms for name in term)
    nothing = Fraction(0), Fraction(0)
    ranges = {name: [term.get(name, nothing) for term in terms] for name in names}
    return {name: (min(low for low, _ in each), max(high for _, high in each)) for name, each in ranges.items()}


def _apply(op: str, *factors: Factor) -> Factor:
    on = ON_NUMBERS[op]
    return lambda coefficients: on(*(f(coefficients) for f in factors))


@functools.cache
def idle(graph: Graph) -> Idle:
    """What an update does to elements whose gradient is zero.

    Raises:
        Unpredictable: if that can't be said without running it.
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
    outputs = {name: values[index] for name, index in graph.outputs}
    states = []
    for name in graph.inputs[2:]:
        new = outputs.get(name, _Value({name: _constant(1.0)}))
        if new.remainder is not None or not new.linear.keys() <= {name}:
            on = [n for n in new.powers if n != name]
            raise Unpredictable(
                f"its state {name} isn't multiplied by a number where the gradient is zero"
                + (f", but depends on {' and '.join(on)}" if on else "")
            )
        states.append(new.linear.get(name, _constant(0.0)))
    moved = outputs["x"]
    step = _Value({name: f for name, f in moved.linear.items() if name != "x"}, moved.remainder)
    if moved.linear.keys() >= {"x"} and "x" not in step.powers and _NUMBER not in moved.linear:
        powers = {name: step.powers.get(name, (Fraction(0), Fraction(0)))[0] for name in graph.inputs[2:]}
        if step.zero or any(power > 0 for power in powers.values()):
            return Idle(moved.linear["x"], tuple(states), None if step.zero else powers)
    raise Unpredictable("its steps don't die away where the gradient is zero")


@functools.cache
def decays(graph: Graph) -> Mapping[str, Factor] | None:
    """The factors of the states that decay, if a gradient of zero leaves the parameter as it is; else None."""
    try:
        zero = idle(graph)
    except Unpredictable:
        return None
    # With coefficients that don't cancel, a factor is 1 only if it always is.
    coefficients = [math.sqrt(k + 2) for k in range(graph.coefficient_count)]
    if zero.powers is not None or zero.x(coefficients) != 1.0:
        return None
    factors = zip(graph.inputs[2:], zero.states, strict=True)
    return {name: factor for name, factor in factors if factor(coefficients) != 1.0}


def still(graph: Graph) -> bool:
    """Whether an update changes nothing where the gradient is zero: then only the other elements need a step."""
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
    return _Value({}, {})  # a comparison: it may be anything, but doesn't grow


def _scaled(value: _Value, factor: Factor) -> _Value:
    return _Value({name: _apply("mul", f, factor) for name, f in value.linear.items()}, value.remainder, value.cancels)


def _together(op: str, a: _Value, b: _Value, *, cancels: bool = False, condition: Factor | None = None) -> _Value:
    """A sum, a difference, or a choice by a condition on numbers."""
    before = () if condition is None else (condition,)
    names = {**a.linear, **b.linear}
    nothing = _constant(0.0)
    linear = {name: _apply(op, *before, a.linear.get(name, nothing), b.linear.get(name, nothing)) for name in names}
    remainders = [powers for powers in (a.remainder, b.remainder) if powers is not None]
    return _Value(linear, _hull(remainders) if remainders else None, cancels or a.cancels or b.cancels)


def _sum(a: Powers, b: Powers) -> Powers:
    nothing = Fraction(0), Fraction(0)
    pairs = {name: (a.get(name, nothing), b.get(name, nothing)) for name in {**a, **b}}
    return {name: (p[0] + q[0], p[1] + q[1]) for name, (p, q) in pairs.items()}


def _negative(a: Powers) -> Powers:
    return {name: (-high, -low) for name, (low, high) in a.items()}
