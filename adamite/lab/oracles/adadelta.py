"""Adadelta (Zeiler 2012)."""

import math

from adamite.lab.oracles.stepper import Stepper


def adadelta() -> Stepper:
    """Zeiler 2012, algorithm 1; lr multiplies the step but not the accumulated one."""
    mean_g2 = mean_dx2 = 0.0

    def step(t: int, g: float, *, lr: float, rho: float, eps: float) -> float:
        nonlocal mean_g2, mean_dx2
        mean_g2 = rho * mean_g2 + (1 - rho) * g * g
        dx = math.sqrt(mean_dx2 + eps) / math.sqrt(mean_g2 + eps) * g
        mean_dx2 = rho * mean_dx2 + (1 - rho) * dx * dx
        return lr * dx

    return step
