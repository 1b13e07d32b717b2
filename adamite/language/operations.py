"""The operations of rules and graphs: how many operands, what they give, where they may stand, what they mean.

This is the one list of them. A backend has each primitive operation that may stand in a graph
(tests/backends/test_operations.py). `maximum`, `minimum` and `sign` have a definition in terms of others, which a
backend without them computes instead: NumPy, torch and LLVM differ on NaN and signed zeros.
"""

from __future__ import annotations

import functools
import math
import operator
from collections.abc import Callable
from typing import Any, NamedTuple


class Operation(NamedTuple):
    """An operation's entry in the table."""

    arity: int
    on_numbers: Callable[..., Any] | None  # IEEE float64 arithmetic; None if it is for tensors only
    text: str | None = None  # in Python; None if `on_numbers` is called by the operation's name
    boolean: bool = False  # whether it gives true or false
    on_tensors: bool = True  # whether it may stand in a graph; else it is lowered to others
    definition: Callable[..., Any] | None = None  # what it means: a function of `where` and the operands


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


def _where(condition: Any, a: Any, b: Any) -> Any:
    return a if condition else b


def _defined(arity: int, definition: Callable[..., Any]) -> Operation:
    return Operation(arity, functools.partial(definition, _where), definition=definition)


OPERATIONS: dict[str, Operation] = {
    "add": Operation(2, operator.add, "{} + {}"),
    "sub": Operation(2, operator.sub, "{} - {}"),
    "mul": Operation(2, operator.mul, "{} * {}"),
    "div": Operation(2, _div, "{0} / {1} if {1} else div({0}, {1})"),
    "neg": Operation(1, operator.neg, "-{}"),
    "pow": Operation(2, _pow, on_tensors=False),
    "sqrt": Operation(1, _sqrt),
    "abs": Operation(1, abs),
    "gt": Operation(2, operator.gt, "{} > {}", boolean=True),
    "ge": Operation(2, operator.ge, "{} >= {}", boolean=True),
    "lt": Operation(2, operator.lt, "{} < {}", boolean=True),
    "le": Operation(2, operator.le, "{} <= {}", boolean=True),
    "eq": Operation(2, operator.eq, "{} == {}", boolean=True),
    "ne": Operation(2, operator.ne, "{} != {}", boolean=True),
    "and": Operation(2, lambda a, b: a and b, "{} and {}", boolean=True),
    "or": Operation(2, lambda a, b: a or b, "{} or {}", boolean=True),
    "not": Operation(1, operator.not_, "not {}", boolean=True),
    "where": Operation(3, _where, "{1} if {0} else {2}"),
    "maximum": _defined(2, lambda where, a, b: where(a != a, a, where(a > b, a, b))),
    "minimum": _defined(2, lambda where, a, b: where(a != a, a, where(a < b, a, b))),
    "sign": _defined(1, lambda where, x: where(x > 0, 1.0, where(x < 0, -1.0, x * 0.0))),
    "flush": Operation(1, None),
}


def gives_truth(op: str) -> bool:
    """Whether an operation, or a leaf, gives true or false."""
    return op in OPERATIONS and OPERATIONS[op].boolean
