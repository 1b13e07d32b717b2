"""Adam: momentum divided by the root of the mean square, both corrected for their start at zero."""

from adamite.language.maths import sqrt
from adamite.language.rule import rule


@rule
def adam(g, m, v, *, t, lr=1e-3, beta1=0.9, beta2=0.999, eps=1e-8):
    """Adam (Kingma & Ba 2015, algorithm 1).

    lr in [0, inf): learning rate, about the largest step of any weight. The one to tune first: 1e-4 to 1e-2,
        lower if the loss oscillates, higher for small problems.
    beta1 in [0, 1): decay of the first moment, the momentum. 0.95 smooths noisy gradients, 0.8 turns faster.
    beta2 in [0, 1): decay of the second moment. 0.95 to 0.99 where gradients change in scale (transformers).
    eps in (0, inf): keeps the division finite. Gradients below it take small steps, so it must be far smaller
        than they are; raise it (1e-4 to 1) to damp the adaptation.
    """
    m = beta1 * m + (1 - beta1) * g  # first moment
    v = beta2 * v + (1 - beta2) * g**2  # second moment
    m_hat = m / (1 - beta1**t)
    v_hat = v / (1 - beta2**t)
    return lr * m_hat / (sqrt(v_hat) + eps), m, v


@rule(variant_of=adam)
def adam_eps_hat(g, m, v, *, t, lr=1e-3, beta1=0.9, beta2=0.999, eps=1e-7):
    """Adam in the order of the paper's section 2, where eps is its epsilon-hat.

    At the first steps this eps acts as one up to 32 times larger in `adam`.
    """
    m = beta1 * m + (1 - beta1) * g  # first moment
    v = beta2 * v + (1 - beta2) * g**2  # second moment
    lr_t = lr * sqrt(1 - beta2**t) / (1 - beta1**t)
    return lr_t * m / (sqrt(v) + eps), m, v


def corrected(m, g, *, t, beta1, nesterov):
    """The first moment without its bias; with `nesterov` a step ahead (Dozat 2016), as optax has it."""
    if nesterov:
        return beta1 * m / (1 - beta1 ** (t + 1)) + (1 - beta1) * g / (1 - beta1**t)
    return m / (1 - beta1**t)


@rule(variant_of=adam)
def adam_eps_root(
    g, m, v, *, t, lr=1e-3, beta1=0.9, beta2=0.999, eps=1e-8, eps_root: float | None = None, nesterov: bool = False
):
    """Adam as optax writes it, with a second epsilon inside the root.

    eps_root in [0, inf): added to v_hat, so that derivatives of the step at zero are finite; None for none.
    nesterov: look ahead along the momentum, as NAdam does.
    """
    m = beta1 * m + (1 - beta1) * g  # first moment
    v = beta2 * v + (1 - beta2) * g**2  # second moment
    m_hat = corrected(m, g, t=t, beta1=beta1, nesterov=nesterov)
    v_hat = v / (1 - beta2**t)
    if eps_root is not None:
        v_hat = v_hat + eps_root
    return lr * m_hat / (sqrt(v_hat) + eps), m, v
