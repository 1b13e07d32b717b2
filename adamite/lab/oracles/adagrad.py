"""Adagrad (Duchi et al. 2011)."""

import math

from adamite.lab.oracles.stepper import Stepper


def adagrad() -> Stepper:
    """Duchi et al. 2011 as in torch: eps outside the root, lr falling as 1/(1 + (t-1)*decay)."""
    s = 0.0

    def step(t: int, g: float, *, lr: float, eps: float, s0: float, lr_decay: float) -> float:
        nonlocal s
        if t == 1:
            s = s0
        s = s + g * g
        return lr / (1 + (t - 1) * lr_decay) * g / (math.sqrt(s) + eps)

    return step


def adagrad_eps_inside() -> Stepper:
    """Duchi et al. 2011 as in Keras and optax: eps inside the root."""
    s = 0.0

    def step(t: int, g: float, *, lr: float, eps: float, s0: float) -> float:
        nonlocal s
        if t == 1:
            s = s0
        s = s + g * g
        return lr * g / math.sqrt(s + eps)

    return step
