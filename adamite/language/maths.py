"""The functions that a rule may use, on symbols, arrays and numbers alike.

`maximum`, `minimum` and `sign` are defined here in terms of `where` and comparisons, since NumPy, torch and
LLVM differ on NaN and signed zeros.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from adamite.language.expression import Expression, apply


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


# What the functions below mean; on symbols every reader gets these definitions when the graph is lowered.
DEFINITIONS: dict[str, Callable[..., Any]] = {
    "maximum": lambda a, b: where(a != a, a, where(a > b, a, b)),
    "minimum": lambda a, b: where(a != a, a, where(a < b, a, b)),
    "sign": lambda x: where(x > 0, 1.0, where(x < 0, -1.0, x * 0.0)),
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
