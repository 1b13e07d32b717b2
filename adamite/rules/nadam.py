"""NAdam: Adam with Nesterov's momentum."""

from adamite.language.maths import sqrt
from adamite.language.rule import Scalar, rule
from adamite.rules.adam import adam, corrected


@rule(variant_of=adam)
def nadam(g, m, v, mu_product: Scalar = 1.0, *, t, lr=2e-3, beta1=0.9, beta2=0.999, eps=1e-8, momentum_decay=0.004):
    """NAdam (Dozat 2016, algorithm 2).

    Nesterov's momentum with a warm-up: mu grows from half of beta1 to beta1.

    momentum_decay in [0, inf): speed of the warm-up, beta1 * (1 - 0.96**(t * momentum_decay) / 2). 0.004 is the
        paper's (1/250); Keras's is 1.
    """
    mu = beta1 * (1 - 0.5 * 0.96 ** (t * momentum_decay))
    mu_next = beta1 * (1 - 0.5 * 0.96 ** ((t + 1) * momentum_decay))
    mu_product = mu_product * mu
    m = beta1 * m + (1 - beta1) * g  # first moment
    v = beta2 * v + (1 - beta2) * g**2  # second moment
    m_hat = mu_next * m / (1 - mu_product * mu_next) + (1 - mu) * g / (1 - mu_product)
    v_hat = v / (1 - beta2**t)
    return lr * m_hat / (sqrt(v_hat) + eps), m, v, mu_product


@rule(variant_of=adam)
def nadam_unscheduled(g, m, v, *, t, lr=1e-3, beta1=0.9, beta2=0.999, eps=1e-8):
    """NAdam as optax writes it: a constant momentum. Its first step is 1.47 times lr."""
    m = beta1 * m + (1 - beta1) * g  # first moment
    v = beta2 * v + (1 - beta2) * g**2  # second moment
    m_hat = corrected(m, g, t=t, beta1=beta1, nesterov=True)
    v_hat = v / (1 - beta2**t)
    return lr * m_hat / (sqrt(v_hat) + eps), m, v
