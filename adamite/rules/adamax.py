"""Adamax: Adam with the maximum norm in place of the root mean square."""

from adamite.language.maths import abs, maximum
from adamite.language.rule import rule
from adamite.rules.adam import adam


@rule(variant_of=adam)
def adamax(g, m, u, *, t, lr=2e-3, beta1=0.9, beta2=0.999, eps=1e-8):
    """Adamax (Kingma & Ba 2015, algorithm 2).

    eps, which the paper leaves out, is added to the norm, as in Keras.
    """
    m = beta1 * m + (1 - beta1) * g  # first moment
    u = maximum(beta2 * u, abs(g))  # decaying maximum
    m_hat = m / (1 - beta1**t)
    return lr * m_hat / (u + eps), m, u


@rule(variant_of=adam)
def adamax_eps_in_max(g, m, u, *, t, lr=2e-3, beta1=0.9, beta2=0.999, eps=1e-8):
    """Adamax as torch and optax write it: eps inside the maximum."""
    m = beta1 * m + (1 - beta1) * g  # first moment
    u = maximum(beta2 * u, abs(g) + eps)  # decaying maximum
    m_hat = m / (1 - beta1**t)
    return lr * m_hat / u, m, u
