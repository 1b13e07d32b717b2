"""What a stepper is, and the formulas that several families share.

A stepper computes one coordinate's steps. It is called as ``step(t, x, g, *, lr, ...)`` with ``t`` = 1, 2, 3, ...
and returns the displacement, which the caller subtracts from ``x``.
"""

import math
from collections.abc import Callable

Stepper = Callable[..., float]


def correction(beta: float, t: int) -> float:
    """1 - beta**t, without the cancellation that costs digits when beta is near 1."""
    return 1.0 if beta == 0.0 else -math.expm1(t * math.log(beta))


def moment_ahead(m: float, g: float, beta1: float, t: int) -> float:
    """Dozat 2016 as in optax: the corrected moment of the next step, as far as it is known."""
    return beta1 * (m / correction(beta1, t + 1)) + (1 - beta1) * (g / correction(beta1, t))
