"""Yogi (Zaheer et al. 2018)."""

import math

from adamite.lab.oracles.stepper import Stepper, correction


def yogi() -> Stepper:
    """Zaheer et al. 2018, algorithm 2, with the bias correction and the start at 1e-6 of the authors' code."""
    m = v = 1e-6

    def step(t: int, g: float, *, lr: float, beta1: float, beta2: float, eps: float) -> float:
        nonlocal m, v
        m = beta1 * m + (1 - beta1) * g
        square = g * g
        if v > square:
            v = v - (1 - beta2) * square
        elif v < square:
            v = v + (1 - beta2) * square
        m_hat = m / correction(beta1, t)
        v_hat = v / correction(beta2, t)
        return lr * m_hat / (math.sqrt(v_hat) + eps)

    return step
