"""Lion (Chen et al. 2023)."""

import math

from adamite.lab.oracles.stepper import Stepper


def lion() -> Stepper:
    """Chen et al. 2023, algorithm 2: the sign of the interpolation; sign of 0 is 0."""
    m = 0.0

    def step(t: int, g: float, *, lr: float, beta1: float, beta2: float) -> float:
        nonlocal m
        c = beta1 * m + (1 - beta1) * g
        m = beta2 * m + (1 - beta2) * g
        if c == 0.0:
            return 0.0
        return lr * math.copysign(1.0, c)

    return step
