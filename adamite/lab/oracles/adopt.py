"""ADOPT (Taniguchi et al. 2024)."""

import math

from adamite.lab.oracles.stepper import Stepper


def adopt() -> Stepper:
    """Taniguchi et al. 2024, clipped form: the first step only sets v; the clip is (t-1)**0.25."""
    m = v = 0.0

    def step(t: int, g: float, *, lr: float, beta1: float, beta2: float, eps: float) -> float:
        nonlocal m, v
        if t == 1:
            v = g * g
            return 0.0
        limit = math.pow(t - 1, 0.25)
        normed = g / max(math.sqrt(v), eps)
        normed = min(max(normed, -limit), limit)
        m = beta1 * m + (1 - beta1) * normed
        v = beta2 * v + (1 - beta2) * g * g
        return lr * m

    return step


def adopt_nesterov() -> Stepper:
    """ADOPT of optax: its nesterov flag, and without its clipping the first step moves by lr * g / max(0, eps)."""
    m = v = 0.0

    def step(
        t: int, g: float, *, lr: float, beta1: float, beta2: float, eps: float, limit: float | None,
        nesterov: bool, use_clipping: bool,
    ) -> float:  # fmt: skip
        nonlocal m, v
        normed = g / max(math.sqrt(v), eps)
        if use_clipping:
            bound = math.pow(t - 1, 0.25) if limit is None else limit
            normed = min(max(normed, -bound), bound)
        keep = 1.0 if t == 1 else beta1
        m = keep * m + (1 - keep) * normed
        v = g * g if t == 1 else beta2 * v + (1 - beta2) * g * g
        return lr * (keep * m + (1 - keep) * normed) if nesterov else lr * m

    return step
