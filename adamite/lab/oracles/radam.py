"""RAdam (Liu et al. 2020), and its forms in torch and optax."""

import math

from adamite.lab.oracles.stepper import Stepper, correction, moment_ahead, moments


def _rectification(beta2: float, t: int, threshold: float) -> float | None:
    """Liu et al. 2020, r_t; None where the variance is intractable (rho_t <= threshold).

    The closed form as the paper and torch have it. It subtracts numbers near rho_inf: in float64 r_t is
    then off by up to 4e-12 at the first rectified steps (beta2 = 0.999), in every library alike.
    """
    rho_inf = 2 / (1 - beta2) - 1
    rho = rho_inf - 2 * t * beta2**t / (1 - beta2**t)
    if rho <= threshold:
        return None
    above = (rho - 4) * (rho - 2) * rho_inf
    return math.sqrt(above / ((rho_inf - 4) * (rho_inf - 2) * rho))


def radam() -> Stepper:
    """Liu et al. 2020, algorithm 2 (threshold 4; optax 5); eps added as in Adam, algorithm 1."""
    m = v = 0.0

    def step(t: int, g: float, *, lr: float, beta1: float, beta2: float, eps: float, threshold: float) -> float:
        nonlocal m, v
        m, v = moments(m, v, g, beta1, beta2)
        m_hat = m / correction(beta1, t)
        r = _rectification(beta2, t, threshold)
        if r is None:
            return lr * m_hat
        v_hat = v / correction(beta2, t)
        return lr * r * m_hat / (math.sqrt(v_hat) + eps)

    return step


def radam_eps_hat() -> Stepper:
    """RAdam of torch (threshold 5): eps added to the root of the raw v."""
    m = v = 0.0

    def step(t: int, g: float, *, lr: float, beta1: float, beta2: float, eps: float, threshold: float) -> float:
        nonlocal m, v
        m, v = moments(m, v, g, beta1, beta2)
        m_hat = m / correction(beta1, t)
        r = _rectification(beta2, t, threshold)
        if r is None:
            return lr * m_hat
        return lr * r * m_hat * math.sqrt(correction(beta2, t)) / (math.sqrt(v) + eps)

    return step


def radam_eps_root() -> Stepper:
    """RAdam of optax: eps_root under the root, and its nesterov flag."""
    m = v = 0.0

    def step(
        t: int, g: float, *, lr: float, beta1: float, beta2: float, eps: float, threshold: float,
        eps_root: float | None, nesterov: bool,
    ) -> float:  # fmt: skip
        nonlocal m, v
        m, v = moments(m, v, g, beta1, beta2)
        m_hat = moment_ahead(m, g, beta1, t) if nesterov else m / correction(beta1, t)
        r = _rectification(beta2, t, threshold)
        if r is None:
            return lr * m_hat
        return lr * r * m_hat / (math.sqrt(v / correction(beta2, t) + (eps_root or 0.0)) + eps)

    return step
