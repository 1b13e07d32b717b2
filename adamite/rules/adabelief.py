"""AdaBelief: Adam whose steps grow where the gradients are as the momentum foretold."""

from adamite.language.maths import sqrt
from adamite.language.rule import rule
from adamite.rules.adam import adam, corrected


@rule(variant_of=adam)
def adabelief(g, m, s, *, t, lr=1e-3, beta1=0.9, beta2=0.999, eps=1e-8, eps_root=1e-8):
    """AdaBelief (Zhuang et al. 2020, algorithm 2).

    eps in (0, inf): keeps the division finite. The paper has one epsilon for this and `eps_root`.
    eps_root in [0, inf): added to s at every step and kept in it. 1e-8 is the paper's; 1e-16, the authors' code,
        is adaptive for small gradients too.
    """
    m = beta1 * m + (1 - beta1) * g  # first moment
    s = beta2 * s + (1 - beta2) * (g - m) ** 2 + eps_root  # variance about the momentum
    m_hat = m / (1 - beta1**t)
    s_hat = s / (1 - beta2**t)
    return lr * m_hat / (sqrt(s_hat) + eps), m, s


@rule(variant_of=adabelief)
def adabelief_nesterov(g, m, s, *, t, lr=1e-3, beta1=0.9, beta2=0.999, eps=1e-16, eps_root=1e-16):
    """AdaBelief with Nesterov's momentum, as optax has it."""
    m = beta1 * m + (1 - beta1) * g  # first moment
    s = beta2 * s + (1 - beta2) * (g - m) ** 2 + eps_root  # variance about the momentum
    m_hat = corrected(m, g, t=t, beta1=beta1, nesterov=True)
    s_hat = s / (1 - beta2**t)
    return lr * m_hat / (sqrt(s_hat) + eps), m, s
