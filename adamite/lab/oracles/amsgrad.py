"""AMSGrad (Reddi et al. 2018), and its forms in torch, Keras and optax."""

import math

from adamite.lab.oracles.stepper import Stepper, correction, moments


def amsgrad() -> Stepper:
    """Reddi et al. 2018, algorithm 2: maximum of the raw v, no bias correction; eps added."""
    m = v = v_max = 0.0

    def step(t: int, g: float, *, lr: float, beta1: float, beta2: float, eps: float) -> float:
        nonlocal m, v, v_max
        m, v = moments(m, v, g, beta1, beta2)
        v_max = max(v_max, v)
        return lr * m / (math.sqrt(v_max) + eps)

    return step


def amsgrad_corrected() -> Stepper:
    """AMSGrad of torch: maximum of the raw v, then corrected by this step's 1 - beta2**t."""
    m = v = v_max = 0.0

    def step(t: int, g: float, *, lr: float, beta1: float, beta2: float, eps: float) -> float:
        nonlocal m, v, v_max
        m, v = moments(m, v, g, beta1, beta2)
        v_max = max(v_max, v)
        m_hat = m / correction(beta1, t)
        return lr * m_hat / (math.sqrt(v_max / correction(beta2, t)) + eps)

    return step


def amsgrad_max_hat() -> Stepper:
    """AMSGrad of optax: maximum of the corrected v, or with its flags of the raw one."""
    m = v = largest = 0.0

    def step(
        t: int, g: float, *, lr: float, beta1: float, beta2: float, eps: float, eps_root: float | None,
        bias_correction_mu: bool, bias_correction_nu: bool,
    ) -> float:  # fmt: skip
        nonlocal m, v, largest
        m, v = moments(m, v, g, beta1, beta2)
        m_hat, v_hat = m, v
        if bias_correction_mu:
            m_hat = m / correction(beta1, t)
        if bias_correction_nu:
            v_hat = v / correction(beta2, t)
        largest = max(largest, v_hat)
        return lr * m_hat / (math.sqrt(largest + (eps_root or 0.0)) + eps)

    return step


def amsgrad_eps_hat() -> Stepper:
    """AMSGrad of Keras: maximum of the raw v, in the epsilon hat form."""
    m = v = v_max = 0.0

    def step(t: int, g: float, *, lr: float, beta1: float, beta2: float, eps: float) -> float:
        nonlocal m, v, v_max
        m, v = moments(m, v, g, beta1, beta2)
        v_max = max(v_max, v)
        lr_t = lr * math.sqrt(correction(beta2, t)) / correction(beta1, t)
        return lr_t * m / (math.sqrt(v_max) + eps)

    return step
