"""The independent oracle: every optimizer from its paper, over single Python floats.

Nothing here is shared with, or derived from, the library's own rules: only the module ``math``,
one coordinate at a time, plain ``if`` and float64. Each function makes a *stepper* for one
coordinate, called as ``step(t, x, g, *, lr, ...)`` with ``t`` = 1, 2, 3, ...; it returns the
displacement, which is what is subtracted from ``x``. In the comments and docstrings ``c1`` is
1 - beta1**t, ``c2`` is 1 - beta2**t, and a hat means "divided by its c". Python's own float rules
apply: with eps = 0 and a gradient that has always been zero, 0/0 raises ``ZeroDivisionError``.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

Stepper = Callable[..., float]
Value = float | bool | None
Hyperparameter = Value | Callable[[int], Value]


def _correction(beta: float, t: int) -> float:
    """1 - beta**t, without the cancellation that costs digits when beta is near 1."""
    return 1.0 if beta == 0.0 else -math.expm1(t * math.log(beta))


def _root_of_variance(v: float, mean: float, eps_inside: float) -> float:
    """The root of v - mean**2 (+ eps); the variance is clamped at 0 from below."""
    return math.sqrt(max(v - mean * mean, 0.0) + eps_inside)


# ------------------------------------------------------------------------ gradient descent


def sgd() -> Stepper:
    """Heavy ball, torch and optax: lr outside the velocity; no dampening on the first step."""
    b = 0.0

    def step(
        t: int,
        x: float,
        g: float,
        *,
        lr: float,
        momentum: float | None,
        dampening: float,
        nesterov: bool,
    ) -> float:
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

    def step(t: int, x: float, g: float, *, lr: float, momentum: float | None, nesterov: bool) -> float:
        nonlocal velocity
        if momentum is None:
            return lr * g
        velocity = momentum * velocity - lr * g
        if nesterov:
            return -(momentum * velocity - lr * g)
        return -velocity

    return step


# ------------------------------------------------------------------- root of a mean square


def rmsprop() -> Stepper:
    """Graves 2013, eq. 38-45, Keras and optax: eps inside the root, lr inside the velocity."""
    v = mean = velocity = 0.0

    def step(
        t: int,
        x: float,
        g: float,
        *,
        lr: float,
        rho: float,
        eps: float,
        momentum: float | None,
        centered: bool,
    ) -> float:
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


def rmsprop_trace() -> Stepper:
    """RMSprop of optax with all its flags; the trace holds the moves of x."""
    v: float | None = None
    mean = trace = 0.0

    def step(
        t: int,
        x: float,
        g: float,
        *,
        lr: float,
        rho: float,
        eps: float,
        v0: float,
        momentum: float | None,
        centered: bool,
        eps_in_sqrt: bool,
        nesterov: bool,
        bias_correction: bool,
    ) -> float:
        nonlocal v, mean, trace
        v = rho * (v0 if v is None else v) + (1 - rho) * g * g
        mean = rho * mean + (1 - rho) * g
        scale = _correction(rho, t) if bias_correction else 1.0
        variance = v / scale
        if centered:
            variance = max(variance - (mean / scale) * (mean / scale), 0.0)
        move = -lr * g / (math.sqrt(variance + eps) if eps_in_sqrt else math.sqrt(variance) + eps)
        if momentum is not None:
            trace = move + momentum * trace
            move = move + momentum * trace if nesterov else trace
        return -move

    return step


def rmsprop_eps_outside() -> Stepper:
    """RMSprop of torch: eps outside the root, lr outside the momentum buffer."""
    v = mean = b = 0.0

    def step(
        t: int,
        x: float,
        g: float,
        *,
        lr: float,
        rho: float,
        eps: float,
        momentum: float | None,
        centered: bool,
    ) -> float:
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


def adagrad() -> Stepper:
    """Duchi et al. 2011 as in torch: eps outside the root, lr falling as 1/(1 + (t-1)*decay)."""
    s = 0.0

    def step(t: int, x: float, g: float, *, lr: float, eps: float, s0: float, lr_decay: float) -> float:
        nonlocal s
        if t == 1:
            s = s0
        s = s + g * g
        return lr / (1 + (t - 1) * lr_decay) * g / (math.sqrt(s) + eps)

    return step


def adagrad_eps_inside() -> Stepper:
    """Duchi et al. 2011 as in Keras and optax: eps inside the root."""
    s = 0.0

    def step(t: int, x: float, g: float, *, lr: float, eps: float, s0: float) -> float:
        nonlocal s
        if t == 1:
            s = s0
        s = s + g * g
        return lr * g / math.sqrt(s + eps)

    return step


def adadelta() -> Stepper:
    """Zeiler 2012, algorithm 1; lr multiplies the step but not the accumulated one."""
    mean_g2 = mean_dx2 = 0.0

    def step(t: int, x: float, g: float, *, lr: float, rho: float, eps: float) -> float:
        nonlocal mean_g2, mean_dx2
        mean_g2 = rho * mean_g2 + (1 - rho) * g * g
        dx = math.sqrt(mean_dx2 + eps) / math.sqrt(mean_g2 + eps) * g
        mean_dx2 = rho * mean_dx2 + (1 - rho) * dx * dx
        return lr * dx

    return step


# -------------------------------------------------------------------------- Adam's family


def adam() -> Stepper:
    """Kingma & Ba 2015, algorithm 1."""
    m = v = 0.0

    def step(t: int, x: float, g: float, *, lr: float, beta1: float, beta2: float, eps: float) -> float:
        nonlocal m, v
        m = beta1 * m + (1 - beta1) * g
        v = beta2 * v + (1 - beta2) * g * g
        m_hat = m / _correction(beta1, t)
        v_hat = v / _correction(beta2, t)
        return lr * m_hat / (math.sqrt(v_hat) + eps)

    return step


def adam_eps_hat() -> Stepper:
    """Kingma & Ba 2015, end of section 2: the reordered form, eps is their epsilon hat (Keras)."""
    m = v = 0.0

    def step(t: int, x: float, g: float, *, lr: float, beta1: float, beta2: float, eps: float) -> float:
        nonlocal m, v
        m = beta1 * m + (1 - beta1) * g
        v = beta2 * v + (1 - beta2) * g * g
        lr_t = lr * math.sqrt(_correction(beta2, t)) / _correction(beta1, t)
        return lr_t * m / (math.sqrt(v) + eps)

    return step


def amsgrad() -> Stepper:
    """Reddi et al. 2018, algorithm 2: maximum of the raw v, no bias correction; eps added."""
    m = v = v_max = 0.0

    def step(t: int, x: float, g: float, *, lr: float, beta1: float, beta2: float, eps: float) -> float:
        nonlocal m, v, v_max
        m = beta1 * m + (1 - beta1) * g
        v = beta2 * v + (1 - beta2) * g * g
        v_max = max(v_max, v)
        return lr * m / (math.sqrt(v_max) + eps)

    return step


def amsgrad_corrected() -> Stepper:
    """AMSGrad of torch: maximum of the raw v, then corrected by the present c2."""
    m = v = v_max = 0.0

    def step(t: int, x: float, g: float, *, lr: float, beta1: float, beta2: float, eps: float) -> float:
        nonlocal m, v, v_max
        m = beta1 * m + (1 - beta1) * g
        v = beta2 * v + (1 - beta2) * g * g
        v_max = max(v_max, v)
        m_hat = m / _correction(beta1, t)
        return lr * m_hat / (math.sqrt(v_max / _correction(beta2, t)) + eps)

    return step


def amsgrad_max_hat() -> Stepper:
    """AMSGrad of optax: maximum of the corrected v, or with its flags of the raw one."""
    m = v = largest = 0.0

    def step(
        t: int,
        x: float,
        g: float,
        *,
        lr: float,
        beta1: float,
        beta2: float,
        eps: float,
        eps_root: float | None,
        bias_correction_mu: bool,
        bias_correction_nu: bool,
    ) -> float:
        nonlocal m, v, largest
        m = beta1 * m + (1 - beta1) * g
        v = beta2 * v + (1 - beta2) * g * g
        m_hat, v_hat = m, v
        if bias_correction_mu:
            m_hat = m / _correction(beta1, t)
        if bias_correction_nu:
            v_hat = v / _correction(beta2, t)
        largest = max(largest, v_hat)
        return lr * m_hat / (math.sqrt(largest + (eps_root or 0.0)) + eps)

    return step


def amsgrad_eps_hat() -> Stepper:
    """AMSGrad of Keras: maximum of the raw v, in the epsilon hat form."""
    m = v = v_max = 0.0

    def step(t: int, x: float, g: float, *, lr: float, beta1: float, beta2: float, eps: float) -> float:
        nonlocal m, v, v_max
        m = beta1 * m + (1 - beta1) * g
        v = beta2 * v + (1 - beta2) * g * g
        v_max = max(v_max, v)
        lr_t = lr * math.sqrt(_correction(beta2, t)) / _correction(beta1, t)
        return lr_t * m / (math.sqrt(v_max) + eps)

    return step


def adabelief() -> Stepper:
    """Zhuang et al. 2020, algorithm 2: the belief uses the new m; eps_root stays in the state."""
    m = s = 0.0

    def step(
        t: int,
        x: float,
        g: float,
        *,
        lr: float,
        beta1: float,
        beta2: float,
        eps: float,
        eps_root: float,
    ) -> float:
        nonlocal m, s
        m = beta1 * m + (1 - beta1) * g
        s = beta2 * s + (1 - beta2) * (g - m) * (g - m) + eps_root
        m_hat = m / _correction(beta1, t)
        s_hat = s / _correction(beta2, t)
        return lr * m_hat / (math.sqrt(s_hat) + eps)

    return step


def adabelief_nesterov() -> Stepper:
    """AdaBelief of optax with its nesterov flag: the moment one step ahead."""
    m = s = 0.0

    def step(
        t: int, x: float, g: float, *, lr: float, beta1: float, beta2: float, eps: float, eps_root: float
    ) -> float:
        nonlocal m, s
        m = beta1 * m + (1 - beta1) * g
        s = beta2 * s + (1 - beta2) * (g - m) * (g - m) + eps_root
        return lr * _ahead(m, g, beta1, t) / (math.sqrt(s / _correction(beta2, t)) + eps)

    return step


def adamax() -> Stepper:
    """Kingma & Ba 2015, algorithm 2; eps added after the maximum (Keras)."""
    m = u = 0.0

    def step(t: int, x: float, g: float, *, lr: float, beta1: float, beta2: float, eps: float) -> float:
        nonlocal m, u
        m = beta1 * m + (1 - beta1) * g
        u = max(beta2 * u, abs(g))
        return lr / _correction(beta1, t) * m / (u + eps)

    return step


def adamax_eps_in_max() -> Stepper:
    """Adamax of torch and optax: eps added to abs(g) inside the maximum."""
    m = u = 0.0

    def step(t: int, x: float, g: float, *, lr: float, beta1: float, beta2: float, eps: float) -> float:
        nonlocal m, u
        m = beta1 * m + (1 - beta1) * g
        u = max(beta2 * u, abs(g) + eps)
        return lr / _correction(beta1, t) * m / u

    return step


def nadam() -> Stepper:
    """Dozat 2016 with his momentum schedule, as in torch (Keras: momentum_decay = 1)."""
    m = v = 0.0
    mu_product = 1.0

    def step(
        t: int,
        x: float,
        g: float,
        *,
        lr: float,
        beta1: float,
        beta2: float,
        eps: float,
        momentum_decay: float,
    ) -> float:
        nonlocal m, v, mu_product
        mu = beta1 * (1 - 0.5 * math.pow(0.96, t * momentum_decay))
        mu_next = beta1 * (1 - 0.5 * math.pow(0.96, (t + 1) * momentum_decay))
        mu_product = mu_product * mu
        m = beta1 * m + (1 - beta1) * g
        v = beta2 * v + (1 - beta2) * g * g
        g_hat = g / (1 - mu_product)
        m_hat = m / (1 - mu_product * mu_next)
        v_hat = v / _correction(beta2, t)
        return lr * ((1 - mu) * g_hat + mu_next * m_hat) / (math.sqrt(v_hat) + eps)

    return step


def _ahead(m: float, g: float, beta1: float, t: int) -> float:
    """Dozat 2016 as in optax: the corrected moment of the next step, as far as it is known."""
    return beta1 * (m / _correction(beta1, t + 1)) + (1 - beta1) * (g / _correction(beta1, t))


def adam_eps_root() -> Stepper:
    """Adam of optax: eps_root under the root, and its nesterov flag."""
    m = v = 0.0

    def step(
        t: int,
        x: float,
        g: float,
        *,
        lr: float,
        beta1: float,
        beta2: float,
        eps: float,
        eps_root: float | None,
        nesterov: bool,
    ) -> float:
        nonlocal m, v
        m = beta1 * m + (1 - beta1) * g
        v = beta2 * v + (1 - beta2) * g * g
        m_hat = _ahead(m, g, beta1, t) if nesterov else m / _correction(beta1, t)
        return lr * m_hat / (math.sqrt(v / _correction(beta2, t) + (eps_root or 0.0)) + eps)

    return step


def nadam_unscheduled() -> Stepper:
    """Dozat 2016 with a constant momentum, as in optax."""
    m = v = 0.0

    def step(t: int, x: float, g: float, *, lr: float, beta1: float, beta2: float, eps: float) -> float:
        nonlocal m, v
        m = beta1 * m + (1 - beta1) * g
        v = beta2 * v + (1 - beta2) * g * g
        g_hat = g / _correction(beta1, t)
        m_hat = m / _correction(beta1, t + 1)
        v_hat = v / _correction(beta2, t)
        return lr * (beta1 * m_hat + (1 - beta1) * g_hat) / (math.sqrt(v_hat) + eps)

    return step


def _radam_rectification(beta2: float, t: int, threshold: float) -> float | None:
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

    def step(
        t: int,
        x: float,
        g: float,
        *,
        lr: float,
        beta1: float,
        beta2: float,
        eps: float,
        threshold: float,
    ) -> float:
        nonlocal m, v
        m = beta1 * m + (1 - beta1) * g
        v = beta2 * v + (1 - beta2) * g * g
        m_hat = m / _correction(beta1, t)
        r = _radam_rectification(beta2, t, threshold)
        if r is None:
            return lr * m_hat
        v_hat = v / _correction(beta2, t)
        return lr * r * m_hat / (math.sqrt(v_hat) + eps)

    return step


def radam_eps_hat() -> Stepper:
    """RAdam of torch (threshold 5): eps added to the root of the raw v."""
    m = v = 0.0

    def step(
        t: int,
        x: float,
        g: float,
        *,
        lr: float,
        beta1: float,
        beta2: float,
        eps: float,
        threshold: float,
    ) -> float:
        nonlocal m, v
        m = beta1 * m + (1 - beta1) * g
        v = beta2 * v + (1 - beta2) * g * g
        m_hat = m / _correction(beta1, t)
        r = _radam_rectification(beta2, t, threshold)
        if r is None:
            return lr * m_hat
        return lr * r * m_hat * math.sqrt(_correction(beta2, t)) / (math.sqrt(v) + eps)

    return step


def radam_eps_root() -> Stepper:
    """RAdam of optax: eps_root under the root, and its nesterov flag."""
    m = v = 0.0

    def step(
        t: int,
        x: float,
        g: float,
        *,
        lr: float,
        beta1: float,
        beta2: float,
        eps: float,
        threshold: float,
        eps_root: float | None,
        nesterov: bool,
    ) -> float:
        nonlocal m, v
        m = beta1 * m + (1 - beta1) * g
        v = beta2 * v + (1 - beta2) * g * g
        m_hat = _ahead(m, g, beta1, t) if nesterov else m / _correction(beta1, t)
        r = _radam_rectification(beta2, t, threshold)
        if r is None:
            return lr * m_hat
        return lr * r * m_hat / (math.sqrt(v / _correction(beta2, t) + (eps_root or 0.0)) + eps)

    return step


def lion() -> Stepper:
    """Chen et al. 2023, algorithm 2: the sign of the interpolation; sign of 0 is 0."""
    m = 0.0

    def step(t: int, x: float, g: float, *, lr: float, beta1: float, beta2: float) -> float:
        nonlocal m
        c = beta1 * m + (1 - beta1) * g
        m = beta2 * m + (1 - beta2) * g
        if c == 0.0:
            return 0.0
        return lr * math.copysign(1.0, c)

    return step


def adopt() -> Stepper:
    """Taniguchi et al. 2024, clipped form: the first step only sets v; the clip is (t-1)**0.25."""
    m = v = 0.0

    def step(t: int, x: float, g: float, *, lr: float, beta1: float, beta2: float, eps: float) -> float:
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
        t: int,
        x: float,
        g: float,
        *,
        lr: float,
        beta1: float,
        beta2: float,
        eps: float,
        limit: float | None,
        nesterov: bool,
        use_clipping: bool,
    ) -> float:
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


def yogi() -> Stepper:
    """Zaheer et al. 2018, algorithm 2, with the bias correction and the start at 1e-6 of the authors' code."""
    m = v = 1e-6

    def step(t: int, x: float, g: float, *, lr: float, beta1: float, beta2: float, eps: float) -> float:
        nonlocal m, v
        m = beta1 * m + (1 - beta1) * g
        square = g * g
        if v > square:
            v = v - (1 - beta2) * square
        elif v < square:
            v = v + (1 - beta2) * square
        return lr * (m / _correction(beta1, t)) / (math.sqrt(v / _correction(beta2, t)) + eps)

    return step


ORACLES: dict[str, Callable[[], Stepper]] = {
    "yogi": yogi,
    "sgd": sgd,
    "sgd_lr_inside": sgd_lr_inside,
    "rmsprop": rmsprop,
    "rmsprop_eps_outside": rmsprop_eps_outside,
    "rmsprop_trace": rmsprop_trace,
    "adagrad": adagrad,
    "adagrad_eps_inside": adagrad_eps_inside,
    "adadelta": adadelta,
    "adam": adam,
    "adam_eps_hat": adam_eps_hat,
    "adam_eps_root": adam_eps_root,
    "amsgrad": amsgrad,
    "amsgrad_corrected": amsgrad_corrected,
    "amsgrad_max_hat": amsgrad_max_hat,
    "amsgrad_eps_hat": amsgrad_eps_hat,
    "adabelief": adabelief,
    "adabelief_nesterov": adabelief_nesterov,
    "adamax": adamax,
    "adamax_eps_in_max": adamax_eps_in_max,
    "nadam": nadam,
    "nadam_unscheduled": nadam_unscheduled,
    "radam": radam,
    "radam_eps_hat": radam_eps_hat,
    "radam_eps_root": radam_eps_root,
    "lion": lion,
    "adopt": adopt,
    "adopt_nesterov": adopt_nesterov,
}


# ------------------------------------------------------------------------- many coordinates


class Run(NamedTuple):
    """What `run` returns."""

    parameters: list[list[float]]
    """The coordinates after each step."""
    ema: list[float] | None
    """The moving average of the coordinates after the last step; None where not asked for."""


def run(
    name: str,
    start: Sequence[float],
    gradients: Sequence[Sequence[float]],
    hyperparameters: Mapping[str, Hyperparameter],
    *,
    l2: float = 0.0,
    weight_decay: float = 0.0,
    clip_norm: float | None = None,
    maximize: bool = False,
    ema_decay: float | None = None,
) -> Run:
    """Run the oracle ``name`` from ``start`` over ``gradients``, one list of numbers per step.

    A hyperparameter is a value, or a function of the number of steps already done. In each step:
    clip by the global norm; negate if maximize; add l2*x; the rule; then subtract its displacement
    and lr*weight_decay*x, both from the old x; then move the average.
    """
    steppers = [ORACLES[name]() for _ in start]
    x = [float(value) for value in start]
    ema = list(x)
    parameters: list[list[float]] = []
    for t, gradient in enumerate(gradients, start=1):
        values = {key: value(t - 1) if callable(value) else value for key, value in hyperparameters.items()}
        lr = values["lr"]
        if lr is None:
            raise TypeError("lr must be a number")
        factor = 1.0
        if clip_norm is not None:
            norm = math.hypot(*gradient)
            if norm > clip_norm:
                factor = clip_norm / norm
        new_x: list[float] = []
        for step, x_i, g_i in zip(steppers, x, gradient, strict=True):
            g = factor * g_i
            if maximize:
                g = -g
            g = g + l2 * x_i
            displacement = step(t, x_i, g, **values)
            new_x.append(x_i - (displacement + lr * weight_decay * x_i))
        x = new_x
        parameters.append(x)
        if ema_decay is not None:
            ema = [ema_decay * e + (1 - ema_decay) * x_i for e, x_i in zip(ema, x, strict=True)]
    return Run(parameters, ema if ema_decay is not None else None)
