"""RMSprop (Graves 2013), and its forms in torch and optax."""

import math

from adamite.lab.oracles.stepper import Stepper, correction


def _root_of_variance(v: float, mean: float, eps_inside: float) -> float:
    """The root of v - mean**2 (+ eps); the variance is clamped at 0 from below."""
    return math.sqrt(max(v - mean * mean, 0.0) + eps_inside)


def rmsprop() -> Stepper:
    """Graves 2013, eq. 38-45, Keras and optax: eps inside the root, lr inside the velocity."""
    v = mean = velocity = 0.0

    def step(t: int, g: float, *, lr: float, rho: float, eps: float, momentum: float | None, centered: bool) -> float:
        nonlocal v, mean, velocity
        v = rho * v + (1 - rho) * g * g
        if centered:
            mean = rho * mean + (1 - rho) * g
        scaled = lr * g / _root_of_variance(v, mean, eps)
        if momentum is None:
            return scaled
        velocity = momentum * velocity + scaled
        return velocity

    return step


def rmsprop_eps_outside() -> Stepper:
    """RMSprop of torch: eps outside the root, lr outside the momentum buffer."""
    v = mean = b = 0.0

    def step(t: int, g: float, *, lr: float, rho: float, eps: float, momentum: float | None, centered: bool) -> float:
        nonlocal v, mean, b
        v = rho * v + (1 - rho) * g * g
        if centered:
            mean = rho * mean + (1 - rho) * g
        scaled = g / (_root_of_variance(v, mean, 0.0) + eps)
        if momentum is None:
            return lr * scaled
        b = momentum * b + scaled
        return lr * b

    return step


def rmsprop_trace() -> Stepper:
    """RMSprop of optax with all its flags; the trace holds the moves of x."""
    v: float | None = None
    mean = trace = 0.0

    def step(
        t: int, g: float, *, lr: float, rho: float, eps: float, v0: float, momentum: float | None,
        centered: bool, eps_in_sqrt: bool, nesterov: bool, bias_correction: bool,
    ) -> float:  # fmt: skip
        nonlocal v, mean, trace
        v = rho * (v0 if v is None else v) + (1 - rho) * g * g
        mean = rho * mean + (1 - rho) * g
        scale = correction(rho, t) if bias_correction else 1.0
        variance = v / scale
        if centered:
            variance = max(variance - (mean / scale) * (mean / scale), 0.0)
        move = -lr * g / (math.sqrt(variance + eps) if eps_in_sqrt else math.sqrt(variance) + eps)
        if momentum is not None:
            trace = move + momentum * trace
            move = move + momentum * trace if nesterov else trace
        return -move

    return step
