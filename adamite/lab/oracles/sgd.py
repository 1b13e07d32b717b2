"""Gradient descent, with momentum and without."""

from adamite.lab.oracles.stepper import Stepper


def sgd() -> Stepper:
    """Heavy ball, torch and optax: lr outside the velocity; no dampening on the first step."""
    b = 0.0

    def step(t: int, g: float, *, lr: float, momentum: float | None, dampening: float, nesterov: bool) -> float:
        nonlocal b
        if momentum is None:
            return lr * g
        b = g if t == 1 else momentum * b + (1 - dampening) * g
        if nesterov:
            return lr * (g + momentum * b)
        return lr * b

    return step


def sgd_lr_inside() -> Stepper:
    """Sutskever et al. 2013 as in Keras: the velocity holds -lr, and x moves by it."""
    velocity = 0.0

    def step(t: int, g: float, *, lr: float, momentum: float | None, nesterov: bool) -> float:
        nonlocal velocity
        if momentum is None:
            return lr * g
        velocity = momentum * velocity - lr * g
        if nesterov:
            return -(momentum * velocity - lr * g)
        return -velocity

    return step
