"""Yogi: Adam whose second moment changes by at most (1 - beta2) * g**2 a step, so that steps grow slowly."""

from adamite.language.maths import sign, sqrt
from adamite.language.rule import Unsigned, rule
from adamite.rules.adam import adam


@rule(variant_of=adam)
def yogi(g, m=1e-6, v: Unsigned = 1e-6, *, t, lr=1e-2, beta1=0.9, beta2=0.999, eps=1e-3):
    """Yogi (Zaheer et al. 2018, algorithm 2).

    With the bias correction and the start at 1e-6 of the authors' code. Adam forgets a large gradient exponentially;
    here v then falls by a constant amount, so the learning rate recovers slowly.

    lr in [0, inf): learning rate, about the largest step of any weight. Try 1e-3 to 1e-1.
    eps in (0, inf): keeps the division finite. The paper found 1e-3 best, far more than Adam's.
    """
    m = beta1 * m + (1 - beta1) * g  # first moment
    v = v - (1 - beta2) * sign(v - g**2) * g**2  # second moment
    m_hat = m / (1 - beta1**t)
    v_hat = v / (1 - beta2**t)
    return lr * m_hat / (sqrt(v_hat) + eps), m, v
