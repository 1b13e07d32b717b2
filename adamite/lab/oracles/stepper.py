"""What a stepper is, and the formulas that several families share.

A stepper computes one coordinate's steps. It is called as ``step(t, g, *, lr, ...)`` with ``t`` = 1, 2, 3, ... and
returns the displacement, which the caller subtracts from the coordinate.
"""

import math
from collections.abc import Callable

Stepper = Callable[..., float]


def correction(beta: float, t: int) -> float:
    """1 - beta**t, without the cancellation that costs digits when beta is near 1."""
    return 1.0 if beta == 0.0 else -math.expm1(t * math.log(beta))


def moments(m: float, v: float, g: float, beta1: float, beta2: float) -> tuple[float, float]:
    """Kingma & Ba 2015: the moving averages of the gradients and of their squares."""
    return beta1 * m + (1 - beta1) * g, beta2 * v + (1 - beta2) * g * g


def moment_ahead(m: float, g: float, beta1: float, t: int) -> float:
    """Dozat 2016 as in optax: the corrected moment of the next step, as far as it is known."""
    return beta1 * (m / correction(beta1, t + 1)) + (1 - beta1) * (g / correction(beta1, t))
