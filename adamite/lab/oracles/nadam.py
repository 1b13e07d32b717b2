"""NAdam (Dozat 2016)."""

import math

from adamite.lab.oracles.stepper import Stepper, correction, moments


def nadam() -> Stepper:
    """Dozat 2016 with his momentum schedule, as in torch (Keras: momentum_decay = 1)."""
    m = v = 0.0
    mu_product = 1.0

    def step(t: int, g: float, *, lr: float, beta1: float, beta2: float, eps: float, momentum_decay: float) -> float:
        nonlocal m, v, mu_product
        mu = beta1 * (1 - 0.5 * math.pow(0.96, t * momentum_decay))
        mu_next = beta1 * (1 - 0.5 * math.pow(0.96, (t + 1) * momentum_decay))
        mu_product = mu_product * mu
        m, v = moments(m, v, g, beta1, beta2)
        g_hat = g / (1 - mu_product)
        m_hat = m / (1 - mu_product * mu_next)
        v_hat = v / correction(beta2, t)
        return lr * ((1 - mu) * g_hat + mu_next * m_hat) / (math.sqrt(v_hat) + eps)

    return step


def nadam_unscheduled() -> Stepper:
    """Dozat 2016 with a constant momentum, as in optax."""
    m = v = 0.0

    def step(t: int, g: float, *, lr: float, beta1: float, beta2: float, eps: float) -> float:
        nonlocal m, v
        m, v = moments(m, v, g, beta1, beta2)
        g_hat = g / correction(beta1, t)
        m_hat = m / correction(beta1, t + 1)
        v_hat = v / correction(beta2, t)
        return lr * (beta1 * m_hat + (1 - beta1) * g_hat) / (math.sqrt(v_hat) + eps)

    return step
