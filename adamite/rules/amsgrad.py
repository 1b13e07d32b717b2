"""AMSGrad: Adam with a second moment that never shrinks."""

from adamite.language.maths import maximum, sqrt
from adamite.language.rule import rule
from adamite.rules.adam import adam


@rule(variant_of=adam)
def amsgrad(g, m, v, v_max, *, t, lr=1e-3, beta1=0.9, beta2=0.999, eps=1e-8):
    """AMSGrad (Reddi, Kale & Kumar 2018, algorithm 2).

    The maximum is of the raw second moment, and nothing is corrected for the start at zero: the first step is about
    three times lr. eps, which the paper leaves out, keeps the division finite.
    """
    m = beta1 * m + (1 - beta1) * g  # first moment
    v = beta2 * v + (1 - beta2) * g**2  # second moment
    v_max = maximum(v_max, v)
    return lr * m / (sqrt(v_max) + eps), m, v, v_max


@rule(variant_of=adam)
def amsgrad_corrected(g, m, v, v_max, *, t, lr=1e-3, beta1=0.9, beta2=0.999, eps=1e-8):
    """AMSGrad as torch writes it: the raw maximum, then bias correction."""
    m = beta1 * m + (1 - beta1) * g  # first moment
    v = beta2 * v + (1 - beta2) * g**2  # second moment
    v_max = maximum(v_max, v)
    m_hat = m / (1 - beta1**t)
    v_hat = v_max / (1 - beta2**t)
    return lr * m_hat / (sqrt(v_hat) + eps), m, v, v_max


@rule(variant_of=adam)
def amsgrad_max_hat(
    g, m, v, v_max, *, t, lr=1e-3, beta1=0.9, beta2=0.999, eps=1e-8,
    eps_root: float | None = None, bias_correction_mu: bool = True, bias_correction_nu: bool = True,
):  # fmt: skip
    """AMSGrad as optax writes it: the maximum of the corrected moment.

    The early, strongly corrected moments stay in the maximum: after one large gradient the steps are several
    times smaller than torch's.

    eps_root in [0, inf): added to the maximum inside the root; None for none.
    bias_correction_mu: correct the first moment for its start at zero.
    bias_correction_nu: correct the second one before the maximum.
    """
    m = beta1 * m + (1 - beta1) * g  # first moment
    v = beta2 * v + (1 - beta2) * g**2  # second moment
    m_hat = m / (1 - beta1**t) if bias_correction_mu else m
    v_hat = v / (1 - beta2**t) if bias_correction_nu else v
    v_max = maximum(v_max, v_hat)
    largest = v_max if eps_root is None else v_max + eps_root
    return lr * m_hat / (sqrt(largest) + eps), m, v, v_max


@rule(variant_of=adam)
def amsgrad_eps_hat(g, m, v, v_max, *, t, lr=1e-3, beta1=0.9, beta2=0.999, eps=1e-7):
    """AMSGrad as Keras writes it: the raw maximum in the order of `adam_eps_hat`."""
    m = beta1 * m + (1 - beta1) * g  # first moment
    v = beta2 * v + (1 - beta2) * g**2  # second moment
    v_max = maximum(v_max, v)
    lr_t = lr * sqrt(1 - beta2**t) / (1 - beta1**t)
    return lr_t * m / (sqrt(v_max) + eps), m, v, v_max
