"""Adam (Kingma & Ba 2015), and its forms in Keras and optax."""

import math

from adamite.lab.oracles.stepper import Stepper, correction, moment_ahead, moments


def adam() -> Stepper:
    """Kingma & Ba 2015, algorithm 1."""
    m = v = 0.0

    def step(t: int, g: float, *, lr: float, beta1: float, beta2: float, eps: float) -> float:
        nonlocal m, v
        m, v = moments(m, v, g, beta1, beta2)
        m_hat = m / correction(beta1, t)
        v_hat = v / correction(beta2, t)
        return lr * m_hat / (math.sqrt(v_hat) + eps)

    return step


def adam_eps_hat() -> Stepper:
    """Kingma & Ba 2015, end of section 2: the reordered form, eps is their epsilon hat (Keras)."""
    m = v = 0.0

    def step(t: int, g: float, *, lr: float, beta1: float, beta2: float, eps: float) -> float:
        nonlocal m, v
        m, v = moments(m, v, g, beta1, beta2)
        lr_t = lr * math.sqrt(correction(beta2, t)) / correction(beta1, t)
        return lr_t * m / (math.sqrt(v) + eps)

    return step


def adam_eps_root() -> Stepper:
    """Adam of optax: eps_root under the root, and its nesterov flag."""
    m = v = 0.0

    def step(
        t: int, g: float, *, lr: float, beta1: float, beta2: float, eps: float, eps_root: float | None, nesterov: bool
    ) -> float:
        nonlocal m, v
        m, v = moments(m, v, g, beta1, beta2)
        m_hat = moment_ahead(m, g, beta1, t) if nesterov else m / correction(beta1, t)
        return lr * m_hat / (math.sqrt(v / correction(beta2, t) + (eps_root or 0.0)) + eps)

    return step
