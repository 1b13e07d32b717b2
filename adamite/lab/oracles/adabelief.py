"""AdaBelief (Zhuang et al. 2020)."""

import math

from adamite.lab.oracles.stepper import Stepper, correction, moment_ahead


def adabelief() -> Stepper:
    """Zhuang et al. 2020, algorithm 2: the belief uses the new m; eps_root stays in the state."""
    m = s = 0.0

    def step(t: int, g: float, *, lr: float, beta1: float, beta2: float, eps: float, eps_root: float) -> float:
        nonlocal m, s
        m = beta1 * m + (1 - beta1) * g
        s = beta2 * s + (1 - beta2) * (g - m) * (g - m) + eps_root
        m_hat = m / correction(beta1, t)
        s_hat = s / correction(beta2, t)
        return lr * m_hat / (math.sqrt(s_hat) + eps)

    return step


def adabelief_nesterov() -> Stepper:
    """AdaBelief of optax with its nesterov flag: the moment one step ahead."""
    m = s = 0.0

    def step(t: int, g: float, *, lr: float, beta1: float, beta2: float, eps: float, eps_root: float) -> float:
        nonlocal m, s
        m = beta1 * m + (1 - beta1) * g
        s = beta2 * s + (1 - beta2) * (g - m) * (g - m) + eps_root
        return lr * moment_ahead(m, g, beta1, t) / (math.sqrt(s / correction(beta2, t)) + eps)

    return step
