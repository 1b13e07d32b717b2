"""Which states can't be negative: intervals carried through a rule's expressions.

Hyperparameters lie in their ranges; one without a stated range counts as its default. A state can't be negative if it
starts at zero or above, and if its new value is at least zero whenever the old one was.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

from adamite.errors import RuleError
from adamite.language.expression import Expression
from adamite.language.maths import DEFINITIONS
from adamite.language.rule import Rule
from adamite.language.trace import walk

Interval = tuple[float, float]
_ANY: Interval = (-math.inf, math.inf)
_NOT_NEGATIVE: Interval = (0.0, math.inf)
# Numbers of the surroundings.
_AROUND: dict[str, Interval] = {"t": (1.0, math.inf), "clip": (0.0, 1.0), "weight_decay": _NOT_NEGATIVE}


def nonnegative(rule: Rule, states: Mapping[str, Expression]) -> frozenset[str]:
    """The states, of those whose new values are given, that can't be negative.

    Raises:
        RuleError: for a state that is declared `Unsigned` and may be.
    """
    numbers = {name: _range(spec.low, spec.high, spec.default) for name, spec in rule.numbers.items()}
    given = {**_AROUND, **numbers}
    starts = {s.name: given.get(s.start, _ANY) if isinstance(s.start, str) else (s.start,) * 2 for s in rule.states}
    assumed = frozenset(name for name in states if starts[name][0] >= 0)
    while True:
        intervals = _Intervals({**given, **dict.fromkeys(assumed, _NOT_NEGATIVE)})
        confirmed = frozenset(name for name in assumed if intervals.of(states[name])[0] >= 0)
        if confirmed == assumed:
            break
        assumed = confirmed
    for state in rule.states:
        if state.unsigned and state.name in states and state.name not in confirmed:
            raise RuleError(
                f"rule {rule.name}: {state.name} is declared Unsigned, and may become negative; drop the annotation, "
                "or compute it from what can't be (g**2, abs(g)) with coefficients whose ranges the docstring states"
            )
    return confirmed


def _range(low: float, high: float, default: Any) -> Interval:
    unstated = (low, high) == _ANY
    return (default, default) if unstated and isinstance(default, float) else (low, high)


class _Intervals:
    """The intervals of expressions, each computed once."""

    def __init__(self, inputs: Mapping[str, Interval]) -> None:
        self.inputs = inputs
        self.computed: dict[Expression, Interval] = {}

    def of(self, e: Expression) -> Interval:
        for part in walk(e):
            if part not in self.computed:
                self.computed[part] = self.interval(part)
        return self.computed[e]

    def interval(self, e: Expression) -> Interval:
        if e.op == "const":
            return e.args[0], e.args[0]
        if e.op in ("tensor", "number"):
            return self.inputs.get(e.args[0], _ANY)
        if e.op == "where":
            return _union(self.of(e.args[1]), self.of(e.args[2]))
        if e.op in _CHOICES:
            return _CHOICES[e.op](*(self.of(a) for a in e.args))
        if e.op in DEFINITIONS:
            return self.of(DEFINITIONS[e.op](*e.args))
        if e.boolean:
            return _ANY
        args = [self.of(a) for a in e.args]
        if e.op == "mul" and e.args[0] is e.args[1]:
            return _NOT_NEGATIVE
        if e.op == "sub" and self._steps_toward(*e.args):
            return _NOT_NEGATIVE
        return _OPERATIONS[e.op](*args)

    def _steps_toward(self, a: Expression, change: Expression) -> bool:
        """Whether the change is k * sign(a - b) * b, with a not negative and k in [0, 1], as in Yogi.

        Then a - change can't be negative: if a > b it is a - k * b, and if b > a it is a + k * b, where b > 0.
        """
        factors = _factors(change)
        for sign in factors:
            if sign.op != "sign" or sign.args[0].op != "sub" or not _same(a, sign.args[0].args[0]):
                continue
            b = sign.args[0].args[1]
            others = [factor for factor in factors if factor is not sign]
            this = next((factor for factor in others if _same(b, factor)), None)
            bounds = [self.of(factor) for factor in others if factor is not this]
            if this is not None and self.of(a)[0] >= 0:
                return all(low >= 0 and high <= 1 for low, high in bounds)
        return False


def _factors(e: Expression) -> list[Expression]:
    return [factor for a in e.args for factor in _factors(a)] if e.op == "mul" else [e]


def _same(a: Any, b: Any) -> bool:
    """Whether two expressions, or what stands at their leaves, are written alike."""
    if not (isinstance(a, Expression) and isinstance(b, Expression)):
        return not isinstance(a, Expression) and not isinstance(b, Expression) and bool(a == b)
    return a is b or (a.op == b.op and len(a.args) == len(b.args) and all(map(_same, a.args, b.args)))


def _union(a: Interval, b: Interval) -> Interval:
    return min(a[0], b[0]), max(a[1], b[1])


def _corners(operation: Callable[[float, float], float]) -> Callable[[Interval, Interval], Interval]:
    def between(a: Interval, b: Interval) -> Interval:
        ends = [operation(x, y) for x in a for y in b]
        return min(ends), max(ends)

    return between


def _times(a: float, b: float) -> float:
    return a * b if a and b else 0.0  # infinity stands for any large number


def _div(a: Interval, b: Interval) -> Interval:
    if b[0] < 0:
        return _ANY
    reciprocal = (1 / b[1] if b[1] else math.inf, 1 / b[0] if b[0] else math.inf)
    return _corners(_times)(a, reciprocal)


def _pow(a: Interval, b: Interval) -> Interval:
    if a[0] >= 0:
        return (0.0, 1.0) if a[1] <= 1 and b[0] >= 0 else _NOT_NEGATIVE
    return _NOT_NEGATIVE if b[0] == b[1] and b[0] % 2 == 0 else _ANY


# Narrower than what the definitions would give.
_CHOICES: dict[str, Callable[..., Interval]] = {
    "maximum": lambda a, b: (max(a[0], b[0]), max(a[1], b[1])),
    "minimum": lambda a, b: (min(a[0], b[0]), min(a[1], b[1])),
}

_OPERATIONS: dict[str, Callable[..., Interval]] = {
    "add": lambda a, b: (a[0] + b[0], a[1] + b[1]),
    "sub": lambda a, b: (a[0] - b[1], a[1] - b[0]),
    "mul": _corners(_times),
    "div": _div,
    "neg": lambda a: (-a[1], -a[0]),
    "sqrt": lambda a: _NOT_NEGATIVE,
    "abs": lambda a: _NOT_NEGATIVE,
    "pow": _pow,
}
