"""The functions that a rule may use, on symbols, arrays and numbers alike."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import numpy as np

from adamite.language.expression import Expression, apply
from adamite.language.operations import OPERATIONS


def _symbolic(*operands: Any) -> bool:
    return any(isinstance(a, Expression) for a in operands)


def where(condition: Any, a: Any, b: Any) -> Any:
    """`a` where the condition holds, else `b`.

    >>> float(where(2 > 1, 10.0, 20.0))
    10.0
    """
    if _symbolic(condition, a, b):
        if isinstance(condition, (bool, np.bool_)):
            return a if condition else b
        return apply("where", condition, a, b)
    return np.where(condition, a, b)[()]


def sqrt(x: Any) -> Any:
    """The square root, correctly rounded.

    >>> float(sqrt(9.0))
    3.0
    """
    return apply("sqrt", x) if _symbolic(x) else np.sqrt(x)


def abs(x: Any) -> Any:
    """The absolute value; Python's own `abs` does the same."""
    return apply("abs", x) if _symbolic(x) else np.abs(x)


# What the functions below mean, in terms of other operations.
DEFINITIONS: dict[str, Callable[..., Any]] = {
    name: functools.partial(operation.definition, where)
    for name, operation in OPERATIONS.items()
    if operation.definition
}


def _defined(name: str, *operands: Any) -> Any:
    if _symbolic(*operands):
        return apply(name, *operands)
    with np.errstate(invalid="ignore"):
        return DEFINITIONS[name](*operands)


def maximum(a: Any, b: Any) -> Any:
    """The larger of two; NaN where either is NaN.

    >>> float(maximum(1.0, 2.0))
    2.0
    """
    return _defined("maximum", a, b)


def minimum(a: Any, b: Any) -> Any:
    """The smaller of two; NaN where either is NaN."""
    return _defined("minimum", a, b)


def sign(x: Any) -> Any:
    """-1, 0 or 1; a zero keeps its sign and NaN stays NaN."""
    return _defined("sign", x)
