"""Adamax (Kingma & Ba 2015, algorithm 2)."""

from adamite.lab.oracles.stepper import Stepper, correction


def adamax() -> Stepper:
    """Kingma & Ba 2015, algorithm 2; eps added after the maximum (Keras)."""
    m = u = 0.0

    def step(t: int, g: float, *, lr: float, beta1: float, beta2: float, eps: float) -> float:
        nonlocal m, u
        m = beta1 * m + (1 - beta1) * g
        u = max(beta2 * u, abs(g))
        return lr / correction(beta1, t) * m / (u + eps)

    return step


def adamax_eps_in_max() -> Stepper:
    """Adamax of torch and optax: eps added to abs(g) inside the maximum."""
    m = u = 0.0

    def step(t: int, g: float, *, lr: float, beta1: float, beta2: float, eps: float) -> float:
        nonlocal m, u
        m = beta1 * m + (1 - beta1) * g
        u = max(beta2 * u, abs(g) + eps)
        return lr / correction(beta1, t) * m / u

    return step
